"""Depth as a sensor might have measured it, from depth that is exact.

Axes: H height, W width of a map, K side of a coarse grid (pixels).
"""

import hashlib
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float32
from torch import Tensor

from dav2.data.sample import DepthSample

_SCALE_DEVIATION = 0.05
"""Of the logarithm of depth, slowly varying over the map: calibration, warped reconstructions."""
_SHIFT = 0.01
"""Largest misalignment to the image, as a share of the shorter side."""
_BLUR = 0.005
"""Deviation of the blur of inverse depth, likewise: a matching window smears edges."""
_HOLES = 0.1
"""Share of pixels in holes: glass, reflections, dark surfaces."""
_FAR = 0.2
"""Share of the farthest pixels, which are beyond the sensor's reach."""
_COARSE, _FINE = 4, 16


def with_sensor_noise(sample: DepthSample, strength: float) -> DepthSample:
    """Returns a sample whose depth has the faults of measured labels, the same at every call.

    Depth Anything V2 (Yang et al. 2024, arXiv:2406.09414) leaves real images out because of such
    faults: coarse edges, depth beside its object, holes, wrong scale of parts, and no depth where a
    sensor does not reach. How strong they are is nowhere stated. Our choice: at strength 1 a map
    has slow scale errors of 5 %, is shifted by up to 1 % and blurred by 0.5 % of its shorter side,
    has holes in a tenth of it, and lacks its farthest fifth.

    Args:
        sample: With depth. Sky is not measured afterwards.
        strength: Factor of all five; 0 for the sample as it is.

    Raises:
        ValueError: If the sample has no depth.
    """
    if strength == 0:
        return sample
    digest = hashlib.sha256(sample.sample_id.encode()).digest()
    numbers = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    inverse = sample.inverse_depth()
    measured = inverse > 0
    shape = height, width = inverse.shape
    inverse *= np.exp(_SCALE_DEVIATION * strength * _smooth(numbers, _COARSE, shape))
    reach = _SHIFT * strength * min(shape)
    down, right = (round(offset) for offset in numbers.uniform(-reach, reach, 2))
    rows = (np.arange(height) + down).clip(0, height - 1)[:, None]
    columns = (np.arange(width) + right).clip(0, width - 1)
    inverse, measured = inverse[rows, columns], measured[rows, columns]
    inverse = _blurred(inverse, measured, sigma=_BLUR * strength * min(shape))
    holes = _smooth(numbers, _FINE, shape)
    measured &= holes >= np.quantile(holes, _HOLES * strength)
    if measured.any():
        measured &= inverse >= np.quantile(inverse[measured], _FAR * strength)
    depth = np.divide(np.float32(1), inverse, out=np.full_like(inverse, np.nan), where=measured)
    return replace(sample, depth=depth, valid=measured, sky=None)


def _smooth(
    numbers: np.random.Generator, side: int, shape: tuple[int, int]
) -> Float32[np.ndarray, "H W"]:
    """Returns a random map of mean 0 and about deviation 1 that varies over a grid of `side`."""
    coarse = numbers.standard_normal((1, 1, side, side), dtype=np.float32)
    fine = F.interpolate(torch.from_numpy(coarse), shape, mode="bicubic", align_corners=True)
    result: Float32[np.ndarray, "H W"] = fine[0, 0].numpy()
    return result


def _blurred(
    values: Float32[np.ndarray, "H W"], counts: Bool[np.ndarray, "H W"], *, sigma: float
) -> Float32[np.ndarray, "H W"]:
    """Returns a Gaussian mean of the values that count; 0 where there is none."""
    radius = max(1, round(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    window = torch.exp(-0.5 * (offsets / max(sigma, 1e-3)) ** 2)
    both = torch.from_numpy(np.stack([values * counts, counts.astype(np.float32)])[:, None])
    sums, weights = _convolved(both, window / window.sum())[:, 0].numpy()
    means: Float32[np.ndarray, "H W"] = np.zeros_like(sums)
    np.divide(sums, weights, out=means, where=weights > 1e-6)
    return means


def _convolved(maps: Tensor, window: Tensor) -> Tensor:
    radius = len(window) // 2
    maps = F.conv2d(maps, window[None, None, :, None], padding=(radius, 0))
    return F.conv2d(maps, window[None, None, None, :], padding=(0, radius))
