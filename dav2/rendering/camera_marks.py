"""The marks a camera leaves: lens, vignetting, blur, noise, colour, format.

Axes: H height, W width (pixels).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64, UInt8

from dav2.rendering.effects import tone_mapped
from dav2.rendering.frame import pixel_rays

ASPECTS = (4 / 3, 4 / 3, 3 / 4, 16 / 9, 1.0, 3 / 2, 6 / 5, 3 / 5)
"""Width over height of the pictures."""


@dataclass(frozen=True, slots=True, eq=False)
class Marks:
    """One camera and one shot."""

    shape_px: tuple[int, int]
    """Height, width."""
    bend: float
    """Distortion at half the width: above 0 straight lines bulge, below 0 they pinch."""
    vignette: float
    """Share of light lost in the corners."""
    balance: Float64[np.ndarray, "3"]
    """Gains of red, green and blue."""
    exposure: float
    blur_px: float
    """Standard deviation of the focus blur."""
    motion_px: tuple[float, float]
    """Rows and columns the picture moved during the exposure."""
    noise: float
    """Standard deviation of a mid-grey, of 1."""
    quality: int
    """JPEG quality."""
    orientation: int
    """EXIF tag: 1 upright, 3, 6 or 8 for a camera held otherwise."""


def draw_marks(rng: np.random.Generator, num_pixels: int) -> Marks:
    """Returns a random camera: most are decent, some are poor.

    Args:
        rng: Source of randomness.
        num_pixels: About how many the picture has.
    """
    aspect = ASPECTS[rng.integers(len(ASPECTS))]
    height = round(np.sqrt(num_pixels / aspect))
    poor = rng.random() < 0.3
    shake = rng.uniform(0, 3.5) if rng.random() < (0.5 if poor else 0.15) else 0.0
    turn = rng.uniform(0, 2 * np.pi)
    return Marks(
        shape_px=(height, round(num_pixels / height)),
        bend=float(rng.uniform(-0.06, 0.14)) if rng.random() < 0.7 else 0.0,
        vignette=float(rng.uniform(0, 0.5)),
        balance=np.array([1 + 0.1 * rng.normal(), 1.0, 1 + 0.1 * rng.normal()]).clip(0.7, 1.4),
        exposure=float(np.exp(rng.normal() * 0.25)),
        blur_px=float(rng.uniform(0.3, 1.1)) if poor else float(rng.uniform(0, 0.4)),
        motion_px=(float(shake * np.sin(turn)), float(shake * np.cos(turn))),
        noise=float(rng.uniform(0.012, 0.03)) if poor else float(rng.uniform(0.0, 0.015)),
        quality=int(rng.integers(35, 75)) if poor else int(rng.integers(75, 97)),
        orientation=int(rng.choice([1, 3, 6, 8], p=[0.76, 0.04, 0.12, 0.08])),
    )


def bent_rays(marks: Marks, fov_deg: float) -> Float64[np.ndarray, "H W 3"]:
    """Returns the ray through each pixel's centre behind the lens, in camera axes; depth is 1.

    Args:
        marks: Their shape and bend.
        fov_deg: Angle across the width of the same camera without distortion.
    """
    rays = pixel_rays(*marks.shape_px, fov_deg)
    half = np.tan(np.deg2rad(fov_deg) / 2)
    squared = (rays[..., :2] ** 2).sum(axis=-1, keepdims=True) / half**2
    rays[..., :2] *= 1 + marks.bend * squared
    return rays


def wide_camera(rays: Float64[np.ndarray, "H W 3"], fov_deg: float) -> tuple[int, int, float]:
    """Returns height, width and angle of a straight camera that sees all of the bent rays."""
    height, width = rays.shape[:2]
    half = np.tan(np.deg2rad(fov_deg) / 2)
    across = np.abs(rays[..., 0]).max() / half
    along = np.abs(rays[..., 1]).max() / (half * height / width)
    scale = max(across, along, 1.0)
    wide = int(np.ceil(width * scale)) + 2
    tall = int(np.ceil(height * scale)) + 2
    return tall, wide, float(np.rad2deg(2 * np.arctan(half * wide / width)))


def resampled(
    picture: Float32[np.ndarray, "H W 3"],
    rays: Float64[np.ndarray, "h w 3"],
    fov_deg: float,
) -> Float32[np.ndarray, "h w 3"]:
    """Returns a straight camera's picture as bent rays see it, bilinearly.

    Args:
        picture: What the straight camera saw.
        rays: One for each pixel of the result.
        fov_deg: Angle across the straight camera's width.
    """
    height, width = picture.shape[:2]
    focal = width / 2 / np.tan(np.deg2rad(fov_deg) / 2)
    column = np.clip(rays[..., 0] * focal + width / 2 - 0.5, 0, width - 1.001)
    row = np.clip(height / 2 - rays[..., 1] * focal - 0.5, 0, height - 1.001)
    i, j = row.astype(np.int64), column.astype(np.int64)
    a, b = (row - i)[..., None], (column - j)[..., None]
    upper = picture[i, j] * (1 - b) + picture[i, j + 1] * b
    lower = picture[i + 1, j] * (1 - b) + picture[i + 1, j + 1] * b
    return np.asarray(upper * (1 - a) + lower * a, dtype=np.float32)


def photographed(
    radiance: Float32[np.ndarray, "H W 3"], marks: Marks, rng: np.random.Generator
) -> UInt8[np.ndarray, "H W 3"]:
    """Returns the picture a camera makes of the light behind its lens, upright.

    Args:
        radiance: Linear, already on the bent rays.
        marks: The camera.
        rng: Of the noise.
    """
    height, width = radiance.shape[:2]
    y = (np.arange(height)[:, None] + 0.5) / height * 2 - 1
    x = (np.arange(width) + 0.5) / width * 2 - 1
    light = radiance * (1 - marks.vignette * (x**2 + y**2)[..., None] / 2)
    light = _moved_average(light * marks.balance, marks.motion_px)
    light = _blurred(light, marks.blur_px)
    picture = tone_mapped(np.asarray(light, dtype=np.float32), exposure=marks.exposure)
    if marks.noise == 0:
        return picture
    value = picture / 255
    grain = rng.normal(size=picture.shape) * 0.45 + rng.normal(size=(height, width, 1)) * 0.9
    strength = marks.noise * (0.5 + np.sqrt(value))
    return np.clip(np.rint((value + grain * strength) * 255), 0, 255).astype(np.uint8)


def _moved_average(
    picture: Float[np.ndarray, "H W 3"], motion_px: tuple[float, float]
) -> Float[np.ndarray, "H W 3"]:
    if motion_px == (0.0, 0.0):
        return picture
    height, width = picture.shape[:2]
    total = np.zeros_like(picture)
    steps = np.linspace(-0.5, 0.5, 7)
    for step in steps:
        row = np.clip(np.arange(height) + step * motion_px[0], 0, height - 1.001)
        column = np.clip(np.arange(width) + step * motion_px[1], 0, width - 1.001)
        i, j = row.astype(np.int64), column.astype(np.int64)
        a, b = (row - i)[:, None, None], (column - j)[None, :, None]
        rows = picture[i] * (1 - a) + picture[i + 1] * a
        total += rows[:, j] * (1 - b) + rows[:, j + 1] * b
    return total / len(steps)


def _blurred(picture: Float[np.ndarray, "H W 3"], sigma_px: float) -> Float[np.ndarray, "H W 3"]:
    if sigma_px < 0.1:
        return picture
    reach = int(np.ceil(3 * sigma_px))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma_px) ** 2)
    taps /= taps.sum()
    for axis in (0, 1):
        widths = [(reach, reach) if index == axis else (0, 0) for index in range(3)]
        padded = np.pad(picture, widths, mode="edge")
        size = picture.shape[axis]
        picture = sum(
            tap * np.take(padded, np.arange(size) + shift, axis=axis)
            for shift, tap in enumerate(taps)
        )
    return picture
