"""What the gates need to know of a sample without reading it again.

Axes: H height, W width (pixels).
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from dav2.data.sample import DepthSample

# The first 8 of 32 cosines, times 2 ** 14, whole numbers: sums of their products are exact.
_COSINES = np.rint(2**14 * np.cos(np.pi / 32 * np.outer(np.arange(8), np.arange(32) + 0.5)))
_SOME_PIXELS = 1 << 17  # of a depth map, evenly spread, that percentiles and levels are taken of
_ROWS_AT_ONCE = 256  # bounds the memory for an image of 100 MP


@dataclass(frozen=True, slots=True)
class ImageStatistics:
    """Of the luma (ITU-R BT.601, 0 black to 1 white) where nothing else is said.

    From integers, so the same on every machine. A large JPEG without depth is looked at as libjpeg
    reduces it, to a shorter side of 80 or more.
    """

    brightness: float
    """Mean."""
    contrast: float
    """Standard deviation."""
    sharpness: float
    """Variance of the Laplacian over the four neighbours; 0 below 3 x 3."""
    colourfulness: float
    """Mean over pixels of the largest minus the smallest channel; 0 for grey."""
    red_minus_blue: float
    """Mean; most sets of photographs are warm on the whole, so below 0 channels may be swapped."""
    perceptual_hash: str
    """64 bits as 16 hexadecimal digits: alike images differ in few of them."""


@dataclass(frozen=True, slots=True)
class DepthStatistics:
    """Of a depth map."""

    valid_fraction: float
    """Share of pixels that are measured, sky included."""
    sky_fraction: float | None
    """Share of sky; None where the dataset does not tell."""
    nonfinite_fraction: float
    """Share of NaN and infinity outside the sky."""
    depth_p01_m: float | None
    """Percentiles over measured pixels below the sky, of large maps over evenly spread ones; None
    where the scale is unknown or there are no such pixels."""
    depth_p50_m: float | None
    depth_p99_m: float | None
    depth_constant: bool
    """True where fewer than two depths occur below the sky."""
    depth_levels: int
    """How many different depths occur below the sky among 131,072 evenly spread pixels: at
    most 256 where the map went through 8 bits."""
    depth_at_min_fraction: float
    """Share of measured pixels below the sky that hold the smallest depth: many where clipped."""
    depth_at_max_fraction: float
    """Share that hold the largest: many where clipped, or where sky is not told."""


def image_statistics(image: UInt8[np.ndarray, "H W 3"]) -> ImageStatistics:
    """Returns brightness, contrast and sharpness of an RGB image."""
    luma = Image.fromarray(image).convert("L")
    levels = np.asarray(luma)
    mean, deviation = _brightness(levels)
    span, warmth = _colour(image)
    return ImageStatistics(
        brightness=mean / 255,
        contrast=deviation / 255,
        sharpness=_laplacian_variance(levels),
        colourfulness=span / 255,
        red_minus_blue=warmth / 255,
        perceptual_hash=perceptual_hash(luma),
    )


def perceptual_hash(luma: Image.Image) -> str:
    """Returns 64 bits that stay nearly the same under resizing, compression and small changes.

    Signs of the lowest 8 x 8 frequencies but the mean of a 32 x 32 reduction against their median
    (the pHash of Zauner 2010), in integers: the same on every machine.

    Args:
        luma: A greyscale image.
    """
    small = np.asarray(luma.resize((32, 32), Image.Resampling.BOX, reducing_gap=2.0), np.float64)
    frequencies = (_COSINES @ small @ _COSINES.T).ravel()
    bits = frequencies > np.sort(frequencies[1:])[31]  # the median of 63
    bits[0] = False  # the mean says nothing of the content
    return np.packbits(bits).tobytes().hex()


def depth_statistics(sample: DepthSample) -> DepthStatistics:
    """Returns the statistics of a sample's depth.

    Raises:
        ValueError: If the sample has no depth.
    """
    if sample.depth is None or sample.valid is None:
        raise ValueError(f"{sample.sample_id}: expected a sample with depth, got none")
    sky = np.zeros_like(sample.valid) if sample.sky is None else sample.sky
    near = sample.depth[sample.valid & ~sky]
    some = near[:: -(-near.size // _SOME_PIXELS) or 1]
    percentiles: list[float | None] = [None, None, None]
    if near.size and sample.scale_known:
        percentiles = [float(value) for value in np.percentile(some, [1, 50, 99])]
    at_min, at_max = _shares_of_limits(near)
    return DepthStatistics(
        valid_fraction=float(sample.valid.mean()),
        sky_fraction=None if sample.sky is None else float(sky.mean()),
        nonfinite_fraction=float((~np.isfinite(sample.depth) & ~sky).mean()),
        depth_p01_m=percentiles[0],
        depth_p50_m=percentiles[1],
        depth_p99_m=percentiles[2],
        depth_constant=bool(not near.size or near.min() == near.max()),
        depth_levels=len(np.unique(some)),
        depth_at_min_fraction=at_min,
        depth_at_max_fraction=at_max,
    )


def _brightness(luma: UInt8[np.ndarray, "H W"]) -> tuple[float, float]:
    """Returns mean and standard deviation, in levels of 255."""
    total = squares = 0
    for first in range(0, luma.shape[0], _ROWS_AT_ONCE):
        levels = luma[first : first + _ROWS_AT_ONCE].ravel().astype(np.float64)
        total += int(levels.sum())  # whole numbers below 2 ** 53: exact
        squares += int(levels @ levels)
    return total / luma.size, math.sqrt(squares * luma.size - total**2) / luma.size


def _colour(image: UInt8[np.ndarray, "H W 3"]) -> tuple[float, float]:
    """Returns the means of the channels' span and of red minus blue, in levels of 255."""
    span = warmth = 0
    for first in range(0, image.shape[0], _ROWS_AT_ONCE):
        rows = image[first : first + _ROWS_AT_ONCE]
        red, green, blue = rows.transpose(2, 0, 1).copy()  # each in one piece: faster
        most = np.maximum(np.maximum(red, green), blue)
        least = np.minimum(np.minimum(red, green), blue)
        span += int((most - least).sum(dtype=np.int64))
        warmth += int(red.sum(dtype=np.int64)) - int(blue.sum(dtype=np.int64))
    count = image.shape[0] * image.shape[1]
    return span / count, warmth / count


def _shares_of_limits(depths: Float32[np.ndarray, " N"]) -> tuple[float, float]:
    if not depths.size:
        return 0.0, 0.0
    return float((depths == depths.min()).mean()), float((depths == depths.max()).mean())


def _laplacian_variance(luma: UInt8[np.ndarray, "H W"]) -> float:
    if min(luma.shape) < 3:
        return 0.0
    total = squares = 0
    for first in range(0, luma.shape[0] - 2, _ROWS_AT_ONCE):
        levels = luma[first : first + _ROWS_AT_ONCE + 2].astype(np.int16)
        laplacian = -4 * levels[1:-1, 1:-1]
        for neighbour in (levels[:-2, 1:-1], levels[2:, 1:-1], levels[1:-1, :-2], levels[1:-1, 2:]):
            laplacian += neighbour
        total += int(laplacian.sum(dtype=np.int64))
        squares += int(np.square(laplacian, dtype=np.int32).sum(dtype=np.int64))
    count = (luma.shape[0] - 2) * (luma.shape[1] - 2)
    variance: float = squares / count - (total / count) ** 2
    return variance / 255**2
