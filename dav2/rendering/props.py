"""Things of the wild domain: shapes that neither rooms nor streets have. Each on the origin.

Metres, z up.
"""

import itertools

import numpy as np

from dav2.rendering.materials import glass, metallic, varied, wooden
from dav2.rendering.mesh import Mesh, box, merge, placed, quad
from dav2.rendering.scene import Material, Part
from dav2.rendering.solids import ball, cylinder, lathe, rock, rounded, tube
from dav2.rendering.textures import hsv, pattern


def figure(rng: np.random.Generator, size_m: float) -> list[Part]:
    """Returns an abstract or everyday solid of about `size_m`, in loud colours."""
    surface = varied(rng, tile_m=size_m * rng.uniform(0.3, 1.2))
    draw = rng.random()
    if draw < 0.12:
        surface = metallic(rng)
    elif draw < 0.2:
        surface = glass(rng, pane=False)
    match int(rng.integers(9)):
        case 0:
            turns = np.linspace(0, 2 * np.pi, 25)
            ring = np.stack([np.cos(turns) * 0.36, 0 * turns, np.sin(turns) * 0.36 + 0.46], axis=1)
            mesh = tube((ring * size_m).tolist(), 0.11 * size_m, segments=10)
        case 1:
            turns = np.linspace(0, 2 * np.pi * rng.uniform(2, 5), 60)
            coil = np.stack([np.cos(turns), np.sin(turns), turns / turns[-1] * 2.6], axis=1)
            mesh = placed(
                tube((coil * 0.3 * size_m).tolist(), 0.07 * size_m), (0, 0, 0.07 * size_m)
            )
        case 2:
            heights = np.linspace(0, size_m, 14)
            wave = 0.25 + 0.12 * np.sin(heights / size_m * rng.uniform(4, 12) + rng.uniform(0, 6))
            mesh = lathe([(0, 0), *zip(wave * size_m, heights, strict=True)], segments=18)
        case 3:
            mesh = placed(
                rounded((0.7 * size_m, 0.7 * size_m, size_m), squareness=2.0),
                yaw_deg=float(rng.uniform(0, 90)),
            )
        case 4:
            mesh = rock(size_m, rng)
        case 5:
            steps = range(int(rng.integers(3, 6)))
            mesh = merge([
                placed(rounded((0.6 * size_m * 0.8**k,) * 2 + (0.28 * size_m,), squareness=0.4),
                       (0, 0, 0.26 * size_m * k), yaw_deg=float(rng.uniform(0, 90)))
                for k in steps
            ])  # fmt: skip
        case 6:
            mesh = cylinder(0.4 * size_m, size_m, top=0.0 if rng.random() < 0.6 else 0.2 * size_m)
        case 7:
            mesh = placed(ball(0.42 * size_m), (0, 0, 0.42 * size_m))
        case _:
            mesh = box(tuple(size_m * rng.uniform(0.35, 0.9, 3)))
    return [Part(mesh, surface)]


def mushroom(rng: np.random.Generator, size_m: float) -> list[Part]:
    """Returns a mushroom with a dotted cap."""
    dome = [(0.42, 0.6), (0.44, 0.66), (0.36, 0.82), (0.2, 0.95), (0.0, 1.0)]
    cap = lathe([(0, 0.62), *dome], segments=16)
    stem = lathe([(0.16, 0), (0.1, 0.3), (0.12, 0.64)], segments=12)
    dots = pattern("dots", rng, hsv(rng.random(), 0.8, 0.8), hsv(0.1, 0.1, 0.95))
    whole = [Part(cap, Material(dots, tile_m=0.5)), Part(stem, Material(hsv(0.1, 0.15, 0.85)))]
    return [Part(placed(part.mesh, scale=size_m), part.material) for part in whole]


def hut(rng: np.random.Generator, size_m: float) -> list[Part]:
    """Returns a round or square hut with a pointed roof, a door and windows."""
    wall, roof = varied(rng, tile_m=size_m * 0.4), varied(rng, tile_m=size_m * 0.3)
    if rng.random() < 0.5:
        body = cylinder(0.45 * size_m, 0.7 * size_m, segments=18)
        top = lathe([(0.62 * size_m, 0.65 * size_m), (0, 1.3 * size_m)], segments=18)
        front = 0.45 * size_m
    else:
        body = box((0.9 * size_m, 0.9 * size_m, 0.7 * size_m))
        top = placed(
            lathe([(0.78 * size_m, 0.66 * size_m), (0, 1.2 * size_m)], segments=4), yaw_deg=45.0
        )
        front = 0.45 * size_m
    door = box((0.22 * size_m, 0.04 * size_m, 0.45 * size_m), (0, -front, 0))
    chimney = box(
        (0.1 * size_m, 0.1 * size_m, 0.5 * size_m), (0.2 * size_m, 0.1 * size_m, 0.8 * size_m)
    )
    return [Part(body, wall), Part(top, roof), Part(merge([door, chimney]), wooden(rng))]


def crate(rng: np.random.Generator, size_m: float) -> list[Part]:
    """Returns a crate of slats, or a barrel with hoops."""
    wood = wooden(rng, tile_m=size_m)
    if rng.random() < 0.5:
        bulge = [(0.3, 0), (0.38, 0.3), (0.4, 0.5), (0.38, 0.7), (0.3, 1.0), (0, 1.0)]
        staves = lathe([(r * size_m, z * size_m) for r, z in bulge], segments=16)
        hoops = [
            lathe([(r * size_m, z * size_m), (r * size_m, (z + 0.06) * size_m)], segments=16)
            for r, z in ((0.36, 0.12), (0.405, 0.47), (0.36, 0.8))
        ]
        return [Part(staves, wood), Part(merge(hoops), metallic(rng))]
    slats: list[Mesh] = []
    for share in np.linspace(0, 1, int(rng.integers(3, 6))):
        up = share * size_m * 0.85
        for side in (-1, 1):
            off = side * size_m * 0.42
            slats.append(box((size_m * 0.86, 0.03 * size_m, 0.12 * size_m), (0, off, up)))
            slats.append(box((0.03 * size_m, size_m * 0.8, 0.12 * size_m), (off, 0, up)))
    slats += [
        box((0.06 * size_m, 0.06 * size_m, size_m * 0.96), (x, y, 0))
        for x in (-0.39 * size_m, 0.39 * size_m)
        for y in (-0.39 * size_m, 0.39 * size_m)
    ]
    slats.append(box((0.8 * size_m, 0.8 * size_m, 0.03 * size_m), (0, 0, 0.02 * size_m)))
    return [Part(merge(slats), wood)]


def cage(rng: np.random.Generator, size_m: float) -> list[Part]:
    """Returns thin structures: a bird cage, a lattice, a pylon or a net."""
    rod = rng.uniform(0.006, 0.016)
    makers = (_bird_cage, _lattice, _pylon, _net)
    rods = merge(makers[rng.integers(len(makers))](rng, rod))
    look = metallic(rng) if rng.random() < 0.4 else varied(rng)
    return [Part(placed(rods, scale=size_m), look)]


def _bird_cage(rng: np.random.Generator, rod: float) -> list[Mesh]:
    rods = []
    for turn in np.linspace(0, np.pi, int(rng.integers(5, 10)), endpoint=False):
        bow = np.linspace(0, np.pi, 13)
        x, z = 0.35 * np.cos(bow), np.maximum(np.sin(bow), 0) ** 0.5
        path = np.stack([x * np.cos(turn), x * np.sin(turn), z], axis=1)
        rods.append(tube(path, rod, segments=4))
    for level in (0.3, 0.55, 0.8):
        turns, reach = np.linspace(0, 2 * np.pi, 17), 0.35 * np.sqrt(1 - level**4)
        ring = np.stack([np.cos(turns) * reach, np.sin(turns) * reach, 0 * turns + level], axis=1)
        rods.append(tube(ring, rod, segments=4))
    return rods


def _lattice(rng: np.random.Generator, rod: float) -> list[Mesh]:
    ticks = np.linspace(-0.5, 0.5, int(rng.integers(3, 6)))
    paths = []
    for a in ticks:
        for b in ticks:
            paths.append([[a, b, 0], [a, b, 1]])
            paths.append([[a, -0.5, b + 0.5], [a, 0.5, b + 0.5]])
            paths.append([[-0.5, a, b + 0.5], [0.5, a, b + 0.5]])
    return [tube(np.array(path), rod, segments=4) for path in paths]


def _pylon(rng: np.random.Generator, rod: float) -> list[Mesh]:
    rods = []
    for low, high in itertools.pairwise(np.linspace(0, 1, int(rng.integers(5, 9)))):
        a, b = 0.3 * (1 - 0.8 * low), 0.3 * (1 - 0.8 * high)
        for x, y in ((1, 1), (-1, 1), (-1, -1), (1, -1)):
            corner = [x * a, y * a, low]
            for end in ([x * b, y * b, high], [-y * b, x * b, high], [-y * a, x * a, low]):
                rods.append(tube(np.array([corner, end]), rod, segments=4))
    return rods


def _net(rng: np.random.Generator, rod: float) -> list[Mesh]:
    sag, rods = rng.uniform(0.05, 0.3), []
    for share in np.linspace(0, 1, int(rng.integers(6, 14))):
        line = np.linspace(0, 1, 9)
        dip = 4 * sag * line * (1 - line)
        across = np.stack([line - 0.5, 0 * line, share - dip * share], axis=1)
        top = 1 - 4 * sag * share * (1 - share)
        up = np.array([[share - 0.5, 0, 0], [share - 0.5, 0, top]])
        rods += [tube(across, rod, segments=4), tube(up, rod, segments=4)]
    return rods


def arch(rng: np.random.Generator, width_m: float, height_m: float) -> list[Part]:
    """Returns a gateway across x: two columns and a round bow."""
    radius, thick = width_m / 2, width_m * rng.uniform(0.06, 0.11)
    bow = np.linspace(0, np.pi, 17)
    spring = max(height_m - radius, 0.3)
    path = np.stack([np.cos(bow) * radius, 0 * bow, np.sin(bow) * radius + spring], axis=1)
    columns = [placed(cylinder(thick, spring, segments=12), (x, 0, 0)) for x in (-radius, radius)]
    feet = [box((3 * thick, 3 * thick, 2 * thick), (x, 0, 0)) for x in (-radius, radius)]
    stone = varied(rng, tile_m=width_m * 0.4)
    return [Part(merge([tube(path.tolist(), thick, segments=8), *columns, *feet]), stone)]


def window_wall(rng: np.random.Generator, width_m: float, height_m: float) -> list[Part]:
    """Returns a free-standing sheet of glass or mirror in a frame, facing -y."""
    bar = 0.03 * max(width_m, height_m)
    frame = [box((bar, bar, height_m), (x * width_m / 2, 0, 0)) for x in (-1, 1)]
    frame += [box((width_m, bar, bar), (0, 0, z)) for z in (0.0, height_m - bar)]
    if rng.random() < 0.5:
        frame.append(box((bar / 2, bar / 2, height_m), (0, 0, 0)))
    sheet = quad((-width_m / 2, 0, bar), (width_m, 0, 0), (0, 0, height_m - 2 * bar))
    mirror = Material(np.array([0.9, 0.92, 0.93]), "mirror")
    return [
        Part(merge(frame), metallic(rng)),
        Part(sheet, glass(rng, pane=True) if rng.random() < 0.5 else mirror),
    ]
