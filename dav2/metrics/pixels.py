"""Which pixels of a depth map an evaluation counts.

Axes: H height, W width (pixels).
"""

from typing import assert_never

import numpy as np
from jaxtyping import Bool, Float

from dav2.metrics.depth import Crop, ImageCrop, Protocol

_KITTI_BENCHMARK = (352, 1216)
_SPREAD_QUANTILE = 0.01

Box = tuple[int, int, int, int]
"""Top, bottom, left and right of a part of an image; bottom and right are outside."""


def image_box(crop: ImageCrop, height: int, width: int) -> Box:
    """Returns the part of an image that the model sees; all of it where it is smaller than that.

    Args:
        crop: Of the protocol.
        height: Of the image.
        width: Of the image.
    """
    match crop:
        case "none":
            return 0, height, 0, width
        case "kitti_benchmark":
            rows, columns = min(_KITTI_BENCHMARK[0], height), min(_KITTI_BENCHMARK[1], width)
            left = (width - columns) // 2
            return height - rows, height, left, left + columns
        case _:
            assert_never(crop)


def reference_depth(
    depth: Float[np.ndarray, "H W"],
    sky: Bool[np.ndarray, "H W"] | None,
    *,
    protocol: Protocol,
) -> Float[np.ndarray, "H W"]:
    """Returns what predictions are held against: depth, and what the protocol says of sky.

    Args:
        depth: Metres, +inf on sky.
        sky: True on sky; None where the source does not say.
        protocol: Its rule of sky.
    """
    if sky is None or protocol.sky == "exclude":
        return depth
    assert protocol.max_depth_m is not None  # Protocol refuses it
    return np.where(sky, depth.dtype.type(protocol.max_depth_m), depth)


def evaluated_pixels(
    depth: Float[np.ndarray, "H W"],
    valid: Bool[np.ndarray, "H W"],
    *,
    sky: Bool[np.ndarray, "H W"] | None,
    protocol: Protocol,
) -> Bool[np.ndarray, "H W"]:
    """Returns True where the protocol compares: valid, within limits and crops, sky as it says.

    Args:
        depth: Result of `reference_depth`, metres.
        valid: True where `depth` was measured.
        sky: True on sky; None where the source does not say.
        protocol: Limits, crops and rules.
    """
    with np.errstate(invalid="ignore"):
        pixels = _eroded(valid, protocol.erode_px) & np.isfinite(depth)
        pixels &= depth > 0
        pixels &= depth >= protocol.min_depth_m
        if protocol.max_depth_m is not None:
            pixels &= depth <= protocol.max_depth_m
    if sky is not None and protocol.sky == "exclude":
        pixels &= ~sky
    top, bottom, left, right = image_box(protocol.image_crop, *depth.shape)
    upper, lower, first, last = _crop_box(protocol.crop, bottom - top, right - left)
    evaluated = np.zeros(depth.shape, dtype=bool)
    part = np.s_[top + upper : top + lower, left + first : left + last]
    evaluated[part] = pixels[part]
    if protocol.max_spread is not None and evaluated.any():
        near = float(np.quantile(depth[evaluated], _SPREAD_QUANTILE))
        evaluated &= depth <= protocol.max_spread * near
    return evaluated


def _eroded(valid: Bool[np.ndarray, "H W"], distance_px: int) -> Bool[np.ndarray, "H W"]:
    """Returns True where all within a square of that distance is valid; the border is no edge."""
    eroded = valid.copy()
    for _ in range(distance_px):
        for axis in (0, 1):
            lines = np.moveaxis(eroded, axis, 0)  # a view
            before = lines.copy()
            lines[1:] &= before[:-1]
            lines[:-1] &= before[1:]
    return eroded


def _crop_box(crop: Crop, height: int, width: int) -> Box:
    """Returns the part that counts, as fractions rounded down.

    Garg and Eigen for KITTI as in every later evaluation; Eigen for NYU is [45:471, 41:601] of
    480 x 640.
    """
    match crop:
        case "none":
            return 0, height, 0, width
        case "garg":
            rows, columns = (0.40810811, 0.99189189), (0.03594771, 0.96405229)
        case "eigen_kitti":
            rows, columns = (0.3324324, 0.91351351), (0.0359477, 0.96405229)
        case "eigen_nyu":
            rows, columns = (45 / 480, 471 / 480), (41 / 640, 601 / 640)
        case _:
            assert_never(crop)
    return (
        int(rows[0] * height),
        int(rows[1] * height),
        int(columns[0] * width),
        int(columns[1] * width),
    )
