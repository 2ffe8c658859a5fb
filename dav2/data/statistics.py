"""What the gates need to know of a sample without reading it again.

Axes: H height, W width (pixels).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from dav2.data.sample import DepthSample

_ROWS_AT_ONCE = 256  # bounds the memory for an image of 100 MP


@dataclass(frozen=True, slots=True)
class ImageStatistics:
    """Of the luma (ITU-R BT.601, 0 black to 1 white), from integers: the same on every machine."""

    brightness: float
    """Mean."""
    contrast: float
    """Standard deviation."""
    sharpness: float
    """Variance of the Laplacian over the four neighbours at full resolution; 0 below 3 x 3."""


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
    """Percentiles over measured pixels below the sky; None where the scale is unknown or there are
    no such pixels."""
    depth_p50_m: float | None
    depth_p99_m: float | None
    depth_constant: bool
    """True where fewer than two depths occur below the sky."""


def image_statistics(image: UInt8[np.ndarray, "H W 3"]) -> ImageStatistics:
    """Returns brightness, contrast and sharpness of an RGB image."""
    luma = Image.fromarray(image).convert("L")
    levels = np.arange(256)
    share = np.array(luma.histogram()) / (image.shape[0] * image.shape[1])
    mean = float(share @ levels)
    return ImageStatistics(
        brightness=mean / 255,
        contrast=float(np.sqrt(share @ (levels - mean) ** 2)) / 255,
        sharpness=_laplacian_variance(np.asarray(luma)),
    )


def depth_statistics(sample: DepthSample) -> DepthStatistics:
    """Returns the statistics of a sample's depth.

    Raises:
        ValueError: If the sample has no depth.
    """
    if sample.depth is None or sample.valid is None:
        raise ValueError(f"{sample.sample_id}: expected a sample with depth, got none")
    sky = np.zeros_like(sample.valid) if sample.sky is None else sample.sky
    near = sample.depth[sample.valid & ~sky]
    percentiles: list[float | None] = [None, None, None]
    if near.size and sample.scale_known:
        percentiles = [float(value) for value in np.percentile(near, [1, 50, 99])]
    return DepthStatistics(
        valid_fraction=float(sample.valid.mean()),
        sky_fraction=None if sample.sky is None else float(sky.mean()),
        nonfinite_fraction=float((~np.isfinite(sample.depth) & ~sky).mean()),
        depth_p01_m=percentiles[0],
        depth_p50_m=percentiles[1],
        depth_p99_m=percentiles[2],
        depth_constant=bool(not near.size or near.min() == near.max()),
    )


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
