"""Scenes of the wild domain close at hand: tabletops, halls, glass, and thin structures.

Metres, z up.
"""

import numpy as np

from dav2.rendering import props
from dav2.rendering.foliage import potted_plant, tree
from dav2.rendering.materials import fabric, flooring, glass, masonry, varied, wooden
from dav2.rendering.mesh import box, merge, placed, quad
from dav2.rendering.scene import Light, Material, Part, Scene, Sky, View, moved
from dav2.rendering.solids import ball, cylinder, terrain
from dav2.rendering.textures import hsv


def look(
    rng: np.random.Generator,
    target: tuple[float, float, float],
    *,
    distance: tuple[float, float],
    elevation_deg: tuple[float, float],
    roll_deg: float = 12.0,
    fov_deg: tuple[float, float] = (38.0, 90.0),
    floor_m: float = 0.06,
) -> View:
    """Returns a camera at a random place around a target, not quite centred on it.

    Args:
        rng: Source of randomness.
        target: What to look at.
        distance: Nearest and farthest, metres.
        elevation_deg: Lowest and highest above the target; negative looks up at it.
        roll_deg: Spread of the tilt.
        fov_deg: Narrowest and widest lens.
        floor_m: The camera stays above this height.
    """
    reach, around = rng.uniform(*distance), rng.uniform(0, 2 * np.pi)
    up = np.deg2rad(rng.uniform(*elevation_deg))
    offset = np.array([np.cos(up) * np.cos(around), np.cos(up) * np.sin(around), np.sin(up)])
    eye = np.array(target) + offset * reach
    eye[2] = max(eye[2], floor_m)
    aim = np.array(target) + rng.normal(size=3) * reach * 0.13
    return View(eye, aim, float(rng.normal() * roll_deg), float(rng.uniform(*fov_deg)))


def _panels(rng: np.random.Generator, height_m: float, spread_m: float) -> list[Light]:
    """Returns one to three coloured panels that shine downwards."""
    lights = []
    for _ in range(int(rng.integers(1, 4))):
        side = spread_m * rng.uniform(0.15, 0.5)
        x, y = rng.uniform(-1, 1, 2) * spread_m
        warmth = rng.uniform(-1, 1)
        colour = np.array([1 + 0.35 * warmth, 1.0, 1 - 0.4 * warmth])
        if rng.random() < 0.2:
            colour = hsv(rng.random(), 0.6, 1.0) * 2
        panel = quad((x, y + side, height_m), (side, 0, 0), (0, -side, 0))
        strength = rng.uniform(6, 16) * (height_m / (side + 0.3)) ** 2 * 0.12
        lights.append(Light(panel, colour * min(strength, 60.0)))
    return lights


def tabletop(rng: np.random.Generator, *, num_views: int) -> Scene:
    """Returns things on a table, seen from close by."""
    cloth = fabric(rng, vivid=0.8, tile_m=0.15) if rng.random() < 0.5 else wooden(rng, tile_m=0.5)
    board = box((1.6, 1.6, 0.05), (0, 0, -0.0505))
    floor = quad((-6, -6, -0.8), (12, 0, 0), (0, 12, 0))
    backs = [
        quad((-6, 3 + rng.uniform(0, 2), -0.8), (12, 0, 0), (0, 0, 5)),
        quad((-4 - rng.uniform(0, 2), -6, -0.8), (0, 12, 0), (0, 0, 5)),
        quad((6, 6, -0.8), (0, -12, 0), (0, 0, 5)),
        quad((6, -6, -0.8), (-12, 0, 0), (0, 0, 5)),
    ]
    objects = [
        [Part(board, cloth)],
        [Part(floor, flooring(rng))],
        [Part(merge(backs), varied(rng, tile_m=rng.uniform(0.6, 2.5)))],
    ]
    spots: list[tuple[float, float, float]] = []
    for _ in range(int(rng.integers(9, 24))):
        size = rng.uniform(0.1, 0.4)
        x, y = rng.normal(size=2) * 0.28
        if (
            abs(x) > 0.7
            or abs(y) > 0.7
            or any(np.hypot(x - a, y - b) < 0.45 * (size + c) for a, b, c in spots)
        ):
            continue
        spots.append((x, y, size))
        draw = rng.random()
        if draw < 0.1:
            thing = props.cage(rng, size)
        elif draw < 0.22:
            thing = potted_plant(rng, size * 1.4, varied(rng, tile_m=0.1))
        elif draw < 0.3:
            thing = props.mushroom(rng, size)
        else:
            thing = props.figure(rng, size)
        objects.append(moved(thing, (x, y, 0.0), yaw_deg=float(rng.uniform(0, 360))))
    views = [
        look(rng, (0.0, 0.0, 0.12), distance=(0.35, 1.0), elevation_deg=(2.0, 75.0))
        for _ in range(num_views)
    ]
    return Scene(objects, _panels(rng, 2.6, 1.5), None, views)


def _room(rng: np.random.Generator, width: float, depth: float, height: float) -> list[list[Part]]:
    w, d = width / 2, depth / 2
    walls = [
        quad((-w, d, 0), (width, 0, 0), (0, 0, height)),
        quad((w, -d, 0), (-width, 0, 0), (0, 0, height)),
        quad((-w, -d, 0), (0, depth, 0), (0, 0, height)),
        quad((w, d, 0), (0, -depth, 0), (0, 0, height)),
    ]
    ceiling = quad((-w, d, height), (width, 0, 0), (0, -depth, 0))
    pale = Material(hsv(rng.random(), 0.15, 0.8))
    return [
        [Part(merge(walls), masonry(rng) if rng.random() < 0.5 else varied(rng, tile_m=1.5))],
        [Part(quad((-w, -d, 0), (width, 0, 0), (0, depth, 0)), flooring(rng))],
        [Part(ceiling, pale)],
    ]


def hall(rng: np.random.Generator, *, num_views: int) -> Scene:
    """Returns a columned hall with stairs, arches and exhibits on plinths."""
    width, depth, height = rng.uniform(5, 9), rng.uniform(8, 18), rng.uniform(3.2, 6)
    objects = _room(rng, width, depth, height)
    stone = varied(rng, tile_m=0.8)
    columns = [
        placed(cylinder(0.22, height - 0.002), (x * width * 0.32, y, 0.001))
        for x in (-1, 1)
        for y in np.arange(-depth / 2 + 1.5, depth / 2 - 1, rng.uniform(2.2, 4))
    ]
    objects.append([Part(merge(columns), stone)])
    steps = [
        box((width * 0.5, 0.32, 0.17 * (k + 1)), (0, depth / 2 - 3 + 0.32 * k, 0.0005))
        for k in range(8)
    ]
    objects.append([Part(merge(steps), masonry(rng))])
    for y in rng.uniform(-depth / 2 + 1, depth / 2 - 3.5, 2):
        gate = props.arch(rng, width * rng.uniform(0.35, 0.6), height * rng.uniform(0.5, 0.8))
        objects.append(moved(gate, (0, y, 0.001)))
    for _ in range(int(rng.integers(7, 14))):
        x, y = rng.uniform(-0.42, 0.42) * width, rng.uniform(-0.42, 0.36) * depth
        size, plinth = rng.uniform(0.4, 1.3), rng.uniform(0.0, 0.9)
        base = (
            [Part(box((size * 0.7, size * 0.7, plinth), (0, 0, 0.0005)), stone)]
            if plinth > 0.3
            else []
        )
        lift = plinth + 0.001 if base else 0.001
        draw = rng.random()
        exhibit = props.cage(rng, size) if draw < 0.15 else props.figure(rng, size)
        if draw > 0.85:
            exhibit = props.window_wall(rng, size, 1.6 * size)
        whole = base + moved(exhibit, (0, 0, lift))
        objects.append(moved(whole, (x, y, 0), yaw_deg=float(rng.uniform(0, 360))))
    for _ in range(int(rng.integers(2, 7))):
        place = (
            rng.uniform(-0.3, 0.3) * width,
            rng.uniform(-0.4, 0.4) * depth,
            height * rng.uniform(0.55, 0.9),
        )
        drop = placed(cylinder(0.012, height - place[2], segments=5), place)
        bulb = placed(ball(rng.uniform(0.12, 0.4)), place)
        objects.append(
            [Part(drop, Material(hsv(0.0, 0.0, 0.15))), Part(bulb, varied(rng, tile_m=0.3))]
        )
    views = [
        look(rng, tuple(rng.uniform((-0.3, -0.3, 0.1), (0.3, 0.3, 0.8)) * (width, depth, height)),
             distance=(1.2, min(4.0, 0.45 * width)), elevation_deg=(-30.0, 40.0), floor_m=0.3)
        for _ in range(num_views)
    ]  # fmt: skip
    return Scene(objects, _panels(rng, height - 0.02, width * 0.35), None, views)


def _stage(rng: np.random.Generator, sky: Sky) -> tuple[list[list[Part]], list[Light], Sky | None]:
    """Returns a place to put things: a room, or uneven ground under the sky."""
    if rng.random() < 0.5:
        objects = _room(rng, rng.uniform(5, 8), rng.uniform(5, 8), rng.uniform(3, 4))
        return objects, _panels(rng, 2.95, 1.6), None
    relief = rng.normal(size=(13, 13)) * 0.25
    relief[4:9, 4:9] = -0.02
    ground = terrain(relief, 60.0)
    flat = quad((-4.9, -4.9, 0.0), (9.8, 0, 0), (0, 9.8, 0))
    objects = [
        [Part(ground, varied(rng, tile_m=3.0))],
        [Part(flat, flooring(rng))],
    ]
    for _ in range(5):
        around, reach = rng.uniform(0, 2 * np.pi), rng.uniform(8, 22)
        plant = tree(rng, rng.uniform(2.5, 6), num_leaves=int(rng.choice([0, 250])))
        objects.append(moved(plant, (np.cos(around) * reach, np.sin(around) * reach, -0.3)))
    return objects, [], sky


def glasshouse(rng: np.random.Generator, sky: Sky, *, num_views: int) -> Scene:
    """Returns glass and mirrors: sheets in frames, spheres, bottles, with things behind them."""
    objects, lights, above = _stage(rng, sky)
    for _ in range(int(rng.integers(2, 5))):
        sheet = props.window_wall(rng, rng.uniform(0.7, 1.8), rng.uniform(0.9, 2.2))
        place = (*(rng.uniform(-1.7, 1.7, 2)), 0.001)
        objects.append(moved(sheet, place, yaw_deg=float(rng.uniform(0, 360))))
    shiny = Material(np.array([0.9, 0.9, 0.92]), "mirror")
    for _ in range(int(rng.integers(6, 12))):
        size = rng.uniform(0.15, 0.7)
        place = (*(rng.uniform(-2, 2, 2)), size / 2 + 0.001)
        clear = shiny if rng.random() < 0.4 else glass(rng, pane=False)
        if rng.random() < 0.5:
            objects.append([Part(placed(ball(size / 2), place), clear)])
        else:
            objects.append(moved(props.figure(rng, size), (*place[:2], 0.001)))
    low = 0.05
    views = [
        look(rng, (*rng.uniform(-0.6, 0.6, 2), rng.uniform(0.2, 1.2)), distance=(1.2, 2.4),
             elevation_deg=(-10.0, 60.0), floor_m=low)
        for _ in range(num_views)
    ]  # fmt: skip
    return Scene(objects, lights, above, views)


def lattice(rng: np.random.Generator, sky: Sky, *, num_views: int) -> Scene:
    """Returns cages, nets, ladders and wires before other things."""
    objects, lights, above = _stage(rng, sky)
    for _ in range(int(rng.integers(3, 7))):
        place = (*(rng.uniform(-1.8, 1.8, 2)), 0.001)
        thing = props.cage(rng, rng.uniform(0.6, 2.2))
        objects.append(moved(thing, place, yaw_deg=float(rng.uniform(0, 360))))
    for _ in range(int(rng.integers(3, 7))):
        place = (*(rng.uniform(-2.2, 2.2, 2)), 0.001)
        objects.append(moved(props.figure(rng, rng.uniform(0.25, 0.8)), place))
    if rng.random() < 0.6:
        bare = tree(rng, rng.uniform(1.8, 2.8), num_leaves=0)
        objects.append(moved(bare, (*rng.uniform(-1.5, 1.5, 2), 0.0)))
    views = [
        look(rng, (*rng.uniform(-0.7, 0.7, 2), rng.uniform(0.3, 1.3)), distance=(0.9, 2.4),
             elevation_deg=(-15.0, 55.0))
        for _ in range(num_views)
    ]  # fmt: skip
    return Scene(objects, lights, above, views)
