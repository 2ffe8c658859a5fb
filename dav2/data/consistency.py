"""Whether a depth map fits its camera and its image: what tells mistakes of decoding and pairing.

Axes: H height, W width (pixels); h, w those of every n-th pixel.
Each statistic compares what was read with what it would be after one particular mistake, on the
same sample, so that neither the kind of scene nor its size decides.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float32, Float64
from PIL import Image

from dav2.data.sample import DepthSample, Intrinsics

_GRID_SIDE_PX = 160  # of the shorter side: every n-th pixel is looked at
_STEP = 4  # of second differences, in pixels of that grid
_FLAT_SHARE = 0.25  # of all second differences: those that lie on planes, if there are any
_FLAT_ENOUGH = 1e-6  # below the rounding of float32 nothing is told apart
_EDGE_SHARE = 0.05  # of pixels: the steepest steps in depth
_SHIFTS_PX = (2, 4, 8)  # of that grid
_MIN_PIXELS = 256


@dataclass(frozen=True, slots=True)
class ConsistencyStatistics:
    """How well depth fits; None where it cannot be told."""

    planarity_over_inverse: float | None
    """How much less flat planes are than if the file held inverse depth: above 1 it probably does.
    On a plane 1/z is an affine function of the pixel, so its second differences vanish."""
    planarity_over_distance: float | None
    """The same against distances along the rays; None without intrinsics."""
    edge_agreement: float | None
    """How often the image changes more at a step of depth than elsewhere: 0.5 by chance, up to 1.
    None where there are few steps between pixels that are both known."""
    edge_agreement_moved: float | None
    """The same with the depth map mirrored, upside down or shifted by some pixels, whichever fits
    best: above the one before, depth and image are probably not aligned."""


def consistency_statistics(sample: DepthSample) -> ConsistencyStatistics:
    """Returns how well a sample's depth fits its camera and its image.

    Raises:
        ValueError: If the sample has no depth.
    """
    if sample.depth is None or sample.valid is None:
        raise ValueError(f"{sample.sample_id}: expected a sample with depth, got none")
    stride = max(1, min(sample.depth.shape) // _GRID_SIDE_PX)
    near = sample.valid if sample.sky is None else sample.valid & ~sample.sky
    depth = sample.depth[::stride, ::stride].astype(np.float64)
    near = near[::stride, ::stride] & np.isfinite(depth) & (depth > 0)
    depth = np.where(near, depth, 1.0)
    over_inverse = over_distance = None
    as_depth = _unevenness(1 / depth, near)
    if as_depth is not None:
        as_inverse = _unevenness(depth, near)
        assert as_inverse is not None
        rounding = _rounding(depth[near])
        over_inverse = (as_depth + rounding) / (as_inverse + rounding)
        if sample.intrinsics is not None:
            rays = _ray_lengths(sample.depth.shape, sample.intrinsics)[::stride, ::stride]
            as_distance = _unevenness(rays / depth, near)
            assert as_distance is not None
            over_distance = (as_depth + rounding) / (as_distance + rounding)
    known = near if sample.sky is None else near | sample.sky[::stride, ::stride]
    inverse = np.where(near, 1 / depth, 0.0)
    luma = np.asarray(Image.fromarray(sample.image).convert("L"))[::stride, ::stride]
    agreement, moved = _edge_agreements(luma.astype(np.float32), inverse, known)
    return ConsistencyStatistics(over_inverse, over_distance, agreement, moved)


def _unevenness(values: Float64[np.ndarray, "h w"], near: Bool[np.ndarray, "h w"]) -> float | None:
    """Returns a low quantile of relative second differences; None if too few can be formed."""
    found = []
    for axis in (0, 1):
        value, inside = np.moveaxis(values, axis, 0), np.moveaxis(near, axis, 0)
        if value.shape[0] <= 2 * _STEP:
            continue
        before, here, after = value[: -2 * _STEP], value[_STEP:-_STEP], value[2 * _STEP :]
        whole = inside[: -2 * _STEP] & inside[_STEP:-_STEP] & inside[2 * _STEP :]
        found.append((np.abs(before - 2 * here + after) / here)[whole])
    bends = np.concatenate(found) if found else np.empty(0)
    if bends.size < _MIN_PIXELS:
        return None
    return float(np.quantile(bends, _FLAT_SHARE))


def _rounding(depths: Float64[np.ndarray, " N"]) -> float:
    """Returns by how much rounding may bend a plane, relative to the depth.

    A map in whole centimetres is exactly flat on steps and nowhere between them.
    """
    levels = np.unique(depths)
    if len(levels) < 2:
        return _FLAT_ENOUGH
    step = float(np.diff(levels).min()) / 2
    return max(_FLAT_ENOUGH, step / float(np.median(depths)))


def _ray_lengths(shape: tuple[int, ...], camera: Intrinsics) -> Float64[np.ndarray, "H W"]:
    """Returns the distance along each pixel's ray at which depth is 1."""
    x = (np.arange(shape[1]) + 0.5 - camera.cx_px) / camera.fx_px
    y = (np.arange(shape[0]) + 0.5 - camera.cy_px) / camera.fy_px
    lengths: Float64[np.ndarray, "H W"] = np.sqrt(1 + x[None] ** 2 + y[:, None] ** 2)
    return lengths


def _edge_agreements(
    luma: Float32[np.ndarray, "h w"],
    inverse: Float64[np.ndarray, "h w"],
    known: Bool[np.ndarray, "h w"],
) -> tuple[float | None, float | None]:
    height, width = inverse.shape
    if not known.any():
        return None, None
    middle = float(np.median(inverse[known]))
    steps = _steps(np.log(inverse + middle / 10 + 1e-9).astype(np.float32), known)
    count = int(_EDGE_SHARE * height * width)
    threshold = np.partition(steps, -count - 1, axis=None)[-count - 1] if count else np.inf
    edges = steps > max(threshold, 1e-3)
    if edges.sum() < _MIN_PIXELS // 8:
        return None, None
    ranks = _ranks(_steps(luma, np.ones_like(known)))
    others = [edges[:, ::-1], edges[::-1]]
    for pixels in _SHIFTS_PX:
        others += [np.roll(edges, sign * pixels, axis) for sign in (-1, 1) for axis in (0, 1)]
    return _mean_rank(ranks, edges), max(_mean_rank(ranks, other) for other in others)


def _steps(
    values: Float32[np.ndarray, "h w"], known: Bool[np.ndarray, "h w"]
) -> Float32[np.ndarray, "h w"]:
    """Returns the largest change from a known pixel to those to its right and below it."""
    steps = np.zeros_like(values)
    right, below = known[:, 1:] & known[:, :-1], known[1:] & known[:-1]
    steps[:, :-1] = np.where(right, np.abs(np.diff(values, axis=1)), 0)
    steps[:-1] = np.maximum(steps[:-1], np.where(below, np.abs(np.diff(values, axis=0)), 0))
    return steps


def _ranks(levels: Float32[np.ndarray, "h w"]) -> Float64[np.ndarray, "h w"]:
    """Returns the share of pixels with a smaller value, ties counted half; of whole numbers."""
    counts = np.bincount(levels.astype(np.int64).ravel())
    below = np.cumsum(counts) - counts / 2
    ranks: Float64[np.ndarray, "h w"] = (below / levels.size)[levels.astype(np.int64)]
    return ranks


def _mean_rank(ranks: Float64[np.ndarray, "h w"], edges: npt.NDArray[np.bool_]) -> float:
    return float(ranks[edges].mean())
