"""Streets: the outdoor synthetic domain.

Axes: V vertices. Metres, z up; the road runs along y through the origin.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from dav2.rendering import vehicles
from dav2.rendering.foliage import bush, conifer, tree
from dav2.rendering.materials import masonry
from dav2.rendering.mesh import Mesh, box, merge, placed
from dav2.rendering.scene import Material, Part, Scene, View, moved
from dav2.rendering.sky import Daytime, make_sky
from dav2.rendering.solids import rounded, terrain, tube
from dav2.rendering.textures import hsv, pattern

FOV_DEG = 72.0
Weather = Literal["clone", "fog", "morning", "overcast", "rain", "sunset"]
SKIES: dict[Weather, Daytime] = {
    "clone": "clear",
    "fog": "overcast",
    "morning": "morning",
    "overcast": "overcast",
    "rain": "overcast",
    "sunset": "sunset",
}
"""The names are Virtual KITTI's; `clone` is its sunny original."""
START_M, END_M = -35.0, 125.0


@dataclass(frozen=True, slots=True)
class Stock:
    """Things that a street has several of, made once."""

    trees: list[list[Part]]
    bushes: list[list[Part]]
    cars: list[list[Part]]
    signs: list[list[Part]]
    walkers: list[list[Part]]
    lamp: list[Part]
    fence: list[Part]

    @classmethod
    def make(cls, rng: np.random.Generator) -> "Stock":
        """Returns a street's own choice of things."""
        firs = [conifer(rng, rng.uniform(4, 9)) for _ in range(2)]
        return cls(
            trees=[tree(rng, rng.uniform(3.5, 9), num_leaves=350) for _ in range(3)] + firs,
            bushes=[bush(rng, rng.uniform(0.8, 1.8)) for _ in range(2)],
            cars=[vehicles.car(rng) for _ in range(6)],
            signs=[vehicles.sign(rng) for _ in range(3)],
            walkers=[vehicles.walker(rng) for _ in range(4)],
            lamp=vehicles.lamp_post(rng),
            fence=vehicles.fence(rng, 8.0),
        )


def _one_of(rng: np.random.Generator, things: list[list[Part]]) -> list[Part]:
    return things[rng.integers(len(things))]


@dataclass(frozen=True, slots=True)
class Course:
    """How a street runs and how wide it is."""

    road_m: float
    """Half the road's width."""
    walk_m: float
    bend: float
    """1/m; x grows by `bend` y squared."""
    climb: float
    wave: float

    def follow(self, parts: list[Part]) -> list[Part]:
        """Returns an object of a straight and level street, bent along the course."""
        return [Part(self._shifted(part.mesh), part.material) for part in parts]

    def shift(self, y: float) -> tuple[float, float]:
        """Returns by how much the street lies aside and up at `y`."""
        return self.bend * y * y, self.climb * y + self.wave * float(np.sin(y / 22))

    def _shifted(self, mesh: Mesh) -> Mesh:
        y = mesh.vertices[:, 1]
        aside = self.bend * y * y
        up = self.climb * y + self.wave * np.sin(y / 22)
        moving = np.stack([aside, np.zeros_like(y), up], axis=1)
        return Mesh(mesh.vertices + moving, mesh.normals, mesh.uv, mesh.faces)


def build_street(rng: np.random.Generator, weather: Weather, *, num_views: int) -> Scene:
    """Returns a street under one weather.

    The same `rng` state gives the same street under every weather.

    Args:
        rng: Decides everything.
        weather: Which sky; mist and rain are added to the finished image.
        num_views: Number of candidate cameras.
    """
    course = Course(
        road_m=rng.uniform(2.8, 6.5),
        walk_m=rng.uniform(1.2, 3.5),
        bend=rng.normal() * 0.0012,
        climb=rng.normal() * 0.02,
        wave=rng.uniform(0, 0.9),
    )
    stock = Stock.make(rng)
    objects = _ground(rng, course, wet=weather == "rain")
    for side in (-1, 1):
        _line_with_houses(rng, course, side, objects, stock=stock)
        _line_with_things(rng, course, side, objects, stock=stock)
    _traffic(rng, course, objects, stock=stock)
    views = [_view(rng, course) for _ in range(num_views)]
    return Scene(objects, [], make_sky(SKIES[weather], rng), views)


def _strip(left: float, right: float, height: float) -> Mesh:
    ground = terrain(np.zeros((60, 2)), 1.0)
    size = np.array([right - left, END_M - START_M, 1.0])
    offset = np.array([(left + right) / 2, (START_M + END_M) / 2, height])
    return Mesh(ground.vertices * size + offset, ground.normals, ground.uv * size[:2], ground.faces)


def _ground(rng: np.random.Generator, course: Course, *, wet: bool) -> list[list[Part]]:
    road, walk = course.road_m, course.road_m + course.walk_m
    shade = hsv(0.6, 0.05, rng.uniform(0.25, 0.5))
    asphalt = pattern("speckle", rng, shade, shade * 0.6)
    finish = Material(asphalt * (0.5 if wet else 1), "satin" if wet else "matte", 0.15, 1.5)
    stone = hsv(rng.uniform(0, 0.12), 0.1, rng.uniform(0.5, 0.8))
    slabs = Material(pattern("tiles", rng, stone, stone * 0.5), tile_m=2.0)
    green = hsv(rng.uniform(0.15, 0.3), rng.uniform(0.3, 0.6), rng.uniform(0.3, 0.55))
    lawn = Material(pattern("speckle", rng, green, green * 0.45), tile_m=4.0)
    walks = [_strip(-walk, -road, 0.14), _strip(road, walk, 0.14)]
    walks += [_strip(-road - 0.12, -road, 0.16), _strip(road, road + 0.12, 0.16)]
    paint = [_strip(-0.07, 0.07, 0.012)] if rng.random() < 0.3 else [
        box((0.14, 2.0, 0.012), (0, y, 0)) for y in np.arange(START_M, END_M, 6.0)
    ]  # fmt: skip
    paint += [_strip(x - 0.06, x + 0.06, 0.012) for x in (-road + 0.3, road - 0.3)]
    if rng.random() < 0.5:
        at = rng.uniform(8, 50)
        paint += [
            box((0.5, 3.0, 0.013), (x, at, 0)) for x in np.arange(-road + 0.6, road - 0.4, 1.0)
        ]
    objects = [
        # Asphalt lies under the pavement too: its strips have no sides to look at.
        course.follow([Part(_strip(-walk, walk, 0.0), finish)]),
        course.follow([Part(merge(walks), slabs)]),
        course.follow([Part(merge(paint), Material(hsv(0.1, 0.04, 0.88)))]),
        course.follow(
            [Part(_strip(-120.0, -walk, 0.05), lawn), Part(_strip(walk, 120.0, 0.05), lawn)]
        ),
    ]
    hill = hsv(rng.uniform(0.2, 0.45), rng.uniform(0.15, 0.4), rng.uniform(0.3, 0.5))
    distant = Material(pattern("patches", rng, hill, hill * 0.6), tile_m=40.0)
    hills = []
    for _ in range(int(rng.integers(2, 8))):
        size = (rng.uniform(90, 260), rng.uniform(60, 120), rng.uniform(20, 90))
        place = (rng.uniform(-260, 260), rng.uniform(200, 340), -20)
        hills.append(placed(rounded(size, squareness=1.0, segments=20), place))
    wide = placed(terrain(np.zeros((2, 2)), 1600.0), (0, 0, -12.0))
    return [*objects, [Part(merge(hills), distant), Part(wide, lawn)]]


def _line_with_houses(
    rng: np.random.Generator, course: Course, side: int, objects: list[list[Part]], *, stock: Stock
) -> None:
    y, setback = START_M + 5, rng.uniform(0.2, 7.0)
    tall = rng.uniform(5, 24)
    green = rng.random() < 0.2
    while y < END_M - 10:
        width, depth = rng.uniform(7, 20), rng.uniform(8, 14)
        middle = y + width / 2
        y += width + (rng.uniform(3, 14) if rng.random() < 0.4 else 0.3)
        if rng.random() < (0.85 if green else 0.1):
            for _ in range(3):
                x = side * (course.road_m + course.walk_m + rng.uniform(2, 16))
                place = (x, middle + rng.uniform(-6, 6), 0)
                yaw, scale = float(rng.uniform(0, 360)), rng.uniform(0.8, 1.4)
                plant = moved(_one_of(rng, stock.trees), place, yaw_deg=yaw, scale=scale)
                objects.append(course.follow(plant))
            continue
        house = vehicles.building(rng, width - 0.2, depth, tall * rng.uniform(0.6, 1.4))
        x = side * (course.road_m + course.walk_m + setback + depth / 2)
        house = moved(house, (x, middle, -0.5), yaw_deg=180.0 if side > 0 else 0.0)
        objects.append(course.follow(house))


def _line_with_things(
    rng: np.random.Generator, course: Course, side: int, objects: list[list[Part]], *, stock: Stock
) -> None:
    edge = side * (course.road_m + 0.5)
    out = side * (course.road_m + course.walk_m)
    step, trees = rng.uniform(9, 22), rng.random() < 0.6
    for y in np.arange(START_M + rng.uniform(0, 15), END_M - 20, step):
        lamp = moved(stock.lamp, yaw_deg=180.0 if side > 0 else 0.0)
        if rng.random() < 0.55:
            objects.append(course.follow(moved(lamp, (edge, y, 0.14))))
        if trees and y < 90:
            place = (edge + side * 0.6, y + step / 2, 0.1)
            yaw, scale = float(rng.uniform(0, 360)), rng.uniform(0.7, 1.1)
            plant = moved(_one_of(rng, stock.trees), place, yaw_deg=yaw, scale=scale)
            objects.append(course.follow(plant))
        if rng.random() < 0.3:
            objects.append(course.follow(moved(_one_of(rng, stock.signs), (edge, y + 3, 0.14))))
        if rng.random() < 0.35:
            place = (out + side * rng.uniform(0.5, 1.5), y + rng.uniform(-4, 4), 0.05)
            objects.append(course.follow(moved(_one_of(rng, stock.bushes), place)))
        if rng.random() < 0.3:
            objects.append(course.follow(moved(stock.fence, (out + side * 0.2, y, 0.1))))
        if rng.random() < 0.4:
            place = (edge + side * rng.uniform(0.2, 1), y + rng.uniform(-5, 5), 0.14)
            person = moved(_one_of(rng, stock.walkers), place, yaw_deg=float(rng.choice([0, 180])))
            objects.append(course.follow(person))
    if rng.random() < 0.3:
        wires = [
            tube(
                [
                    [edge, a, 7 - 0.3 * k],
                    [edge, a + 12, 6.6 - 0.3 * k],
                    [edge, a + 24, 7 - 0.3 * k],
                ],
                0.02,
                segments=4,
            )
            for a in np.arange(START_M, END_M - 24, 24.0)
            for k in range(3)
        ]
        poles = [tube([[edge, a, 0], [edge, a, 7.5]], 0.1) for a in np.arange(START_M, END_M, 24.0)]
        objects.append(
            course.follow([Part(merge([*wires, *poles]), Material(hsv(0.07, 0.3, 0.25)))])
        )
    if rng.random() < 0.2:
        wall = box((0.3, 60, rng.uniform(0.7, 1.8)), (out + side * 0.15, rng.uniform(0, 60), 0))
        objects.append([Part(wall, masonry(rng))])


def _traffic(
    rng: np.random.Generator, course: Course, objects: list[list[Part]], *, stock: Stock
) -> None:
    for side in (-1, 1):
        for lane, density in ((0.5, 0.5), (0.83, rng.uniform(0.1, 0.9))):
            if lane > 0.6 and course.road_m < 4.2:
                continue
            for y in np.arange(START_M + rng.uniform(0, 10), END_M - 30, 8.5):
                if rng.random() < density * 0.6:
                    yaw = (0.0 if side > 0 else 180.0) + float(rng.normal() * 2)
                    place = (side * lane * course.road_m, y + rng.uniform(-1, 1), 0.013)
                    objects.append(
                        course.follow(moved(_one_of(rng, stock.cars), place, yaw_deg=yaw))
                    )


def _view(rng: np.random.Generator, course: Course) -> View:
    y = rng.uniform(-20, 70)
    height = rng.uniform(1.2, 2.4) if rng.random() < 0.65 else rng.uniform(2.4, 9)
    backwards = rng.random() < 0.3
    heading = np.pi / 2 + np.pi * backwards + rng.normal() * 0.5
    pitch = np.deg2rad(np.clip(rng.normal(-1 - 2.5 * max(height - 2, 0), 7), -40, 25))
    aside, up = course.shift(y)
    reach = course.road_m + course.walk_m * 0.8
    eye = np.array([aside + rng.uniform(-1, 1) * reach, y, height + up])
    forward = [np.cos(heading) * np.cos(pitch), np.sin(heading) * np.cos(pitch), np.sin(pitch)]
    return View(eye, eye + forward, float(rng.normal() * 8), FOV_DEG)
