"""Predicts an image again as changed, to see what of the prediction changes with it.

Axes: H height, W width (pixels of the image).
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, UInt8

from dav2.metrics.consistency import inconsistency
from dav2.prediction.model_input import ModelInput
from dav2.prediction.seen import predict_with

if TYPE_CHECKING:
    import torch

    from dav2.models.depth_anything import DepthAnything

CROP = 0.75
"""Of each side, in the middle of the image."""
RESOLUTION = 1.5
"""Factor of the size at which the model sees the image."""

_PATCH_PX = 14


def inconsistencies(
    model: "DepthAnything",
    image: UInt8[np.ndarray, "H W 3"],
    values: Float32[np.ndarray, "H W"],
    model_input: ModelInput,
    *,
    dtype: "torch.dtype | None" = None,
) -> dict[str, float]:
    """Returns how much a prediction changes if the image is mirrored, cropped or seen larger.

    Args:
        model: As `dav2.predict.predict` takes it.
        image: Upright RGB.
        values: The model's map of it.
        model_input: How that was made.
        dtype: As it was made with.

    Returns:
        `inconsistency_flip`, `inconsistency_crop` (the middle three quarters of each side, seen at
        the size of the whole image) and `inconsistency_resolution` (1.5 times the size), each as
        `dav2.metrics.consistency.inconsistency` has it.
    """
    plain = replace(model_input, with_flip=False, image_crop="none")

    def predicted(
        changed: UInt8[np.ndarray, "_h _w 3"], seen: ModelInput
    ) -> Float32[np.ndarray, "_h _w"]:
        return predict_with(model, [changed], seen, batch_size=1, dtype=dtype)[0]

    height, width = image.shape[:2]
    margins = round((1 - CROP) / 2 * height), round((1 - CROP) / 2 * width)
    inside = np.s_[margins[0] : height - margins[0], margins[1] : width - margins[1]]
    larger = replace(plain, short_side_px=_larger(plain.short_side_px))
    if plain.size_px is not None:
        larger = replace(larger, size_px=(_larger(plain.size_px[0]), _larger(plain.size_px[1])))
    return {
        "inconsistency_flip": inconsistency(values, predicted(image[:, ::-1], plain)[:, ::-1]),
        "inconsistency_crop": inconsistency(values[inside], predicted(image[inside], plain)),
        "inconsistency_resolution": inconsistency(values, predicted(image, larger)),
    }


def _larger(side_px: int) -> int:
    return round(RESOLUTION * side_px / _PATCH_PX) * _PATCH_PX
