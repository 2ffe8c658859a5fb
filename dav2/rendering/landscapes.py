"""Scenes of the wild domain out of doors: gardens, valleys, yards, land from above, the seabed.

Axes: R rows, C columns of a height map. Metres, z up.
"""

import numpy as np
from jaxtyping import Float64

from dav2.rendering import props
from dav2.rendering.foliage import bush, conifer, grass, leafage, tree
from dav2.rendering.materials import masonry, varied, wooden
from dav2.rendering.mesh import Mesh, box, merge, placed
from dav2.rendering.scene import Light, Material, Part, Scene, Sky, View, moved
from dav2.rendering.solids import ball, rock, rounded, terrain, tube
from dav2.rendering.still_life import look
from dav2.rendering.textures import Colour, Pattern, Texture, hsv, noise, pattern


class Ground:
    """Uneven ground that knows its height everywhere."""

    def __init__(self, rng: np.random.Generator, extent_m: float, relief_m: float) -> None:
        heights = noise(rng, roughness=2.2, side=64)
        self.heights: Float64[np.ndarray, "R C"] = (heights - 0.5) * relief_m
        self.extent_m = extent_m

    def mesh(self) -> Mesh:
        """Returns the ground's surface."""
        return terrain(self.heights, self.extent_m)

    def at(self, x: float, y: float) -> float:
        """Returns the height at a place, metres."""
        return float(self.over(np.array([x], dtype=np.float64), np.array([y], dtype=np.float64))[0])

    def over(
        self, x: Float64[np.ndarray, "..."], y: Float64[np.ndarray, "..."]
    ) -> Float64[np.ndarray, "..."]:
        """Returns the heights at many places, metres."""
        last = len(self.heights) - 1
        column = np.clip((x / self.extent_m + 0.5) * last, 0, last - 1e-6)
        row = np.clip((y / self.extent_m + 0.5) * last, 0, last - 1e-6)
        i, j = row.astype(np.int64), column.astype(np.int64)
        a, b = row - i, column - j
        lower = self.heights[i, j] * (1 - b) + self.heights[i, j + 1] * b
        upper = self.heights[i + 1, j] * (1 - b) + self.heights[i + 1, j + 1] * b
        return np.asarray(lower * (1 - a) + upper * a, dtype=np.float64)


def _soil(rng: np.random.Generator, tile_m: float) -> Material:
    hue = rng.choice([0.08, 0.12, 0.25, 0.3])
    first = hsv(hue, rng.uniform(0.3, 0.65), rng.uniform(0.4, 0.7))
    second = hsv(hue - rng.uniform(0.02, 0.15), rng.uniform(0.2, 0.5), rng.uniform(0.15, 0.45))
    kind: Pattern = "patches" if rng.random() < 0.5 else "speckle"
    return Material(pattern(kind, rng, first, second), tile_m=tile_m)


def garden(rng: np.random.Generator, sky: Sky, *, num_views: int) -> Scene:
    """Returns a garden of huts, rocks, mushrooms, trees, arches and grass."""
    ground = Ground(rng, 50.0, rng.uniform(0.8, 4))
    soil = _soil(rng, rng.uniform(2, 8))
    beyond = placed(terrain(np.zeros((2, 2)), 400.0), (0, 0, float(ground.heights.min()) - 0.3))
    objects = [[Part(ground.mesh(), soil)], [Part(beyond, soil)]]
    plants = [tree(rng, rng.uniform(3, 8), num_leaves=350), conifer(rng, rng.uniform(3, 8)),
              bush(rng, 1.2), tree(rng, 5.0, num_leaves=0)]  # fmt: skip
    centre = rng.uniform(-8, 8, 2)
    for index in range(int(rng.integers(32, 52))):
        # Most stand near what the cameras look at, some far behind.
        x, y = centre + rng.normal(size=2) * (5 if index % 3 else 14)
        thing = _garden_thing(rng, plants)
        place = (x, y, ground.at(x, y) - 0.05)
        objects.append(moved(thing, place, yaw_deg=float(rng.uniform(0, 360))))
    spots = np.concatenate([rng.normal(size=(900, 2)) * 3.5 + centre, np.zeros((900, 1))], axis=1)
    spots[:, 2] = ground.over(spots[:, 0], spots[:, 1]) - 0.02
    objects.append([grass(rng, spots, rng.uniform(0.15, 0.5))])
    return Scene(objects, [], sky, [_stroll(rng, ground, 12.0, centre) for _ in range(num_views)])


def _garden_thing(rng: np.random.Generator, plants: list[list[Part]]) -> list[Part]:
    draw = rng.random()
    if draw < 0.35:
        return moved(plants[rng.integers(len(plants))], scale=float(rng.uniform(0.7, 1.3)))
    if draw < 0.5:
        return [Part(rock(rng.uniform(0.4, 2.5), rng), masonry(rng))]
    if draw < 0.62:
        return props.hut(rng, rng.uniform(2, 4))
    if draw < 0.75:
        return props.mushroom(rng, rng.uniform(0.4, 2))
    if draw < 0.82:
        return props.arch(rng, rng.uniform(1.5, 3), rng.uniform(2.2, 3.5))
    return props.figure(rng, rng.uniform(0.4, 1.8))


def _stroll(
    rng: np.random.Generator, ground: Ground, reach_m: float, focus: Float64[np.ndarray, "2"]
) -> View:
    """Returns a camera over the ground, low or high, level, down or up."""
    x, y = rng.uniform(-reach_m, reach_m, 2)
    above = rng.choice([rng.uniform(0.25, 1.0), rng.uniform(1.2, 2.2), rng.uniform(3, 9)])
    eye = np.array([x, y, ground.at(x, y) + above])
    heading = np.arctan2(focus[1] - y, focus[0] - x) + rng.normal() * 0.7
    pitch = np.deg2rad(np.clip(rng.normal(-4 - 4 * max(above - 1.5, 0), 14), -75, 45))
    forward = [np.cos(heading) * np.cos(pitch), np.sin(heading) * np.cos(pitch), np.sin(pitch)]
    return View(eye, eye + forward, float(rng.normal() * 9), float(rng.uniform(38, 95)))


def valley(rng: np.random.Generator, sky: Sky, *, num_views: int) -> Scene:
    """Returns mountains around a lake, with woods and huts on their slopes."""
    extent = 180.0
    ground = Ground(rng, extent, rng.uniform(25, 65))
    objects = [[Part(ground.mesh(), Material(_slopes(rng, ground), tile_m=extent))]]
    level = float(np.quantile(ground.heights, rng.uniform(0.1, 0.3)))
    lake = placed(terrain(np.zeros((2, 2)), extent - 1), (0, 0, level))
    objects.append([Part(lake, Material(hsv(0.55, 0.6, 0.25), "plastic"))])
    woods = [conifer(rng, rng.uniform(5, 11)), conifer(rng, 7.0), tree(rng, 7.0, num_leaves=200)]
    for _ in range(150):
        x, y = rng.uniform(-75, 75, 2)
        z = ground.at(x, y)
        if z < level:
            continue
        draw = rng.random()
        if draw < 0.12:
            thing = props.hut(rng, rng.uniform(4, 8))
        elif draw < 0.25:
            thing = [Part(rock(rng.uniform(1.5, 7), rng), masonry(rng))]
        else:
            thing = moved(woods[rng.integers(3)], scale=float(rng.uniform(0.6, 1.4)))
        objects.append(moved(thing, (x, y, z - 0.4), yaw_deg=float(rng.uniform(0, 360))))
    views = []
    for _ in range(num_views):
        view = _stroll(rng, ground, 60.0, rng.uniform(-20, 20, 2))
        lift = max(0.0, level + 1.0 - view.eye[2]) + rng.choice([0.0, rng.uniform(2, 20)])
        up = np.array([0, 0, lift])
        views.append(View(view.eye + up, view.target + up, view.roll_deg, view.fov_deg))
    return Scene(objects, [], sky, views)


def _slopes(rng: np.random.Generator, ground: Ground) -> Texture:
    """Returns the ground's own colours: meadow, rock and snow by height, over one tile."""
    side = 256
    place = (np.arange(side) + 0.5) / side * ground.extent_m
    x = (place + ground.extent_m / 2) % ground.extent_m - ground.extent_m / 2
    heights = ground.over(*np.broadcast_arrays(x, -x[:, None]))
    rise = (heights - heights.min()) / np.ptp(heights) + 0.3 * (noise(rng, side=side) - 0.5)
    meadow = hsv(rng.uniform(0.15, 0.33), rng.uniform(0.3, 0.6), rng.uniform(0.35, 0.6))
    stone = hsv(rng.uniform(0.02, 0.6), rng.uniform(0.05, 0.35), rng.uniform(0.35, 0.6))
    snow = np.clip((rise - rng.uniform(0.65, 1.1)) * 12, 0, 1)[..., None]
    bare = np.clip((rise - rng.uniform(0.25, 0.6)) * 8, 0, 1)[..., None]
    colour = (meadow + (stone - meadow) * bare) * (0.6 + 0.6 * noise(rng, side=side)[..., None])
    return np.asarray(np.clip(colour + (0.85 - colour) * snow, 0.01, 0.9), dtype=np.float64)


def yard(rng: np.random.Generator, sky: Sky, *, num_views: int) -> Scene:
    """Returns a walled yard or market: crates, barrels, awnings, ladders, lines, statues."""
    size = rng.uniform(9, 16)
    floor = placed(terrain(np.zeros((2, 2)), size * 4), (0, 0, 0))
    objects = [[Part(floor, masonry(rng, tile_m=2.5) if rng.random() < 0.6 else _soil(rng, 3.0))]]
    for side in range(4):
        if rng.random() < 0.75:
            wall = box((size, 0.4, rng.uniform(1.5, 6)), (0, size / 2, -0.01))
            objects.append(moved([Part(wall, masonry(rng, tile_m=2.0))], yaw_deg=90.0 * side))
    for _ in range(int(rng.integers(2, 5))):
        posts = [box((0.06, 0.06, 2.3), (x, y, 0)) for x in (-1, 1) for y in (-0.8, 0.8)]
        roof = placed(box((2.4, 2.0, 0.05), (0, 0, 2.3)), roll_deg=float(rng.uniform(-12, 12)))
        bench = box((2.0, 0.8, 0.06), (0, 0, 0.8))
        stall = [Part(merge(posts), wooden(rng)), Part(roof, varied(rng)), Part(bench, wooden(rng))]
        for x in rng.uniform(-0.8, 0.8, 4):
            stall += moved(
                props.figure(rng, rng.uniform(0.15, 0.4)), (x, rng.uniform(-0.25, 0.25), 0.861)
            )
        place = (*(rng.uniform(-0.33, 0.33, 2) * size), 0.0)
        objects.append(moved(stall, place, yaw_deg=float(rng.uniform(0, 360))))
    for _ in range(int(rng.integers(12, 26))):
        place = (*(rng.uniform(-0.44, 0.44, 2) * size), 0.001)
        maker = (props.crate, props.crate, props.figure, props.cage, props.hut)[
            rng.choice(5, p=[0.3, 0.2, 0.3, 0.1, 0.1])
        ]
        thing = maker(rng, rng.uniform(0.5, 1.3) * (2 if maker is props.hut else 1))
        if maker is props.crate and rng.random() < 0.4:
            thing = thing + moved(props.crate(rng, 0.5), (0.05, 0, 1.31))
        objects.append(moved(thing, place, yaw_deg=float(rng.uniform(0, 360))))
    lines = []
    for _ in range(int(rng.integers(1, 5))):
        a, b = rng.uniform(-0.5, 0.5, 2) * size, rng.uniform(-0.5, 0.5, 2) * size
        share = np.linspace(0, 1, 9)[:, None]
        height = 3.2 - 2.4 * share * (1 - share)
        lines.append(
            tube(np.concatenate([a + (b - a) * share, height], axis=1).tolist(), 0.015, segments=4)
        )
    objects.append([Part(merge(lines), Material(hsv(0.1, 0.2, 0.2)))])
    flat = Ground(rng, 60.0, 0.0)
    views = [_stroll(rng, flat, 0.4 * size, rng.uniform(-2, 2, 2)) for _ in range(num_views)]
    return Scene(objects, [], sky, views)


def aerial(rng: np.random.Generator, sky: Sky, *, num_views: int) -> Scene:
    """Returns a settlement, woods and towers, seen from high above, often straight down."""
    ground = Ground(rng, 400.0, rng.uniform(0, 25))
    objects = [[Part(ground.mesh(), _soil(rng, rng.uniform(20, 60)))]]
    plants = [tree(rng, 8.0, num_leaves=160), conifer(rng, 9.0), bush(rng, 3.0)]
    towers = rng.random() < 0.5
    for _ in range(int(rng.integers(60, 110))):
        x, y = rng.normal(size=2) * 45
        draw = rng.random()
        if draw < 0.5:
            thing = moved(plants[rng.integers(3)], scale=float(rng.uniform(0.6, 1.5)))
        elif draw < 0.6:
            thing = props.hut(rng, rng.uniform(6, 12))
        elif draw < 0.65:
            thing = props.figure(rng, rng.uniform(5, 14))
        else:
            tall = rng.uniform(3, 40) if towers else rng.uniform(3, 9)
            block = box((rng.uniform(6, 18), rng.uniform(6, 18), tall + 6), (0, 0, -6.0))
            wall = varied(rng, tile_m=8.0) if rng.random() < 0.4 else masonry(rng, tile_m=6.0)
            thing = [Part(block, wall)]
        yaw = float(rng.choice([0, 90]) + rng.normal() * 4)
        objects.append(moved(thing, (x, y, ground.at(x, y) - 0.3), yaw_deg=yaw))
    paths = []
    for _ in range(3):
        line = rng.uniform(-150, 150, (2, 2))
        share = np.linspace(0, 1, 40)[:, None]
        flat = line[0] + (line[1] - line[0]) * share + 10 * np.sin(share * rng.uniform(2, 9))
        height = np.array([[ground.at(x, y) - 1.2] for x, y in flat])
        paths.append(tube(np.concatenate([flat, height], axis=1).tolist(), 2.2, segments=8))
    objects.append([Part(merge(paths), Material(hsv(0.1, 0.1, rng.uniform(0.3, 0.8))))])
    views = [
        look(
            rng,
            (*rng.uniform(-30, 30, 2), 5.0),
            distance=(45.0, 130.0),
            elevation_deg=(28.0, 90.0),
            roll_deg=25.0,
            fov_deg=(40.0, 80.0),
        )
        for _ in range(num_views)
    ]
    return Scene(objects, [], sky, views)


def seabed(rng: np.random.Generator, water: Colour, *, num_views: int) -> Scene:
    """Returns rocks, corals, weeds and fish under water of a given colour."""
    ground = Ground(rng, 40.0, rng.uniform(1.5, 5))
    sand = hsv(0.11, rng.uniform(0.2, 0.5), rng.uniform(0.6, 0.85))
    grains = Material(pattern("speckle", rng, sand, sand * 0.5), tile_m=3.0)
    objects = [[Part(ground.mesh(), grains)]]
    for _ in range(int(rng.integers(35, 60))):
        x, y = rng.normal(size=2) * 4
        place = (x, y, ground.at(x, y) - 0.05)
        draw = rng.random()
        if draw < 0.4:
            thing = [Part(rock(rng.uniform(0.4, 2.2), rng), varied(rng, tile_m=0.6))]
        elif draw < 0.65:
            thing = moved(tree(rng, rng.uniform(0.6, 1.8), num_leaves=0), scale=1.0)
            thing = [Part(part.mesh, Material(hsv(rng.random(), 0.7, 0.8))) for part in thing]
        elif draw < 0.85:
            weed = grass(
                rng,
                np.concatenate([rng.normal(size=(60, 2)) * 0.25, np.zeros((60, 1))], axis=1),
                1.4,
            )
            thing = [Part(weed.mesh, leafage(rng))]
        else:
            thing = props.figure(rng, rng.uniform(0.3, 1.0))
        objects.append(moved(thing, place, yaw_deg=float(rng.uniform(0, 360))))
    for _ in range(int(rng.integers(5, 18))):
        size, skin = rng.uniform(0.15, 0.7), varied(rng, tile_m=0.15)
        body = rounded((size, 0.22 * size, 0.45 * size), squareness=1.2, segments=12)
        tail = rounded((0.3 * size, 0.04 * size, 0.5 * size), squareness=2.0, segments=8)
        fish = [Part(merge([body, placed(tail, (-0.55 * size, 0, 0))]), skin)]
        place = (*(rng.normal(size=2) * 4), rng.uniform(0.8, 4))
        objects.append(moved(fish, place, yaw_deg=float(rng.uniform(0, 360))))
    dome = np.ones((32, 64, 3)) * water * 0.8
    dome[:12] = water * np.linspace(6.0, 1.2, 12)[:, None, None]
    high = np.array([0.2, 0.1, 0.97])
    sun = np.array([0.8, 1.5, 1.6]) * rng.uniform(0.6, 1.3)
    views = [_stroll(rng, ground, 6.0, rng.uniform(-1, 1, 2)) for _ in range(num_views)]
    return Scene(objects, [], Sky(dome, high / np.linalg.norm(high), sun), views)


def with_lanterns(rng: np.random.Generator, scene: Scene) -> Scene:
    """Returns a scene with lanterns around its cameras' targets, for the night."""
    lights = []
    for _ in range(10):
        view = scene.views[rng.integers(len(scene.views))]
        ahead = view.axes()[2] * rng.uniform(3, 14) + rng.normal(size=3) * 1.5
        ahead[2] = abs(ahead[2]) + rng.uniform(-0.5, 1.5)
        place = view.eye + ahead
        colour = np.array([1.3, 0.95, 0.55]) if rng.random() < 0.7 else hsv(rng.random(), 0.5, 1.2)
        bulb = placed(ball(rng.uniform(0.12, 0.3), segments=8), place)
        lights.append(Light(bulb, colour * rng.uniform(15, 50)))
    return Scene(scene.objects, lights, scene.sky, scene.views)
