"""What happens between a scene and its picture: air, water, rain, tone, drawing.

Axes: H height, W width (pixels).
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Float32, UInt8

from dav2.rendering.textures import Colour


@dataclass(frozen=True, slots=True, eq=False)
class Medium:
    """What lies between the camera and things."""

    colour: Colour = field(default_factory=lambda: np.zeros(3))
    """Radiance of the medium itself."""
    density: float = 0.0
    """1/m; light falls to 1/e over its inverse."""
    streaks: float = 0.0
    """Strength of falling rain, 0 to 1."""
    specks: float = 0.0
    """Strength of falling snow, or of floating dust, 0 to 1."""


def through_medium(
    radiance: Float32[np.ndarray, "H W 3"],
    distance: Float32[np.ndarray, "H W"],
    medium: Medium,
    rng: np.random.Generator,
) -> Float32[np.ndarray, "H W 3"]:
    """Returns what arrives at the camera through mist, rain, snow or water.

    Args:
        radiance: Of the things themselves.
        distance: Along the ray, metres; inf for the sky.
        medium: What lies between.
        rng: Places drops and flakes.
    """
    if medium.density > 0:
        left = np.exp(-medium.density * np.minimum(distance, 1e4))[..., None]
        radiance = radiance * left + medium.colour * (1 - left)
    light = float(np.quantile(radiance, 0.8))
    if medium.streaks > 0:
        fall = _streaks(rng, radiance.shape[:2], medium.streaks)
        radiance = radiance * (1 - 0.5 * fall) + light * 0.9 * fall
    if medium.specks > 0:
        flakes = _specks(rng, radiance.shape[:2], medium.specks)
        radiance = radiance * (1 - flakes) + max(light, 1e-3) * 1.3 * flakes
    return np.asarray(radiance, dtype=np.float32)


def tone_mapped(
    radiance: Float32[np.ndarray, "H W 3"], *, exposure: float = 1.0, bright: float = 0.8
) -> UInt8[np.ndarray, "H W 3"]:
    """Returns a picture: the 90th percentile of brightness becomes `bright` after gamma 1/2.2.

    Hypersim's tone mapping, with a soft shoulder instead of clipping; where a bright window or sky
    would leave the rest dark, the median decides.

    Args:
        radiance: Linear.
        exposure: Further factor.
        bright: Value of the bright parts, of 1.
    """
    middle, high = np.quantile(radiance.mean(axis=-1), [0.5, 0.9])
    level = max(float(min(high, 3.0 * middle)), 1e-6)
    value = np.maximum(radiance, 0) * (exposure * bright**2.2 / level)
    knee = 0.6
    over = np.maximum(value - knee, 0)
    value = np.minimum(value, knee) + (1 - knee) * (1 - np.exp(-over / (1 - knee)))
    return quantised(value ** (1 / 2.2))


def quantised(picture: Float[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """Returns values between 0 and 1 as bytes, rounded."""
    return np.asarray(np.clip(np.rint(picture * 255), 0, 255), dtype=np.uint8)


def drawn(
    albedo: Float32[np.ndarray, "H W 3"],
    normal: Float32[np.ndarray, "H W 3"],
    depth: Float32[np.ndarray, "H W"],
    *,
    light: Float[np.ndarray, "3"],
    paper: Colour,
) -> Float32[np.ndarray, "H W 3"]:
    """Returns a picture in flat inks with dark outlines, linear values from 0 to 1.

    Args:
        albedo: Reflectance.
        normal: Towards the camera.
        depth: Metres; inf where there is nothing.
        light: Direction that bright sides face.
        paper: Colour where there is nothing.
    """
    shade = 0.45 + 0.3 * np.floor(np.clip((normal @ light + 1) * 1.5, 0, 2.99))[..., None] / 1.5
    inks = (np.floor(albedo ** (1 / 2.2) * 6) + 0.5) / 6
    picture = np.where(np.isinf(depth)[..., None], paper, inks**2.2 * shade)
    near = 1 / np.maximum(depth, 1e-3)
    line = np.zeros(depth.shape, dtype=bool)
    for axis in (0, 1):
        step = (
            np.abs(np.diff(near, axis=axis))
            > 0.06 * np.minimum(_first(near, axis), _last(near, axis)) + 1e-4
        )
        turn = (_first(normal, axis) * _last(normal, axis)).sum(axis=-1) < 0.6
        mark = step | (turn & np.isfinite(_first(depth, axis)))
        if axis == 0:
            line[:-1] |= mark
        else:
            line[:, :-1] |= mark
    return np.asarray(np.where(line[..., None], picture * 0.12, picture), dtype=np.float32)


def _first(values: Float[np.ndarray, "..."], axis: int) -> Float[np.ndarray, "..."]:
    return values[:-1] if axis == 0 else values[:, :-1]


def _last(values: Float[np.ndarray, "..."], axis: int) -> Float[np.ndarray, "..."]:
    return values[1:] if axis == 0 else values[:, 1:]


def _streaks(
    rng: np.random.Generator, shape: tuple[int, ...], strength: float
) -> Float[np.ndarray, "H W 1"]:
    height, width = shape
    layer = np.zeros((height, width))
    lean = rng.uniform(-0.3, 0.3)
    for _ in range(int(strength * height * width / 160)):
        row, column = rng.integers(height), rng.integers(width)
        length, weight = int(rng.integers(4, 15)), rng.uniform(0.1, 0.5)
        along = np.arange(length)
        rows = (row + along) % height
        columns = (column + np.rint(along * lean).astype(int)) % width
        layer[rows, columns] += weight * np.sin(np.pi * (along + 0.5) / length)
    return np.clip(layer, 0, 0.7)[..., None]


def _specks(
    rng: np.random.Generator, shape: tuple[int, ...], strength: float
) -> Float[np.ndarray, "H W 1"]:
    height, width = shape
    y, x = np.arange(height)[:, None], np.arange(width)
    layer = np.zeros((height, width))
    for _ in range(int(strength * 160)):
        row, column = rng.uniform(0, height), rng.uniform(0, width)
        radius = rng.uniform(0.4, 1.0) if rng.random() < 0.85 else rng.uniform(1.2, 3.0)
        top, left = max(int(row) - 8, 0), max(int(column) - 8, 0)
        window = (slice(top, top + 17), slice(left, left + 17))
        spot = (y[window[0]] - row) ** 2 + (x[window[1]] - column) ** 2
        layer[window] += rng.uniform(0.3, 0.9) * np.exp(-spot / (2 * radius**2))
    return np.clip(layer, 0, 0.9)[..., None]
