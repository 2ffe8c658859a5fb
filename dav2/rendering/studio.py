"""Furnished rooms: the indoor synthetic domain.

Metres, z up; the floor's middle is the origin.
"""

import itertools
from dataclasses import dataclass

import numpy as np

from dav2.rendering import furniture
from dav2.rendering.foliage import potted_plant
from dav2.rendering.materials import fabric, flooring, glass, masonry, metallic, painted, wooden
from dav2.rendering.mesh import Mesh, box, merge, placed, quad
from dav2.rendering.scene import Light, Material, Part, Scene, View, moved
from dav2.rendering.solids import ball, cylinder, lathe, tube
from dav2.rendering.textures import Pattern, hsv, pattern

FOV_DEG = 60.0


@dataclass(frozen=True, slots=True)
class Room:
    """Inner size of a room."""

    width: float
    depth: float
    height: float

    def wall_spot(self, side: int, along: float, off: float) -> tuple[float, float, float]:
        """Returns x, y and yaw (degrees) of a thing with its back at wall `side`, `off` from it."""
        match side:
            case 0:
                return along * self.width, self.depth / 2 - off, 0.0
            case 1:
                return -self.width / 2 + off, along * self.depth, 90.0
            case 2:
                return along * self.width, -self.depth / 2 + off, 180.0
            case _:
                return self.width / 2 - off, along * self.depth, 270.0


def build_room(rng: np.random.Generator, *, num_views: int) -> Scene:
    """Returns a furnished room.

    Args:
        rng: Decides everything.
        num_views: Number of candidate cameras.
    """
    room = Room(rng.uniform(3.2, 7.5), rng.uniform(3.2, 7.5), rng.uniform(2.4, 3.3))
    objects = _shell(rng, room)
    lights: list[Light] = []
    for side in rng.permutation(4)[: int(rng.integers(1, 3))]:
        window, panel = _window(rng, room, int(side))
        objects.append(window)
        lights.append(panel)
    lights += _lamps(rng, room, objects)
    _hang(rng, room, objects)
    _furnish(rng, room, objects)
    return Scene(objects, lights, None, [_view(rng, room) for _ in range(num_views)])


def _shell(rng: np.random.Generator, room: Room) -> list[list[Part]]:
    w, d, h = room.width, room.depth, room.height
    walls = [
        quad((-w / 2, d / 2, 0), (w, 0, 0), (0, 0, h)),
        quad((-w / 2, -d / 2, 0), (0, d, 0), (0, 0, h)),
        quad((w / 2, -d / 2, 0), (-w, 0, 0), (0, 0, h)),
        quad((w / 2, d / 2, 0), (0, -d, 0), (0, 0, h)),
    ]
    paint = Material(hsv(rng.random(), rng.uniform(0, 0.35), rng.uniform(0.6, 0.95)))
    accent = paint
    if rng.random() < 0.7:
        tint = paint.colour
        kinds: tuple[Pattern, ...] = ("stripes", "dots", "patches", "weave")
        paper = pattern(kinds[rng.integers(4)], rng, tint, tint * rng.uniform(0.5, 0.85))
        papered = Material(paper, tile_m=rng.uniform(0.5, 1.6))
        accent = masonry(rng, tile_m=1.6) if rng.random() < 0.4 else papered
    chosen = int(rng.integers(4))
    objects = [[Part(wall, accent if i == chosen else paint)] for i, wall in enumerate(walls)]
    objects.append([Part(quad((-w / 2, -d / 2, 0), (w, 0, 0), (0, d, 0)), flooring(rng))])
    white = Material(hsv(0.1, 0.03, 0.95))
    ceiling = [Part(quad((-w / 2, d / 2, h), (w, 0, 0), (0, -d, 0)), white)]
    if rng.random() < 0.3:
        beams = [
            box((w, 0.14, 0.16), (0, y, h - 0.165)) for y in np.linspace(-d / 2, d / 2, 5)[1:-1]
        ]
        ceiling.append(Part(merge(beams), wooden(rng)))
    skirting = [
        box((w, 0.02, 0.09), (0, d / 2 - 0.011, 0.001)),
        box((w, 0.02, 0.09), (0, -d / 2 + 0.011, 0.001)),
        box((0.02, d, 0.09), (w / 2 - 0.011, 0, 0.001)),
        box((0.02, d, 0.09), (-w / 2 + 0.011, 0, 0.001)),
    ]
    return [*objects, ceiling, [Part(merge(skirting), white)]]


def _at_wall(room: Room, side: int, along: float, height: float, parts: list[Part]) -> list[Part]:
    x, y, yaw = room.wall_spot(side, along, 0.0)
    return moved(parts, (x, y, height), yaw_deg=yaw)


def _window(rng: np.random.Generator, room: Room, side: int) -> tuple[list[Part], Light]:
    width, height = rng.uniform(0.9, 2.2), rng.uniform(1.0, 1.5)
    along, sill = rng.uniform(-0.15, 0.15), rng.uniform(0.4, 0.9)
    bars = [box((width + 0.14, 0.08, 0.07), (0, -0.041, z)) for z in (-0.07, height)]
    bars += [
        box((0.07, 0.08, height), (x, -0.041, 0)) for x in (-width / 2 - 0.035, width / 2 + 0.035)
    ]
    bars += [
        box((0.03, 0.04, height), (x, -0.045, 0))
        for x in np.linspace(-width / 2, width / 2, int(rng.integers(2, 5)) + 1)[1:-1]
    ]
    bars.append(box((width, 0.04, 0.03), (0, -0.045, height * 0.6)))
    bars.append(box((width + 0.3, 0.2, 0.03), (0, -0.1, -0.1)))
    parts = [Part(merge(bars), Material(hsv(0.1, 0.05, 0.9)))]
    if rng.random() < 0.5:
        cloth = fabric(rng)
        for x in (-width / 2 - 0.15, width / 2 + 0.15):
            wave = [
                [x + s * 0.45, -0.14 + 0.04 * np.sin(s * 40), 0] for s in np.linspace(-0.5, 0.5, 13)
            ]
            folds = [
                quad(a, np.subtract(b, a), (0, 0, height + 0.6))
                for a, b in itertools.pairwise(wave)
            ]
            parts += moved([Part(merge(folds), cloth)], (0, 0, -0.4))
    daylight = np.array([0.85, 0.95, 1.1]) * rng.uniform(5, 14)
    if rng.random() < 0.25:
        daylight = np.array([1.3, 0.9, 0.55]) * rng.uniform(4, 10)
    panel = quad((-width / 2, -0.012, 0), (width, 0, 0), (0, 0, height))
    x, y, yaw = room.wall_spot(side, along, 0.0)
    light = Light(placed(panel, (x, y, sill), yaw_deg=yaw), daylight)
    return _at_wall(room, side, along, sill, parts), light


def _lamps(rng: np.random.Generator, room: Room, objects: list[list[Part]]) -> list[Light]:
    """Returns what shines; appends what carries it to `objects`."""
    warm = np.array([1.25, 1.0, 0.7])
    lights = []
    for _ in range(int(rng.integers(1, 4))):
        x, y = rng.uniform(-0.35, 0.35) * room.width, rng.uniform(-0.35, 0.35) * room.depth
        if rng.random() < 0.5:
            side = rng.uniform(0.3, 0.8)
            panel = quad((x, y + side / 2, room.height - 0.012), (side, 0, 0), (0, -side, 0))
            lights.append(Light(panel, warm * rng.uniform(3, 9)))
            rim = box((side + 0.08, side + 0.08, 0.01), (x + side / 2, y, room.height - 0.0108))
            objects.append([Part(rim, Material(hsv(0.1, 0.05, 0.6)))])
            continue
        drop = rng.uniform(0.4, 0.9)
        hook = room.height - drop
        shade = lathe([(0.2, 0.0), (0.09, 0.2), (0.02, 0.23)], segments=14)
        cable = tube([[0, 0, 0.2], [0, 0, drop]], 0.006)
        objects.append(
            moved(
                [Part(shade, painted(rng, vivid=0.9)), Part(cable, Material(hsv(0.0, 0.0, 0.1)))],
                (x, y, hook),
            )
        )
        bulb = placed(ball(0.06, segments=8), (x, y, hook + 0.05))
        lights.append(Light(bulb, warm * rng.uniform(30, 70)))
    if rng.random() < 0.4:
        x, y = (0.42 * room.width * rng.choice([-1, 1]), 0.42 * room.depth * rng.choice([-1, 1]))
        stand = [cylinder(0.14, 0.02), cylinder(0.012, 1.45, segments=8)]
        hood = placed(lathe([(0.2, 0), (0.13, 0.28)], segments=14), (0, 0, 1.4))
        objects.append(
            moved(
                [Part(merge(stand), metallic(rng)), Part(hood, fabric(rng, vivid=0.3))], (x, y, 0)
            )
        )
        lights.append(
            Light(placed(ball(0.07, segments=8), (x, y, 1.53)), warm * rng.uniform(20, 50))
        )
    return lights


def _hang(rng: np.random.Generator, room: Room, objects: list[list[Part]]) -> None:
    """Appends pictures, mirrors and a door to `objects`."""
    for _ in range(int(rng.integers(2, 6))):
        width, height = rng.uniform(0.35, 1.1), rng.uniform(0.4, 1.3)
        frame = box((width + 0.08, 0.03, height + 0.08), (0, -0.016, -0.04))
        sheet = quad((-width / 2, -0.034, 0), (width, 0, 0), (0, 0, height))
        if rng.random() < 0.4:
            surface = Material(np.array([0.9, 0.92, 0.92]), "mirror")
        else:
            colours = [hsv(rng.random(), rng.uniform(0, 0.8), rng.uniform(0.2, 0.9)) for _ in "12"]
            surface = Material(pattern("poster", rng, *colours), tile_m=max(width, height))
        parts = [Part(frame, wooden(rng)), Part(sheet, surface)]
        side, along = int(rng.integers(4)), rng.uniform(-0.4, 0.4)
        objects.append(_at_wall(room, side, along, rng.uniform(0.7, 1.3), parts))
    door = [box((0.95, 0.05, 2.05), (0, -0.026, 0.001)), box((0.8, 0.02, 1.95), (0, -0.062, 0.001))]
    handle = tube([[0.32, -0.11, 1.0], [0.2, -0.11, 1.0]], 0.012)
    look = [Part(merge(door), wooden(rng)), Part(handle, metallic(rng))]
    objects.append(_at_wall(room, int(rng.integers(4)), rng.uniform(-0.3, 0.3), 0.0, look))
    if rng.random() < 0.25:
        screen: list[Mesh] = [box((0.03, 0.04, 1.9), (x, 0, 0.001)) for x in (-0.6, 0.0, 0.6)]
        sheet = quad((-0.6, 0, 0.05), (1.2, 0, 0), (0, 0, 1.8))
        place = (rng.uniform(-0.2, 0.2) * room.width, rng.uniform(-0.2, 0.2) * room.depth, 0)
        parts = [Part(merge(screen), metallic(rng)), Part(sheet, glass(rng, pane=True))]
        objects.append(moved(parts, place, yaw_deg=float(rng.uniform(0, 180))))


def _furnish(rng: np.random.Generator, room: Room, objects: list[list[Part]]) -> None:
    """Appends furniture and clutter to `objects`, keeping things apart."""
    taken: list[tuple[float, float, float]] = []

    def free(x: float, y: float, radius: float) -> bool:
        inside = abs(x) + radius * 0.7 < room.width / 2 and abs(y) + radius * 0.7 < room.depth / 2
        clear = all(np.hypot(x - a, y - b) > 0.8 * (radius + c) for a, b, c in taken)
        return inside and clear

    against_wall = (furniture.shelf, furniture.cabinet, furniture.bed, furniture.sofa)
    free_standing = (
        furniture.table,
        furniture.chair,
        furniture.chair,
        furniture.rack,
        furniture.sofa,
    )
    for _ in range(int(room.width * room.depth * 0.9) + 8):
        at_wall = rng.random() < 0.45
        if at_wall:
            kind = against_wall[rng.integers(len(against_wall))]
            off = {"shelf": 0.18, "cabinet": 0.32, "bed": 1.1, "sofa": 0.52}[kind.__name__]
            x, y, yaw = room.wall_spot(int(rng.integers(4)), rng.uniform(-0.42, 0.42), off)
        else:
            kind = free_standing[rng.integers(len(free_standing))]
            x, y = rng.uniform(-0.4, 0.4) * room.width, rng.uniform(-0.4, 0.4) * room.depth
            yaw = float(rng.uniform(0, 360))
        radius = {"chair": 0.35, "rack": 0.5, "shelf": 0.6, "bed": 1.1, "table": 0.75}.get(
            kind.__name__, 0.8
        )
        if free(x, y, radius):
            taken.append((x, y, radius))
            objects.append(moved(kind(rng), (x, y, 0.001), yaw_deg=yaw))
    for _ in range(int(rng.integers(3, 9))):
        x, y = rng.uniform(-0.45, 0.45) * room.width, rng.uniform(-0.45, 0.45) * room.depth
        if free(x, y, 0.2):
            taken.append((x, y, 0.2))
            if rng.random() < 0.45:
                thing = potted_plant(rng, rng.uniform(0.4, 1.5), painted(rng))
            else:
                thing = moved(furniture.trinket(rng), scale=float(rng.uniform(1, 2)))
            objects.append(moved(thing, (x, y, 0.001), yaw_deg=float(rng.uniform(0, 360))))
    if rng.random() < 0.6:
        rug = box(
            (rng.uniform(1, 2.5), rng.uniform(1, 2), 0.012), (rng.uniform(-0.5, 0.5), 0, 0.0005)
        )
        objects.append([Part(rug, fabric(rng, vivid=0.8, tile_m=rng.uniform(0.4, 1.5)))])


def _view(rng: np.random.Generator, room: Room) -> View:
    x = rng.uniform(-0.46, 0.46) * room.width
    y = rng.uniform(-0.46, 0.46) * room.depth
    z = rng.uniform(0.35, 0.88 * room.height)
    # Mostly across the room, so that near and far things are both in view.
    heading = np.arctan2(-y, -x) + rng.normal() * 0.6
    pitch = np.deg2rad(np.clip(rng.normal(-11, 15), -50, 30))
    forward = [np.cos(heading) * np.cos(pitch), np.sin(heading) * np.cos(pitch), np.sin(pitch)]
    eye = np.array([x, y, z])
    return View(eye, eye + forward, float(rng.normal() * 10), FOV_DEG)
