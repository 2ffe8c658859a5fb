"""Predicts as a protocol of evaluation says: at its size, on its part of the image, mirrored too.

Axes: H height, W width (pixels of the image).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, UInt8

from dav2.metrics.pixels import Box, image_box
from dav2.predict import predict
from dav2.prediction.model_input import ModelInput

if TYPE_CHECKING:
    import torch

    from dav2.models.depth_anything import DepthAnything


def predict_with(
    model: "DepthAnything",
    images: Sequence[UInt8[np.ndarray, "_H _W 3"]],
    model_input: ModelInput,
    *,
    batch_size: int,
    dtype: "torch.dtype | None" = None,
) -> list[Float32[np.ndarray, "_H _W"]]:
    """Returns one map an image, of its size; beyond the part seen, its border goes on.

    Args:
        model: As `dav2.predict.predict` takes it.
        images: Upright RGB.
        model_input: What the model is to see.
        batch_size: Most images at once.
        dtype: Precision for autocast.
    """
    boxes = [image_box(model_input.image_crop, *image.shape[:2]) for image in images]
    seen = [_part(image, box) for image, box in zip(images, boxes, strict=True)]
    maps = _predicted(model, seen, model_input, batch_size, dtype)
    if model_input.with_flip:
        mirrored = [image[:, ::-1] for image in seen]
        others = _predicted(model, mirrored, model_input, batch_size, dtype)
        maps = [(one + other[:, ::-1]) / 2 for one, other in zip(maps, others, strict=True)]
    return [
        _continued(values, box, image.shape)
        for values, box, image in zip(maps, boxes, images, strict=True)
    ]


def _predicted(
    model: "DepthAnything",
    images: Sequence[UInt8[np.ndarray, "_H _W 3"]],
    model_input: ModelInput,
    batch_size: int,
    dtype: "torch.dtype | None",
) -> list[Float32[np.ndarray, "_H _W"]]:
    return predict(
        model,
        images,
        short_side_px=model_input.short_side_px,
        size_px=model_input.size_px,
        preparation=model_input.preparation,
        align_corners=model_input.upsampling == "aligned",
        batch_size=batch_size,
        dtype=dtype,
    )


def _part(image: UInt8[np.ndarray, "_H _W 3"], box: Box) -> UInt8[np.ndarray, "_h _w 3"]:
    top, bottom, left, right = box
    return image[top:bottom, left:right]


def _continued(
    values: Float32[np.ndarray, "_h _w"], box: Box, shape: tuple[int, ...]
) -> Float32[np.ndarray, "_H _W"]:
    top, bottom, left, right = box
    around = ((top, shape[0] - bottom), (left, shape[1] - right))
    return np.pad(values, around, mode="edge") if np.any(around) else values
