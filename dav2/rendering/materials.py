"""Random materials of the kinds that rooms, streets and landscapes need."""

import numpy as np

from dav2.rendering.scene import Finish, Material
from dav2.rendering.textures import Pattern, hsv, pattern


def painted(rng: np.random.Generator, *, vivid: float = 0.4) -> Material:
    """Returns one plain colour, matte, satin or lacquered.

    Args:
        rng: Source of randomness.
        vivid: Largest saturation.
    """
    colour = hsv(rng.random(), rng.uniform(0.05, 1) * vivid, rng.uniform(0.25, 0.9))
    draw = rng.random()
    if draw < 0.5:
        return Material(colour)
    if draw < 0.75:
        return Material(colour, "satin", roughness=rng.uniform(0.2, 0.5))
    return Material(colour, "plastic")


def wooden(rng: np.random.Generator, *, tile_m: float = 0.8) -> Material:
    """Returns wood with grain, from pale to dark."""
    hue, value = rng.uniform(0.04, 0.11), rng.uniform(0.25, 0.8)
    light = hsv(hue, rng.uniform(0.3, 0.65), value)
    dark = hsv(hue - 0.01, 0.6, value * rng.uniform(0.45, 0.75))
    finish: Finish = "satin" if rng.random() < 0.5 else "matte"
    return Material(
        pattern("grain", rng, light, dark), finish, roughness=rng.uniform(0.3, 0.5), tile_m=tile_m
    )


def fabric(rng: np.random.Generator, *, vivid: float = 0.6, tile_m: float = 0.5) -> Material:
    """Returns woven, striped, dotted or checked cloth."""
    hue = rng.random()
    first = hsv(hue, rng.uniform(0.1, 1) * vivid, rng.uniform(0.3, 0.85))
    second = hsv(hue + rng.normal() * 0.15, rng.uniform(0.1, 1) * vivid, rng.uniform(0.15, 0.9))
    kinds: tuple[Pattern, ...] = ("weave", "weave", "stripes", "dots", "checks", "speckle")
    return Material(pattern(kinds[rng.integers(len(kinds))], rng, first, second), tile_m=tile_m)


def metallic(rng: np.random.Generator) -> Material:
    """Returns steel, brass or copper, brushed or bright."""
    tint = [np.array([0.75, 0.75, 0.78]), np.array([0.8, 0.62, 0.3]), np.array([0.8, 0.5, 0.36])]
    colour = tint[rng.choice(3, p=[0.7, 0.2, 0.1])] * rng.uniform(0.7, 1.0)
    return Material(colour, "metal", roughness=rng.uniform(0.08, 0.35))


def masonry(rng: np.random.Generator, *, tile_m: float = 1.2) -> Material:
    """Returns brick, stone blocks, plaster or concrete."""
    hue, saturation = rng.uniform(0.0, 0.13), rng.uniform(0.05, 0.5)
    first = hsv(hue, saturation, rng.uniform(0.4, 0.85))
    second = hsv(0.1, 0.06, rng.uniform(0.4, 0.75))
    kinds: tuple[Pattern, ...] = ("bricks", "bricks", "tiles", "speckle", "patches", "grain")
    return Material(pattern(kinds[rng.integers(len(kinds))], rng, first, second), tile_m=tile_m)


def flooring(rng: np.random.Generator) -> Material:
    """Returns planks, tiles, marble or carpet."""
    draw = rng.random()
    if draw < 0.4:
        hue, value = rng.uniform(0.05, 0.1), rng.uniform(0.35, 0.8)
        surface = pattern("planks", rng, hsv(hue, 0.45, value), hsv(hue, 0.55, value * 0.6))
        return Material(surface, "satin", roughness=rng.uniform(0.25, 0.5), tile_m=1.2)
    first = hsv(rng.random(), rng.uniform(0, 0.3), rng.uniform(0.4, 0.85))
    second = hsv(rng.random(), rng.uniform(0, 0.2), rng.uniform(0.2, 0.6))
    if draw < 0.75:
        kinds: tuple[Pattern, ...] = ("tiles", "checks", "marble")
        kind = kinds[rng.integers(3)]
        return Material(
            pattern(kind, rng, first, second), "satin", roughness=0.2, tile_m=rng.uniform(0.8, 2)
        )
    return fabric(rng, tile_m=rng.uniform(0.5, 1.5))


def varied(rng: np.random.Generator, *, tile_m: float = 0.7) -> Material:
    """Returns any pattern in any two colours with any finish: the loud surfaces of the wild."""
    kinds: tuple[Pattern, ...] = (
        "speckle", "grain", "checks", "stripes", "dots", "marble", "weave", "patches", "poster",
    )  # fmt: skip
    hue = rng.random()
    first = hsv(hue, rng.uniform(0.2, 0.9), rng.uniform(0.35, 0.95))
    second = hsv(hue + rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.8), rng.uniform(0.1, 0.9))
    surface = pattern(kinds[rng.integers(len(kinds))], rng, first, second)
    draw = rng.random()
    if draw < 0.6:
        return Material(surface, tile_m=tile_m)
    if draw < 0.9:
        return Material(surface, "satin", roughness=rng.uniform(0.1, 0.5), tile_m=tile_m)
    return Material(surface, "metal", roughness=rng.uniform(0.1, 0.4), tile_m=tile_m)


def glass(rng: np.random.Generator, *, pane: bool) -> Material:
    """Returns clear or slightly tinted glass, a sheet or a solid body."""
    tint = 1 - rng.uniform(0, 0.25) * rng.random(3)
    return Material(tint, "pane" if pane else "glass")
