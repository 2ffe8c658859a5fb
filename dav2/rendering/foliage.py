"""Plants: trees of leaf cards on branches, conifers, bushes, grass, and plants in pots.

Axes: N leaves or blades. Metres, z up; every plant stands on the origin.
"""

import itertools

import numpy as np
from jaxtyping import Float64

from dav2.rendering.mesh import Mesh, cards, merge, placed
from dav2.rendering.scene import Material, Part
from dav2.rendering.solids import cylinder, lathe, rounded, tube
from dav2.rendering.textures import hsv, pattern


def leafage(rng: np.random.Generator, *, season: float = 0.0) -> Material:
    """Returns the colour of leaves: green at season 0, towards autumn at 1."""
    hue = rng.uniform(0.22, 0.36) * (1 - season) + rng.uniform(0.0, 0.13) * season
    bright = hsv(hue, rng.uniform(0.5, 0.8), rng.uniform(0.4, 0.7))
    return Material(pattern("speckle", rng, bright, bright * 0.35), tile_m=1.5)


def bark(rng: np.random.Generator) -> Material:
    """Returns the colour of trunks and branches."""
    shade = hsv(rng.uniform(0.04, 0.1), rng.uniform(0.15, 0.5), rng.uniform(0.2, 0.55))
    return Material(pattern("grain", rng, shade, shade * 0.4), tile_m=0.6)


def tree(rng: np.random.Generator, height_m: float, *, num_leaves: int = 500) -> list[Part]:
    """Returns a broad-leaved tree; with no leaves it stands bare."""
    trunk = height_m * rng.uniform(0.25, 0.4)
    thickness = height_m * rng.uniform(0.018, 0.032)
    top = np.array([*(rng.normal(size=2) * 0.04 * height_m), height_m * 0.85])
    limbs: list[Mesh] = [
        tube([[0, 0, 0], [0, 0, trunk], top.tolist()], thickness, end_radius=thickness * 0.2)
    ]
    tips = [top]
    for _ in range(int(rng.integers(5, 9))):
        angle, reach = rng.uniform(0, 2 * np.pi), height_m * rng.uniform(0.18, 0.36)
        start = np.array([0, 0, trunk]) + (top - [0, 0, trunk]) * rng.uniform(0, 0.7)
        out = np.array([np.cos(angle), np.sin(angle), rng.uniform(0.4, 1)])
        tip = start + out * reach
        middle = (start + tip) / 2 - [0, 0, 0.12 * reach]
        path = [start.tolist(), middle.tolist(), tip.tolist()]
        limbs.append(tube(path, thickness * 0.45, end_radius=thickness * 0.12, segments=5))
        tips.append(tip)
    parts = [Part(merge(limbs), bark(rng))]
    if num_leaves:
        centres = np.array(tips)[rng.integers(len(tips), size=num_leaves)]
        centres = centres + rng.normal(size=(num_leaves, 3)) * height_m * (0.1, 0.1, 0.075)
        leaves = _leaves(rng, centres, height_m * rng.uniform(0.018, 0.03))
        parts.append(Part(leaves, leafage(rng, season=float(rng.random() < 0.2))))
    return parts


def conifer(rng: np.random.Generator, height_m: float) -> list[Part]:
    """Returns a conifer: ragged skirts around a trunk."""
    num_skirts, width = int(rng.integers(5, 8)), height_m * rng.uniform(0.16, 0.26)
    skirts = []
    for index in range(num_skirts):
        low = 0.12 + 0.8 * index / num_skirts
        radius = width * (1.02 - low) * rng.uniform(0.85, 1.1)
        profile = [(radius, low * height_m), (0.02, min(low + 0.3, 1.0) * height_m)]
        skirts.append(placed(lathe(profile, segments=9), yaw_deg=float(rng.uniform(0, 90))))
    needles = hsv(rng.uniform(0.3, 0.42), 0.5, rng.uniform(0.25, 0.45))
    surface = Material(pattern("speckle", rng, needles, needles * 0.3), tile_m=1.0)
    trunk = cylinder(height_m * 0.02, height_m * 0.3)
    return [Part(trunk, bark(rng)), Part(merge(skirts), surface)]


def bush(rng: np.random.Generator, size_m: float) -> list[Part]:
    """Returns a round bush."""
    num_leaves = 260
    direction = rng.normal(size=(num_leaves, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    centres = direction * size_m * 0.5 * rng.uniform(0.6, 1, (num_leaves, 1))
    centres[:, 2] = np.abs(centres[:, 2]) * rng.uniform(0.8, 1.6)
    green = leafage(rng)
    heart = rounded([size_m * 0.8, size_m * 0.8, size_m * 0.6], squareness=1.0, segments=10)
    return [
        Part(_leaves(rng, centres, size_m * 0.07), green),
        Part(heart, Material(hsv(0.3, 0.6, 0.2))),
    ]


def grass(rng: np.random.Generator, positions: Float64[np.ndarray, "N 3"], height_m: float) -> Part:
    """Returns one blade of grass at each position, leaning its own way."""
    num = len(positions)
    angle = rng.uniform(0, 2 * np.pi, num)
    lean = rng.normal(size=(num, 2)) * 0.35
    length = height_m * rng.uniform(0.5, 1.2, num)[:, None] / 2
    half_v = np.concatenate([lean, np.ones((num, 1))], axis=1) * length
    half_u = np.stack([np.cos(angle), np.sin(angle), np.zeros(num)], axis=1) * height_m * 0.05
    return Part(cards(positions + half_v, half_u, half_v), leafage(rng))


def potted_plant(rng: np.random.Generator, height_m: float, pot: Material) -> list[Part]:
    """Returns a plant with long leaves in a pot."""
    radius, rim = height_m * rng.uniform(0.13, 0.2), height_m * rng.uniform(0.25, 0.35)
    profile = [(0, 0), (radius * 0.7, 0), (radius * 0.7, 0), (radius, rim), (radius * 0.85, rim),
               (radius * 0.8, rim * 0.85), (0, rim * 0.85)]  # fmt: skip
    leaves = []
    for _ in range(int(rng.integers(9, 18))):
        angle, reach = rng.uniform(0, 2 * np.pi), height_m * rng.uniform(0.15, 0.4)
        top = rim + (height_m - rim) * rng.uniform(0.5, 1)
        out = np.array([np.cos(angle), np.sin(angle), 0])
        side = np.array([-np.sin(angle), np.cos(angle), 0]) * height_m * 0.035
        path = [
            np.array([0, 0, rim * 0.8]),
            out * reach * 0.4 + [0, 0, top],
            out * reach + [0, 0, top * 0.85],
        ]
        for width, (start, end) in zip((0.6, 1.0), itertools.pairwise(path), strict=True):
            leaves.append(
                cards(((start + end) / 2)[None], side[None] * width, ((end - start) / 2)[None])
            )
    return [Part(lathe(profile), pot), Part(merge(leaves), leafage(rng))]


def _leaves(rng: np.random.Generator, centres: Float64[np.ndarray, "N 3"], size_m: float) -> Mesh:
    first = rng.normal(size=centres.shape)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(first, rng.normal(size=centres.shape))
    second /= np.linalg.norm(second, axis=1, keepdims=True)
    size = size_m * rng.uniform(0.7, 1.5, (len(centres), 1))
    return cards(centres, first * size, second * size * 0.6)
