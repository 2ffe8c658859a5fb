"""Cars, vans and what stands along a road, each on the origin and facing +y.

Metres, z up.
"""

import numpy as np

from dav2.rendering.materials import metallic, painted
from dav2.rendering.mesh import Mesh, box, merge, placed, quad
from dav2.rendering.scene import Material, Part
from dav2.rendering.solids import cylinder, rounded, tube
from dav2.rendering.textures import hsv, pattern

DARK = Material(hsv(0.6, 0.15, 0.16), "plastic")
RUBBER = Material(hsv(0.0, 0.0, 0.12))


def car(rng: np.random.Generator) -> list[Part]:
    """Returns a car or a van: body, windows, wheels, lamps."""
    van = rng.random() < 0.25
    length, width = rng.uniform(3.7, 5.2), rng.uniform(1.7, 1.95)
    height = rng.uniform(1.9, 2.4) if van else rng.uniform(1.35, 1.6)
    belt = 0.9 if van else 0.62
    paint = painted(rng, vivid=0.95)
    lacquer = Material(paint.colour, "plastic")
    body = placed(rounded((width, length, belt), squareness=0.22), (0, 0, 0.28))
    back = -0.06 if van else -rng.uniform(0.02, 0.08)
    cabin_length = length * (0.85 if van else rng.uniform(0.45, 0.62))
    cabin = rounded((width * 0.88, cabin_length, 2 * (height - 0.28 - belt * 0.6)), squareness=0.35)
    roof = rounded((width * 0.78, cabin_length * 0.72, 0.12), squareness=0.3)
    parts = [
        Part(body, lacquer),
        Part(placed(cabin, (0, length * back, 0.28 + belt - (height - 0.28 - belt * 0.6))), DARK),
        Part(placed(roof, (0, length * back, height - 0.1)), lacquer),
    ]
    if van:
        load = box((width * 0.97, length * 0.62, height - 0.75), (0, -length * 0.17, 0.7))
        parts.append(Part(load, lacquer))
    wheels, hubs = [], []
    for x in (-1, 1):
        for y in (-0.31, 0.31):
            place = (x * (width / 2 - 0.1) - 0.11, y * length, 0.33)
            wheels.append(placed(cylinder(0.33, 0.22, segments=14), place, pitch_deg=90.0))
            hubs.append(
                placed(
                    cylinder(0.18, 0.24, segments=10), (place[0] - 0.01, *place[1:]), pitch_deg=90.0
                )
            )
    parts += [Part(merge(wheels), RUBBER), Part(merge(hubs), metallic(rng))]
    for y, colour in ((0.49, hsv(0.15, 0.1, 0.95)), (-0.49, hsv(0.0, 0.9, 0.8))):
        lamps = [
            placed(rounded((0.3, 0.12, 0.16)), (x * width * 0.36, y * length, 0.62))
            for x in (-1, 1)
        ]
        parts.append(Part(merge(lamps), Material(colour, "plastic")))
    return parts


def lamp_post(rng: np.random.Generator) -> list[Part]:
    """Returns a street lamp whose arm reaches towards +x."""
    height, reach = rng.uniform(4.5, 8), rng.uniform(0.8, 2.2)
    pole = tube([[0, 0, 0], [0, 0, height * 0.9]], 0.09, end_radius=0.05)
    arm = tube([[0, 0, height * 0.9], [reach * 0.3, 0, height], [reach, 0, height]], 0.04)
    head = box((0.6, 0.2, 0.1), (reach, 0, height - 0.06))
    return [Part(merge([pole, arm]), metallic(rng)), Part(head, Material(hsv(0.0, 0.0, 0.4)))]


def sign(rng: np.random.Generator) -> list[Part]:
    """Returns a road sign, or traffic lights, that face -y."""
    height = rng.uniform(2.0, 3.0)
    parts = [Part(tube([[0, 0, 0], [0, 0, height]], 0.035), metallic(rng))]
    draw = rng.random()
    if draw < 0.3:
        parts.append(Part(box((0.3, 0.2, 0.85), (0, -0.12, height - 0.85)), DARK))
        for index, hue in enumerate((0.38, 0.13, 0.0)):
            lens = placed(
                cylinder(0.09, 0.06, segments=10),
                (0, -0.22, height - 0.7 + 0.26 * index),
                roll_deg=90.0,
            )
            parts.append(Part(lens, Material(hsv(hue, 0.95, rng.uniform(0.3, 0.95)), "plastic")))
    elif draw < 0.65:
        rim, face = hsv(rng.choice([0.0, 0.6]), 0.9, 0.75), hsv(0.1, 0.05, 0.9)
        for radius, off, colour in ((0.32, 0.05, rim), (0.24, 0.07, face)):
            disc = placed(
                cylinder(radius, 0.02, segments=18), (0, -off, height - 0.3), roll_deg=90.0
            )
            parts.append(Part(disc, Material(colour)))
    else:
        board = hsv(rng.choice([0.35, 0.6, 0.12]), 0.8, 0.6)
        look = pattern("poster", rng, board, board * 0.8)
        width = rng.uniform(0.6, 1.6)
        parts.append(
            Part(box((width, 0.03, 0.6), (0, -0.06, height - 0.6)), Material(look, tile_m=width))
        )
    return parts


def fence(rng: np.random.Generator, length_m: float) -> list[Part]:
    """Returns a fence of thin bars along y."""
    height, gap = rng.uniform(0.9, 1.6), rng.uniform(0.13, 0.3)
    bars: list[Mesh] = [
        box((0.02, 0.02, height), (0, y, 0)) for y in np.arange(-length_m / 2, length_m / 2, gap)
    ]
    bars += [box((0.03, length_m, 0.04), (0, 0, level * height)) for level in (0.15, 0.9)]
    return [Part(merge(bars), metallic(rng) if rng.random() < 0.5 else painted(rng))]


def walker(rng: np.random.Generator) -> list[Part]:
    """Returns a person, plainly shaped."""
    height = rng.uniform(1.55, 1.9)
    coat, trousers = painted(rng, vivid=0.8), painted(rng, vivid=0.4)
    stride = rng.uniform(0.05, 0.3)
    legs = [
        tube([[x, y, 0], [x * 0.8, 0, height * 0.5]], 0.07, end_radius=0.09)
        for x, y in ((-0.1, stride), (0.1, -stride))
    ]
    arms = [
        tube([[x, y, height * 0.45], [x * 0.85, 0, height * 0.8]], 0.045)
        for x, y in ((-0.3, -stride), (0.3, stride))
    ]
    trunk = placed(rounded((0.45, 0.26, height * 0.4), squareness=0.7), (0, 0, height * 0.46))
    head = placed(rounded((0.19, 0.21, 0.26), squareness=0.9), (0, 0, height - 0.26))
    skin = Material(hsv(rng.uniform(0.04, 0.08), rng.uniform(0.3, 0.6), rng.uniform(0.3, 0.85)))
    return [Part(merge(legs), trousers), Part(merge([trunk, *arms]), coat), Part(head, skin)]


def building(
    rng: np.random.Generator, width_m: float, depth_m: float, height_m: float
) -> list[Part]:
    """Returns a house or block with rows of windows and a flat or pitched roof, centred in y."""
    wall = hsv(rng.uniform(0.0, 0.15), rng.uniform(0.05, 0.5), rng.uniform(0.35, 0.9))
    look = pattern("facade", rng, wall, hsv(0.1, 0.1, rng.uniform(0.3, 0.9)))
    storey = rng.uniform(2.7, 3.4)
    height = storey * max(1, round(height_m / storey))
    parts = [Part(box((depth_m, width_m, height)), Material(look, tile_m=2.0 * storey))]
    tiles = hsv(rng.choice([0.02, 0.05, 0.6]), rng.uniform(0.1, 0.6), rng.uniform(0.2, 0.5))
    roof = Material(pattern("tiles", rng, tiles, tiles * 0.5), tile_m=2.0)
    x, y, rise = depth_m / 2 + 0.3, width_m / 2 + 0.3, rng.uniform(1.2, 3.0)
    if height_m < 12 and rng.random() < 0.7:
        slopes = [
            quad((-x, -y, height), (0, 2 * y, 0), (x, 0, rise)),
            quad((x, y, height), (0, -2 * y, 0), (-x, 0, rise)),
        ]
        parts.append(Part(merge(slopes), roof))
        gable = np.array([[-x, 0, 0], [x, 0, 0], [0, 0, rise]])
        ends = [
            Mesh(
                gable + np.array([0, side, height]),
                np.tile([0.0, np.sign(side), 0.0], (3, 1)),
                gable[:, [0, 2]],
                np.array([[0, 1, 2]]),
            )
            for side in (-y + 0.25, y - 0.25)
        ]
        parts.append(Part(merge(ends), Material(wall)))
    else:
        parts.append(Part(box((depth_m + 0.4, width_m + 0.4, 0.5), (0, 0, height)), roof))
    awnings = [
        quad((depth_m / 2, at, 2.9), (0, 2.2, 0), (1.1, 0, -0.5))
        for at in np.arange(-width_m / 2 + 1, width_m / 2 - 3, 4.0)
        if rng.random() < 0.3
    ]
    if awnings:
        parts.append(Part(merge(awnings), painted(rng, vivid=0.9)))
    return parts
