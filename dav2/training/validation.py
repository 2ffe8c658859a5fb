"""Measures a model on frozen samples.

Axes: B batch, H height, W width (pixels).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, UInt8
from torch import Tensor

from dav2.data.transforms import normalise, prepare_size, resize_image, resize_map
from dav2.metrics.depth import Alignment, Protocol, align, depth_errors
from dav2.metrics.pairs import PointPairs, correct_pairs, sample_depth_pairs
from dav2.models.depth_anything import DepthAnything
from dav2.training.samples import Samples, TrainingSample

_NUM_PAIRS = 100
MIN_RATIO = 1.3
"""Of the depths of a pair: below it, people too would hesitate which is closer."""
FLOOR_FRACTION = 0.05
"""Labels of a teacher below this share of their map's largest are left out: their zero is
arbitrary, and ratios near it measure nothing."""

_MEASURES = ("delta1", "abs_rel", "abs_rel_inverse")


@dataclass(frozen=True, slots=True)
class FrozenSample:
    """A validation sample at the size at which the model sees it."""

    sample_id: str
    image: UInt8[np.ndarray, "H W 3"]
    depth: Float32[np.ndarray, "H W"]
    """Depth in metres, or up to scale (and shift of its inverse) where a teacher labelled it; 1
    where it does not count."""
    pixels: Bool[np.ndarray, "H W"]
    """True where it is compared; no sky."""
    pairs: PointPairs
    """Pixels to order; in half of the pairs the upper one is closer."""


@dataclass(frozen=True, slots=True)
class ValidationConfig:
    """How a training is validated."""

    every_steps: int
    short_side_px: int
    batch_size: int
    keep_best: bool
    """Keep the weights of the best validation (smallest AbsRel) instead of the last ones."""
    max_depth_m: float | None
    """None: relative depth, aligned; else metres, as they stand."""
    patience: int | None = None
    """Validations in a row without a smaller AbsRel after which training ends; None: never."""

    def protocol(self) -> Protocol:
        """Returns how predictions are held against the truth."""
        alignment: Alignment = "inverse_depth" if self.max_depth_m is None else "none"
        return Protocol(alignment, "none", 0.0, self.max_depth_m)


def freeze(samples: Samples, config: ValidationConfig) -> list[FrozenSample]:
    """Reads validation samples once, whole images at sides that are multiples of 14.

    Raises:
        ValueError: If a sample cannot be read, or no image has two depths to compare.
    """
    frozen = [_frozen(samples.read(index), config) for index in range(len(samples.sample_ids))]
    frozen = [sample for sample in frozen if sample.pixels.any()]
    if not any(len(sample.pairs.closer) for sample in frozen):
        raise ValueError(
            f"validation: expected images with different depths, got none among "
            f"{len(samples.sample_ids)}"
        )
    return frozen


def measure(
    model: DepthAnything, samples: list[FrozenSample], config: ValidationConfig
) -> dict[str, float]:
    """Returns the means over images of delta1 and AbsRel, and the share of pairs in right order.

    Relative depth is aligned to the truth by least squares in inverse depth, image by image. A pair
    predicted as equally far counts as wrong, so that a constant scores 0.

    Args:
        model: In evaluation mode.
        samples: From `freeze`.
        config: As given to `freeze`.

    Returns:
        `delta1`, `abs_rel` (in depth), `abs_rel_inverse` (in inverse depth), `pair_accuracy`.
    """
    return measure_predictions(predict_frozen(model, samples, config), samples, config)


def measure_predictions(
    predictions: Sequence[Float[np.ndarray, "..."]],
    samples: list[FrozenSample],
    config: ValidationConfig,
) -> dict[str, float]:
    """Returns what `measure` does of a model that has predicted already.

    Args:
        predictions: From `predict_frozen`.
        samples: From `freeze`.
        config: As given to `freeze`.
    """
    metric = config.max_depth_m is not None
    sums = dict.fromkeys(_MEASURES, 0.0)
    num_right = 0
    for sample, pred in zip(samples, predictions, strict=True):
        aligned = align(pred, sample.depth, pixels=sample.pixels, protocol=config.protocol())
        errors = depth_errors(aligned.depth, sample.depth, pixels=sample.pixels)
        for name in _MEASURES:
            sums[name] += errors[name]
        num_right += int(correct_pairs(-pred if metric else pred, sample.pairs).sum())
    num_pairs = sum(len(sample.pairs.closer) for sample in samples)
    means = {name: value / len(samples) for name, value in sums.items()}
    return {**means, "pair_accuracy": num_right / num_pairs}


def predict_frozen(
    model: DepthAnything, samples: list[FrozenSample], config: ValidationConfig
) -> list[Float[np.ndarray, "..."]]:
    """Returns one map a sample, as the model gives it; images of one size run together.

    Args:
        model: In evaluation mode.
        samples: From `freeze`.
        config: As given to `freeze`.
    """
    device = next(model.parameters()).device
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, sample in enumerate(samples):
        groups.setdefault(sample.image.shape, []).append(index)
    found: dict[int, Any] = {}
    for indices in groups.values():
        for first in range(0, len(indices), config.batch_size):
            chosen = indices[first : first + config.batch_size]
            images = torch.from_numpy(np.stack([samples[index].image for index in chosen]))
            found.update(zip(chosen, _run(model, images.to(device)), strict=True))
    return [found[index] for index in range(len(samples))]


@torch.no_grad()
def _run(model: DepthAnything, images: UInt8[Tensor, "B H W 3"]) -> Float32[np.ndarray, "B H W"]:
    result: Float32[np.ndarray, "B H W"] = model(normalise(images)).float().cpu().numpy()
    return result


def _frozen(sample: TrainingSample, config: ValidationConfig) -> FrozenSample:
    size = prepare_size(*sample.image.shape[:2], short_side_px=config.short_side_px)
    target, pixels = resize_map(sample.target, size), resize_map(sample.valid, size)
    if config.max_depth_m is None:
        largest = float(target.max(where=pixels, initial=0.0))
        floor = FLOOR_FRACTION * largest if sample.pseudo else 0.0
        pixels = pixels & (target > floor)
        depth = np.divide(np.float32(1), target, out=np.ones_like(target), where=pixels)
    else:
        depth = np.where(pixels, target, np.float32(1))
    pairs = sample_depth_pairs(
        depth, pixels=pixels, num_pairs=_NUM_PAIRS, min_ratio=MIN_RATIO, seed=sample.sample_id
    )
    return FrozenSample(sample.sample_id, resize_image(sample.image, size), depth, pixels, pairs)
