"""Furniture and household things, each standing on the origin and facing -y.

Metres, z up.
"""

import numpy as np

from dav2.rendering.materials import fabric, glass, metallic, painted, wooden
from dav2.rendering.mesh import Mesh, box, merge, placed
from dav2.rendering.scene import Material, Part, moved
from dav2.rendering.solids import ball, cylinder, lathe, rounded, tube
from dav2.rendering.textures import hsv


def table(rng: np.random.Generator) -> list[Part]:
    """Returns a table with round or square legs; some tops are glass."""
    width, depth, height = rng.uniform(0.9, 1.8), rng.uniform(0.6, 0.9), rng.uniform(0.42, 0.78)
    legs = painted(rng) if rng.random() < 0.4 else wooden(rng)
    clear = rng.random() < 0.25
    top = Part(
        box((width, depth, 0.03), (0, 0, height)), glass(rng, pane=False) if clear else wooden(rng)
    )
    x, y = width / 2 - 0.07, depth / 2 - 0.07
    corners = [(x, y), (-x, y), (-x, -y), (x, -y)]
    if rng.random() < 0.5:
        posts = [placed(cylinder(0.025, height, segments=8), (*corner, 0)) for corner in corners]
    else:
        posts = [box((0.06, 0.06, height), (*corner, 0)) for corner in corners]
    parts = [top, Part(merge(posts), metallic(rng) if clear else legs)]
    for _ in range(int(rng.integers(1, 5))):
        place = (rng.uniform(-0.4, 0.4) * width, rng.uniform(-0.35, 0.35) * depth, height + 0.031)
        parts += moved(trinket(rng), place, yaw_deg=rng.uniform(0, 360))
    return parts


def chair(rng: np.random.Generator) -> list[Part]:
    """Returns a chair with a back of thin rods or one board."""
    seat, back = rng.uniform(0.42, 0.48), rng.uniform(0.35, 0.55)
    frame = wooden(rng) if rng.random() < 0.6 else metallic(rng)
    rods = [
        placed(cylinder(0.018, seat if y < 0 else seat + back, segments=8), (x, y, 0))
        for x in (-0.19, 0.19)
        for y in (-0.19, 0.19)
    ]
    if rng.random() < 0.5:
        rods += [
            placed(cylinder(0.008, back, segments=6), (x, 0.19, seat))
            for x in np.linspace(-0.13, 0.13, int(rng.integers(3, 6)))
        ]
        rods.append(box((0.4, 0.025, 0.07), (0, 0.19, seat + back - 0.06)))
    else:
        rods.append(box((0.36, 0.02, back * 0.6), (0, 0.19, seat + back * 0.35)))
    cushion = fabric(rng) if rng.random() < 0.6 else frame
    return [Part(merge(rods), frame), Part(box((0.44, 0.44, 0.04), (0, 0, seat - 0.02)), cushion)]


def sofa(rng: np.random.Generator) -> list[Part]:
    """Returns an armchair or a sofa with cushions."""
    width, depth = rng.uniform(0.9, 2.2), rng.uniform(0.8, 0.95)
    cloth = fabric(rng, tile_m=rng.uniform(0.2, 0.8))
    pieces = [
        placed(rounded((width, depth, 0.42), squareness=0.2), (0, 0, 0.05)),
        placed(rounded((width, 0.25, 0.8), squareness=0.25), (0, depth / 2 - 0.1, 0.05)),
    ]
    for side in (-1, 1):
        arm = rounded((0.22, depth, 0.6), squareness=0.25)
        pieces.append(placed(arm, (side * (width / 2 - 0.05), 0, 0.05)))
    parts = [Part(merge(pieces), cloth)]
    for x in rng.uniform(-0.35, 0.35, int(rng.integers(0, 4))) * width:
        cushion = placed(
            rounded((0.4, 0.14, 0.4), squareness=0.6),
            (x, depth / 2 - 0.3, 0.45),
            roll_deg=-15.0,
            yaw_deg=float(rng.uniform(-20, 20)),
        )
        parts.append(Part(cushion, fabric(rng, vivid=0.9)))
    return parts


def bed(rng: np.random.Generator) -> list[Part]:
    """Returns a bed with a blanket and pillows."""
    width = rng.uniform(0.9, 1.7)
    frame = [box((width + 0.1, 2.1, 0.25)), box((width + 0.1, 0.06, 0.95), (0, 1.05, 0))]
    blanket = placed(rounded((width + 0.06, 1.6, 0.3), squareness=0.2), (0, -0.22, 0.3))
    mattress = box((width, 2.0, 0.22), (0, 0, 0.25))
    parts = [
        Part(merge(frame), wooden(rng)),
        Part(blanket, fabric(rng, vivid=0.8)),
        Part(mattress, Material(hsv(0.1, 0.05, 0.85))),
    ]
    pillow = fabric(rng, vivid=0.3)
    for x in (-width / 4, width / 4):
        parts.append(
            Part(
                placed(rounded((width * 0.42, 0.4, 0.15), squareness=0.5), (x, 0.75, 0.46)), pillow
            )
        )
    return parts


def shelf(rng: np.random.Generator) -> list[Part]:
    """Returns shelves with books and things, closed or open at the back."""
    width, depth, height = rng.uniform(0.7, 1.6), 0.32, rng.uniform(1.0, 2.2)
    num_boards = int(height / 0.36)
    boards = [box((0.03, depth, height), (x, 0, 0)) for x in (-width / 2, width / 2)]
    levels = np.linspace(0.05, height - 0.03, num_boards + 1)
    boards += [box((width - 0.03, depth, 0.025), (0, 0, level)) for level in levels]
    if rng.random() < 0.6:
        boards.append(box((width, 0.015, height), (0, depth / 2, 0)))
    parts = [Part(merge(boards), wooden(rng) if rng.random() < 0.7 else painted(rng))]
    covers = [painted(rng, vivid=0.85) for _ in range(5)]
    books: list[list[Mesh]] = [[] for _ in covers]
    for level in levels[:-1]:
        x = -width / 2 + 0.04
        while x < width / 2 - 0.1:
            if rng.random() < 0.1:
                parts += moved(trinket(rng), (x + 0.08, 0, level + 0.026), scale=0.8)
                x += 0.2
                continue
            thick, tall = rng.uniform(0.02, 0.06), rng.uniform(0.17, 0.29)
            place = (x + thick / 2, -0.03, level + 0.025)
            books[rng.integers(5)].append(box((thick * 0.95, rng.uniform(0.16, 0.24), tall), place))
            x += thick + (rng.uniform(0.02, 0.25) if rng.random() < 0.12 else 0)
    return parts + [
        Part(merge(pile), cover) for pile, cover in zip(books, covers, strict=True) if pile
    ]


def cabinet(rng: np.random.Generator) -> list[Part]:
    """Returns a chest of drawers or a wardrobe with knobs."""
    width, depth = rng.uniform(0.6, 1.4), rng.uniform(0.35, 0.6)
    height = rng.uniform(0.5, 2.1)
    body, front = wooden(rng), painted(rng) if rng.random() < 0.5 else wooden(rng)
    rows, columns = max(1, int(height / rng.uniform(0.25, 0.9))), int(rng.integers(1, 4))
    doors, knobs = [], []
    for row in range(rows):
        for column in range(columns):
            size = (width / columns - 0.02, 0.02, (height - 0.1) / rows - 0.02)
            place = ((column + 0.5) / columns * width - width / 2, -depth / 2 - 0.01,
                     0.06 + row * (height - 0.1) / rows)  # fmt: skip
            doors.append(box(size, place))
            knobs.append(
                placed(ball(0.018, segments=8), (place[0], place[1] - 0.03, place[2] + size[2] / 2))
            )
    parts = [
        Part(box((width, depth, height)), body),
        Part(merge(doors), front),
        Part(merge(knobs), metallic(rng)),
    ]
    for _ in range(int(rng.integers(0, 3))):
        parts += moved(trinket(rng), (rng.uniform(-0.35, 0.35) * width, 0, height + 0.001))
    return parts


def rack(rng: np.random.Generator) -> list[Part]:
    """Returns thin structures: a drying rack, a clothes stand, a ladder or a screen of rods."""
    rods: list[Mesh] = []
    height, width = rng.uniform(0.9, 1.9), rng.uniform(0.4, 1.1)
    radius = rng.uniform(0.006, 0.016)
    ends = np.array([[-width / 2, 0, 0], [width / 2, 0, 0]])
    upright = np.array([0, rng.uniform(-0.25, 0.25) * height, height])
    rods += [tube(np.stack([end, end + upright]), radius * 1.5) for end in ends]
    num = int(rng.integers(4, 12))
    for share in np.linspace(0.1, 0.97, num):
        rods.append(tube(ends + upright * share, radius))
    if rng.random() < 0.5:
        for share in np.linspace(0.1, 0.9, int(rng.integers(4, 14))):
            foot = ends[0] + (ends[1] - ends[0]) * share
            rods.append(tube(np.stack([foot, foot + upright]), radius * 0.8))
    frame = metallic(rng) if rng.random() < 0.6 else painted(rng, vivid=0.8)
    return [Part(merge(rods), frame)]


def trinket(rng: np.random.Generator) -> list[Part]:
    """Returns something small: a vase, a glass, a ball, a box, a pile of books, a bowl."""
    kind, size = rng.integers(6), rng.uniform(0.12, 0.32)
    if kind == 0:
        radii = size * rng.uniform(0.12, 0.42, 5)
        profile = [(0.0, 0.0), *zip(radii, np.linspace(0, size, 5), strict=True)]
        return [Part(lathe(profile), painted(rng, vivid=0.9))]
    if kind == 1:
        return [Part(cylinder(size * 0.22, size * 0.8, top=size * 0.28), glass(rng, pane=False))]
    if kind == 2:
        shiny = metallic(rng) if rng.random() < 0.3 else painted(rng, vivid=0.9)
        return [Part(placed(ball(size * 0.35), (0, 0, size * 0.35)), shiny)]
    if kind == 3:
        return [Part(box(tuple(size * rng.uniform(0.4, 1, 3))), fabric(rng, vivid=0.9))]
    if kind == 4:
        books = []
        for index in range(int(rng.integers(2, 5))):
            cover = box((0.24, 0.17, 0.035), (0, 0, index * 0.036))
            books.append(
                Part(placed(cover, yaw_deg=float(rng.uniform(-25, 25))), painted(rng, vivid=0.9))
            )
        return books
    bowl = [
        (0, 0),
        (size * 0.25, 0),
        (size * 0.5, size * 0.35),
        (size * 0.46, size * 0.35),
        (0, size * 0.06),
    ]
    return [Part(lathe(bowl), painted(rng, vivid=0.7))]
