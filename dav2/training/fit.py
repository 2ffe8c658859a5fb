"""Trains a model from samples to weights, resuming where an interrupted training stopped.

Axes: H height, W width (pixels), 3 colours.
"""

import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import LambdaCallback
from torch import nn

from dav2.models.depth_anything import DepthAnything
from dav2.models.device import chosen_device
from dav2.training.augment import AugmentConfig
from dav2.training.data import TrainingData
from dav2.training.memory import keep_freed_memory
from dav2.training.module import DepthTraining, LossConfig, OptimiserConfig
from dav2.training.pictures import draw_validation
from dav2.training.progress import ProgressLine
from dav2.training.recording import Listener, Recorder
from dav2.training.resume import Checkpointer
from dav2.training.samples import Samples
from dav2.training.validation import ValidationConfig, Validator, freeze

Precision = Literal["float32", "bfloat16"]

Device = Literal["auto", "cpu", "cuda"]
"""`auto`: a CUDA device where there is one."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FitConfig:
    """All of a training but the model and the samples."""

    name: str
    """Shown while it trains."""
    seed: int
    losses: LossConfig
    optimiser: OptimiserConfig
    augment: AugmentConfig
    validation: ValidationConfig
    batch_size: int
    """Samples of one forward pass of one process."""
    accumulate: int
    """Forward passes of one step."""
    precision: Precision
    """Of activations; weights, losses and the last layer stay in float32."""
    device: Device
    num_threads: int
    """Of the CPU; another number gives other rounding, hence other weights."""
    num_workers: int
    memory_limit_bytes: int
    log_every_steps: int
    checkpoint_every_steps: int


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
    frozen_encoder: nn.Module | None = None,
) -> Fitted:
    """Trains `model` and returns its averaged (or best) weights.

    Two calls with equal arguments give equal weights on a CPU, also when the first was killed and
    the second went on in the same `work`.

    Args:
        model: With its initial weights; changed.
        samples: What it learns from.
        held_out: What it is validated on, never trained on.
        config: Everything else.
        work: Folder of this training alone, for its progress. A finished training found there is
            returned without training.
        listener: Told curves and measures as they come.
        frozen_encoder: For feature alignment.

    Raises:
        ValueError: If this machine has no such device, a sample cannot be read, the progress found
            is damaged, or numbers are no longer finite; the last good progress is kept.
    """
    # Not Lightning's own `auto`, which would also take Apple's.
    accelerator = chosen_device(config.device, where=f"{config.name}: device")
    torch.set_num_threads(config.num_threads)
    keep_freed_memory()
    module = _module(model, config, frozen_encoder)
    recorder = Recorder(every_steps=config.log_every_steps, listener=listener)
    frozen = freeze(held_out, config.validation)
    validator = Validator(frozen, config.validation, listener=listener)
    states = {"recorder": recorder, "validator": validator}
    checkpointer = Checkpointer(work, states, every_steps=config.checkpoint_every_steps)
    checkpointer.restore(module)
    if checkpointer.first_step:
        logger.info("%s: goes on after step %d", config.name, checkpointer.first_step)
    if checkpointer.first_step < config.optimiser.num_steps:
        data = _data(samples, config, checkpointer.first_step)
        line = ProgressLine(
            config.name,
            num_steps=config.optimiser.num_steps,
            batch_size=config.batch_size * config.accumulate,
            recorder=recorder,
            validator=validator,
        )
        _run(module, data, config, [recorder, validator, checkpointer, line], accelerator, work)
    kept, measures = validator.final(module)
    kept = kept.cpu().eval()
    picture = draw_validation(kept, frozen, config.validation)
    return Fitted(kept, recorder.rows, measures, validator.history, picture)


def _module(
    model: DepthAnything, config: FitConfig, frozen_encoder: nn.Module | None
) -> DepthTraining:
    return DepthTraining(
        model,
        losses=config.losses,
        optimiser=config.optimiser,
        seed=config.seed,
        max_sigma_px=_max_sigma_px(config.augment),
        frozen_encoder=frozen_encoder,
    )


def _run(
    module: DepthTraining,
    data: TrainingData,
    config: FitConfig,
    callbacks: list[Callback],
    accelerator: str,
    work: Path,
) -> None:
    with _quiet():
        seed_everything(config.seed, verbose=False)
        trainer = Trainer(
            max_steps=config.optimiser.num_steps - module.num_steps_done,
            max_epochs=-1,
            accelerator=accelerator,
            devices=1,
            precision="bf16-mixed" if config.precision == "bfloat16" else "32-true",
            accumulate_grad_batches=config.accumulate,
            callbacks=[_sigterm_as_before(), *callbacks],
            # What Lightning would do beside training, this project does itself and resumes exactly.
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            limit_val_batches=0,
            default_root_dir=work,
        )
        trainer.fit(module, datamodule=data)


def _sigterm_as_before() -> Callback:
    """Gives SIGTERM back its meaning, which is to end at once as SIGKILL does.

    Lightning's handler finishes the batch and ends the process with exit status 0, as if it had
    done its work. It offers no option, but replaces the handler before `on_train_start`.
    """
    before = signal.getsignal(signal.SIGTERM)
    return LambdaCallback(on_train_start=lambda *_: signal.signal(signal.SIGTERM, before))


def _data(samples: Samples, config: FitConfig, first_step: int) -> TrainingData:
    return TrainingData(
        samples,
        config.augment,
        seed=config.seed,
        batch_size=config.batch_size,
        num_batches=config.optimiser.num_steps * config.accumulate,
        first_batch=first_step * config.accumulate,
        num_workers=config.num_workers,
        memory_limit_bytes=config.memory_limit_bytes,
    )


def _max_sigma_px(augment: AugmentConfig) -> float:
    return augment.blur_sigma_px[1] if augment.blur_probability > 0 else 0.0


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences what Lightning says about choices that are made on purpose here."""
    # Lightning exists twice, and whichever copy was imported last logs for both.
    for package in (
        "lightning.pytorch",
        "lightning.fabric",
        "pytorch_lightning",
        "lightning_fabric",
    ):
        for module in ("utilities.rank_zero", "accelerators.cuda"):
            logging.getLogger(f"{package}.{module}").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in (
            r".*does not have many workers.*",  # samples in memory need none
            r".*`validation_step` but have no `val_dataloader`.*",
            r".*GPU available but not used.*",
            r".*module\(s\) in eval mode at the start of training.*",  # the averaged weights
            r".*isinstance\(treespec, LeafSpec\)` is deprecated.*",
        ):
            warnings.filterwarnings("ignore", message=message)
        yield
