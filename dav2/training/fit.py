"""Trains a model from samples to weights, resuming where an interrupted training stopped.

Axes: H height, W width (pixels), 3 colours.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from torch import nn

from dav2.models.depth_anything import DepthAnything
from dav2.training.augment import AugmentConfig
from dav2.training.faults import told_in_one_line
from dav2.training.module import DepthTraining, LossConfig
from dav2.training.pictures import draw_validation
from dav2.training.recording import Listener
from dav2.training.run import RunConfig, prepare_process, run
from dav2.training.samples import Samples
from dav2.training.validation import ValidationConfig, freeze
from dav2.training.validator import Validator, Viewer


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig(RunConfig):
    """All of a training but the model and the samples."""

    losses: LossConfig
    validation: ValidationConfig


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a training leaves."""

    model: DepthAnything
    """On the CPU, in evaluation mode."""
    curves: list[dict[str, float]]
    """A row every so many steps: step, loss, terms of the loss, rates."""
    validation: dict[str, float]
    """Measures of `model`, with the step of its weights."""
    history: list[dict[str, float]]
    """Measures of every validation."""
    picture: UInt8[np.ndarray, "H W 3"]
    """Some validation samples: image, target, prediction."""


def fit(
    model: DepthAnything,
    samples: Samples,
    held_out: Samples,
    *,
    config: FitConfig,
    work: Path,
    listener: Listener | None = None,
    viewer: Viewer | None = None,
    frozen_encoder: nn.Module | None = None,
) -> Fitted:
    """Trains `model` and returns its averaged (or best) weights.

    Two calls with equal arguments give equal weights on a CPU, also when the first was killed and
    the second went on in the same `work`. On several devices, every rank calls this with equal
    arguments (`launcher: local` starts the other ranks from this process's own command line) and
    gets the same result; only the first writes and tells.

    Args:
        model: With its initial weights; changed.
        samples: What it learns from.
        held_out: What it is validated on, never trained on.
        config: Everything else.
        work: Folder of this training alone, for its progress, on a disk that all machines share.
            A finished training found there is returned without training.
        listener: Told curves and measures as they come.
        viewer: Shown some validation samples at every validation, drawn as `Fitted.picture`.
        frozen_encoder: For feature alignment.

    Raises:
        ValueError: If this machine has no such device, ranks were not started as configured or
            cannot share a batch, a sample cannot be read, the progress found is damaged, or numbers
            are no longer finite; the last good progress is kept.
        ConnectionError: If the device or another rank is lost; likewise.
        ChildProcessError: If a process that decodes samples was killed; likewise.
        OSError: If a file is missing or the disk is full; likewise.
    """
    process = prepare_process(config)
    listener = listener if process.is_first else None
    module = DepthTraining(
        model,
        config,
        losses=config.losses,
        max_sigma_px=_max_sigma_px(config.augment),
        cutmix=config.augment.cutmix_probability > 0,
        frozen_encoder=frozen_encoder,
    )
    viewer = viewer if process.is_first else None
    with told_in_one_line(where=config.name, num_ranks=config.parallel.num_ranks):
        frozen = freeze(held_out, config.validation)
        validator = Validator(frozen, config.validation, listener=listener, viewer=viewer)
        curves = run(
            module,
            samples,
            config=config,
            process=process,
            work=work,
            listener=listener,
            validator=validator,
        )
        kept, measures = validator.final(module)
        kept = kept.cpu().eval()
        picture = draw_validation(kept, frozen, config.validation)
    return Fitted(kept, curves, measures, validator.history, picture)


def _max_sigma_px(augment: AugmentConfig) -> float:
    return augment.blur_sigma_px[1] if augment.blur_probability > 0 else 0.0
