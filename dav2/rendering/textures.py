"""Procedural surface patterns, all tileable, as linear reflectance.

Axes: S texture side (pixels), 3 red, green, blue.
"""

import colorsys
from typing import Literal, assert_never

import numpy as np
from jaxtyping import Float64

Colour = Float64[np.ndarray, "3"]
Texture = Float64[np.ndarray, "S S 3"]
Pattern = Literal[
    "speckle",
    "grain",
    "planks",
    "bricks",
    "tiles",
    "checks",
    "stripes",
    "dots",
    "marble",
    "weave",
    "patches",
    "poster",
    "facade",
]
SIDE_PX = 128


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Returns a colour given as a person sees it, as linear reflectance."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, min(max(saturation, 0), 1), value)
    return np.array([red, green, blue], dtype=np.float64) ** 2.2


def noise(
    rng: np.random.Generator, *, roughness: float = 1.0, stretch: float = 1.0, side: int = SIDE_PX
) -> Float64[np.ndarray, "S S"]:
    """Returns tileable random relief between 0 and 1, about uniformly distributed.

    Args:
        rng: Source of randomness.
        roughness: Falloff exponent of the amplitudes: 0 is white noise, 2 smooth clouds.
        stretch: Above 1, structures are so many times longer along the columns' axis.
        side: Pixels.
    """
    rows = np.fft.fftfreq(side)[:, None] * stretch
    columns = np.fft.rfftfreq(side)[None]
    frequency = np.sqrt(rows**2 + columns**2)
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.normal(size=(side, side))) / frequency**roughness
    relief = np.fft.irfft2(spectrum, s=(side, side))
    # A logistic curve is within 1 % of the normal distribution's own.
    return np.asarray(1 / (1 + np.exp(-1.702 * relief / max(float(relief.std()), 1e-12))))


def pattern(kind: Pattern, rng: np.random.Generator, first: Colour, second: Colour) -> Texture:
    """Returns one tile of a pattern.

    Args:
        kind: Which.
        rng: Source of randomness.
        first: Main colour.
        second: Colour of joints, lines, figures or veins.
    """
    match kind:
        case "speckle":
            return _mix(first, second, noise(rng, roughness=rng.uniform(0.3, 0.9)))
        case "grain":
            return _mix(first, second, noise(rng, roughness=1.0, stretch=8.0) ** 1.5)
        case "planks":
            return _planks(rng, first, second)
        case "bricks":
            return _bricks(rng, first, second)
        case "tiles":
            return _tiles(rng, first, second)
        case "checks":
            return _checks(rng, first, second)
        case "stripes":
            return _stripes(rng, first, second)
        case "dots":
            return _dots(rng, first, second)
        case "marble":
            veins = np.abs(noise(rng, roughness=1.7) - 0.5) * 2
            return _mix(second, first, np.clip(veins * 4, 0, 1) ** 0.5)
        case "weave":
            return _weave(rng, first, second)
        case "patches":
            return _mix(first, second, np.clip((noise(rng, roughness=1.8) - 0.5) * 8 + 0.5, 0, 1))
        case "poster":
            return _poster(rng, first, second)
        case "facade":
            return _facade(rng, first, second)
        case _:
            assert_never(kind)


def _mix(first: Colour, second: Colour, share: Float64[np.ndarray, "S S"]) -> Texture:
    return np.asarray(first + (second - first) * share[..., None], dtype=np.float64)


def _dirt(rng: np.random.Generator, strength: float = 0.25) -> Float64[np.ndarray, "S S 1"]:
    return np.asarray(1 - strength * noise(rng, roughness=0.9)[..., None], dtype=np.float64)


def _position() -> tuple[Float64[np.ndarray, "S 1"], Float64[np.ndarray, "S"]]:
    place = (np.arange(SIDE_PX) + 0.5) / SIDE_PX
    return place[:, None], place


def _cells(
    rng: np.random.Generator, rows: int, columns: int, *, shift: float, joint: float
) -> tuple[Float64[np.ndarray, "S S"], Float64[np.ndarray, "S S"]]:
    """Returns a random value for each cell of a bond, and where its joints are."""
    y, x = _position()
    row = np.floor(y * rows)
    along = x * columns + shift * (row % 2)
    value = rng.random((rows, columns))[row.astype(int), np.floor(along).astype(int) % columns]
    edge = np.minimum((y * rows) % 1, 1 - (y * rows) % 1) / rows
    side = np.minimum(along % 1, 1 - along % 1) / columns
    joints = (np.minimum(edge, side) < joint).astype(np.float64)
    return value, joints


def _planks(rng: np.random.Generator, first: Colour, second: Colour) -> Texture:
    value, joints = _cells(rng, int(rng.integers(4, 9)), 2, shift=0.5, joint=0.006)
    grain = noise(rng, roughness=1.0, stretch=6.0)
    surface = _mix(first, second, 0.55 * value + 0.35 * grain)
    return np.asarray(surface * (1 - 0.7 * joints[..., None]), dtype=np.float64)


def _bricks(rng: np.random.Generator, first: Colour, second: Colour) -> Texture:
    rows = int(rng.choice([6, 8, 10, 12]))
    value, joints = _cells(rng, rows, rows // 2, shift=0.5, joint=0.011)
    bricks = first * (0.65 + 0.6 * value[..., None])
    surface = np.where(joints[..., None] > 0, second, bricks) * _dirt(rng)
    return np.asarray(np.clip(surface, 0.01, 0.9), dtype=np.float64)


def _tiles(rng: np.random.Generator, first: Colour, second: Colour) -> Texture:
    count = int(rng.integers(2, 6))
    value, joints = _cells(rng, count, count, shift=0.0, joint=0.01)
    tiles = first * (0.88 + 0.24 * value[..., None])
    surface = np.where(joints[..., None] > 0, second, tiles) * _dirt(rng, 0.1)
    return np.asarray(np.clip(surface, 0.01, 0.9), dtype=np.float64)


def _checks(rng: np.random.Generator, first: Colour, second: Colour) -> Texture:
    y, x = _position()
    count = 2 * int(rng.integers(1, 5))
    odd = (np.floor(y * count) + np.floor(x * count)) % 2
    return np.asarray(_mix(first, second, odd) * _dirt(rng, 0.15), dtype=np.float64)


def _stripes(rng: np.random.Generator, first: Colour, second: Colour) -> Texture:
    y, x = _position()
    count, share = int(rng.integers(3, 12)), rng.uniform(0.25, 0.6)
    line = (x * count) % 1 < share
    if rng.random() < 0.3:
        line = line ^ ((y * count) % 1 < share)
    return np.asarray(_mix(first, second, np.broadcast_to(line, (SIDE_PX, SIDE_PX)).astype(float)))


def _dots(rng: np.random.Generator, first: Colour, second: Colour) -> Texture:
    y, x = _position()
    count, radius = int(rng.integers(3, 8)), rng.uniform(0.2, 0.4)
    along = x * count + 0.5 * (np.floor(y * count) % 2)
    distance = np.hypot(along % 1 - 0.5, (y * count) % 1 - 0.5)
    return _mix(first, second, (distance < radius).astype(np.float64))


def _weave(rng: np.random.Generator, first: Colour, second: Colour) -> Texture:
    y, x = _position()
    count = int(rng.integers(10, 20))
    threads = 0.5 + 0.5 * np.sin(2 * np.pi * x * count) * np.sin(2 * np.pi * y * count)
    return np.asarray(_mix(first, second, threads) * _dirt(rng, 0.3), dtype=np.float64)


def _poster(rng: np.random.Generator, first: Colour, second: Colour) -> Texture:
    y, x = _position()
    surface = _mix(first, second, np.broadcast_to(y, (SIDE_PX, SIDE_PX)) ** 2)
    for _ in range(int(rng.integers(3, 9))):
        colour = hsv(rng.random(), rng.uniform(0.2, 0.9), rng.uniform(0.2, 0.95))
        centre, size = rng.random(2), rng.uniform(0.05, 0.3, 2)
        if rng.random() < 0.5:
            inside = np.hypot(y - centre[0], x - centre[1]) < size[0]
        else:
            inside = (np.abs(y - centre[0]) < size[0]) & (np.abs(x - centre[1]) < size[1])
        surface[inside] = colour
    return surface


def _facade(rng: np.random.Generator, first: Colour, second: Colour) -> Texture:
    """Two storeys of two windows with frames and sills; `second` colours the frames."""
    y, x = _position()
    along, up = (x * 2) % 1, (y * 2) % 1
    width, height = rng.uniform(0.2, 0.4), rng.uniform(0.24, 0.36)
    wall = pattern("bricks", rng, first, first * 0.6) if rng.random() < 0.3 else None
    surface = first * np.ones((SIDE_PX, SIDE_PX, 1)) if wall is None else wall
    surface = surface * _dirt(rng, 0.2)
    frame = (np.abs(along - 0.5) < width + 0.03) & (np.abs(up - 0.5) < height + 0.03)
    surface[frame] = second
    pane = (np.abs(along - 0.5) < width) & (np.abs(up - 0.5) < height)
    pane &= (np.abs(along - 0.5) > 0.015) | (rng.random() < 0.4)
    lit = rng.random((2, 2))[(y * 2).astype(int), (x * 2).astype(int)]
    glass = _mix(hsv(0.58, 0.4, 0.22), hsv(0.56, 0.25, 0.6), lit * (1 - up))
    surface[pane] = glass[pane]
    sill = (np.abs(along - 0.5) < width + 0.06) & (np.abs(up - 0.5 - height - 0.05) < 0.02)
    surface[sill] = second * 0.7
    return np.asarray(surface, dtype=np.float64)
