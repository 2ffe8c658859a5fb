"""Prediction of a large image in overlapping tiles at its own resolution.

Axes: H height, W width (pixels), h, w those of a coarser grid.
"""

import math
from itertools import product

import numpy as np
import torch
from jaxtyping import Float32, Float64, UInt8
from torch.nn.functional import adaptive_avg_pool2d

from dav2.data.preparation import Preparation, prepared_size
from dav2.models.depth_anything import DepthAnything
from dav2.predict import predict

_LEAST_OVERLAP = 0.25  # of a tile's side


def predict_tiled(
    model: DepthAnything,
    image: UInt8[np.ndarray, "H W 3"],
    *,
    short_side_px: int,
    preparation: Preparation = "authors",
    batch_size: int = 8,
    dtype: torch.dtype | None = None,
) -> Float32[np.ndarray, "H W"]:
    """Predicts a large image whole, then in tiles which are aligned to that and blended.

    Tiles are squares of `short_side_px`, of the image's own pixels, which overlap by a quarter of
    their side or more. Each is brought to the whole prediction by least squares at the resolution
    of that (scale and shift of relative depth; scale of metres), as a tile alone cannot know its
    distance; one that is constant, or runs against the whole, adds the whole's own values. Blending
    weights fall to zero at the tile's borders, so that no seam is left.

    Args:
        model: As `predict` takes it.
        image: Upright RGB.
        short_side_px: Size at which the model sees the whole image; the side of a tile.
        preparation: As `predict` takes it.
        batch_size: Most tiles at once.
        dtype: As `predict` takes it.

    Returns:
        As `predict`; the same map if the image is no larger than a tile.

    Raises:
        ValueError: `batch_size` is below 1.
    """

    def predicted(images: list[UInt8[np.ndarray, "_H _W 3"]]) -> list[np.ndarray]:
        return predict(
            model,
            images,
            short_side_px=short_side_px,
            preparation=preparation,
            batch_size=batch_size,
            dtype=dtype,
        )

    whole: Float32[np.ndarray, "H W"] = predicted([image])[0]
    side, _ = prepared_size(1, 1, short_side_px=short_side_px, preparation=preparation)
    height, width = whole.shape
    if max(height, width) <= side:
        return whole
    is_metric = model.config.max_depth_m is not None
    coarse = min(1.0, side / min(height, width))
    tiles = list(product(_spans(height, side), _spans(width, side)))
    total = np.zeros_like(whole)
    weights = np.zeros_like(whole)
    for start in range(0, len(tiles), batch_size):
        batch = tiles[start : start + batch_size]
        for tile, values in zip(batch, predicted([image[tile] for tile in batch]), strict=True):
            aligned = _aligned(values, whole[tile], coarse=coarse, is_metric=is_metric)
            weight = np.outer(_window(values.shape[0]), _window(values.shape[1]))
            total[tile] += weight * aligned
            weights[tile] += weight
    total /= weights
    return total


def _spans(length: int, side: int) -> list[slice]:
    """Returns evenly spread spans of `side` (less where `length` is) that cover `length`."""
    if length <= side:
        return [slice(0, length)]
    num = 1 + math.ceil((length - side) / (side * (1 - _LEAST_OVERLAP)))
    starts = np.rint(np.linspace(0, length - side, num)).astype(int).tolist()
    return [slice(start, start + side) for start in starts]


def _window(length: int) -> Float32[np.ndarray, " length"]:
    """Returns weights from the middle of a tile, 1, to its borders, 0 half a pixel outside."""
    return (np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2).astype(np.float32)


def _aligned(
    values: Float32[np.ndarray, "H W"],
    whole: Float32[np.ndarray, "H W"],
    *,
    coarse: float,
    is_metric: bool,
) -> Float32[np.ndarray, "H W"]:
    """Returns a tile's values at the scale (and shift) that bring it closest to the whole.

    They are compared at the whole's own resolution, `coarse` times that of the image: detail that
    only the tile shows would count as noise in the fit, and make its scale too small.
    """
    height, width = (max(1, round(side * coarse)) for side in values.shape)
    tile, wanted = _reduced(values, (height, width)), _reduced(whole, (height, width))
    centre, wanted_centre = (0.0, 0.0) if is_metric else (tile.mean(), wanted.mean())
    # NaN of damaged weights passes through, to be found in the result.
    spread = np.square(tile - centre).mean()
    scale = ((tile - centre) * (wanted - wanted_centre)).mean() / spread if spread else 0.0
    # A spread of rounding errors only would be blown up to the whole's.
    is_flat = spread <= (1e-6 * np.abs(tile).max()) ** 2
    if is_flat or scale <= 0:
        return whole
    return (wanted_centre + scale * (values - centre)).astype(np.float32)


def _reduced(
    values: Float32[np.ndarray, "H W"], size: tuple[int, int]
) -> Float64[np.ndarray, "h w"]:
    """Returns means over the cells of a coarser grid."""
    whole = torch.from_numpy(values.astype(np.float64))[None]
    means: Float64[np.ndarray, "h w"] = adaptive_avg_pool2d(whole, size)[0].numpy()
    return means
