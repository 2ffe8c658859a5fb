"""The scenes: the same from one seed, another from another, and cameras that see something."""

import numpy as np
import pytest

from dav2.rendering.backend import load_scene
from dav2.rendering.drive import SKIES, build_street
from dav2.rendering.frame import cast_rays, pixel_rays, planar_depth
from dav2.rendering.mesh import quad
from dav2.rendering.scene import Material, Part, Scene, View
from dav2.rendering.sky import make_sky
from dav2.rendering.studio import build_room
from dav2.rendering.textures import hsv, noise, pattern
from dav2.rendering.vehicles import building
from dav2.rendering.views import choose_views
from dav2.rendering.wild import KINDS, build_wild


def vertices(scene):
    return np.concatenate([part.mesh.vertices for parts in scene.objects for part in parts])


def build(name, seed):
    rng = np.random.default_rng(seed)
    if name == "room":
        return build_room(rng, num_views=3)
    if name in SKIES:
        return build_street(rng, name, num_views=3)
    return build_wild(rng, name, num_views=3).scene


@pytest.fixture(scope="module", params=["room", "rain", *KINDS])
def built(request):
    """One scene of each kind, and its name."""
    return request.param, build(request.param, 7)


def test_a_scene_is_decided_by_its_seed(built):
    name, first = built
    again, other = build(name, 7), build(name, 5)
    np.testing.assert_array_equal(vertices(first), vertices(again))
    assert vertices(first).shape != vertices(other).shape
    assert np.isfinite(vertices(first)).all()
    np.testing.assert_array_equal(first.views[2].eye, again.views[2].eye)


def test_normals_have_length_one_and_faces_an_area(built):
    for parts in built[1].objects:
        for part in parts:
            mesh = part.mesh
            np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-6)
            a, b, c = (mesh.vertices[mesh.faces[:, corner]] for corner in range(3))
            assert (np.linalg.norm(np.cross(b - a, c - a), axis=1) > 0).all()


def test_normals_of_houses_with_gables_have_length_one():
    parts = [
        part
        for seed in range(10)
        for part in building(np.random.default_rng(seed), width_m=9.0, depth_m=8.0, height_m=6.0)
    ]
    gables = [part for part in parts if len(part.mesh.faces) == 2 and len(part.mesh.vertices) == 6]
    assert gables
    for part in parts:
        np.testing.assert_allclose(np.linalg.norm(part.mesh.normals, axis=1), 1, atol=1e-6)


def test_a_street_is_the_same_in_every_weather():
    sunny, rainy = build("clone", 3), build("rain", 3)
    np.testing.assert_array_equal(vertices(sunny), vertices(rainy))


def test_the_sun_stands_low_in_the_evening_and_not_in_an_overcast_sky():
    evening = make_sky("sunset", np.random.default_rng(0))
    noon = make_sky("clear", np.random.default_rng(0))
    assert evening.sun_direction[2] < 0.25 < noon.sun_direction[2]
    assert make_sky("overcast", np.random.default_rng(0)).sun_direction is None


def test_textures_are_tileable_reflectances():
    kinds = ["speckle", "grain", "planks", "bricks", "tiles", "checks", "stripes", "dots",
             "marble", "weave", "patches", "poster", "facade"]  # fmt: skip
    for kind in kinds:
        surface = pattern(kind, np.random.default_rng(1), hsv(0.1, 0.5, 0.8), hsv(0.6, 0.4, 0.4))
        assert surface.shape == (128, 128, 3)
        assert 0 <= surface.min() <= surface.max() <= 1
        assert surface.std() > 0.005
    relief = noise(np.random.default_rng(2), roughness=2.0)
    seam = np.abs(relief[:, 0] - relief[:, -1]).mean()
    assert seam < 2 * np.abs(np.diff(relief, axis=1)).mean()


def test_a_view_into_a_wall_is_chosen_last():
    grey = Material(np.full(3, 0.5))
    things = [[Part(quad((x, 3 + x, 0), (0.8, 0, 0), (0, 0, 1)), grey)] for x in range(-3, 4)]
    wall = [Part(quad((-9, -0.1, -9), (18, 0, 0), (0, 0, 18)), grey)]
    blind = View(np.array([0.0, -0.2, 1.0]), np.array([0.0, 1.0, 1.0]))
    good = View(np.array([0.0, 0.0, 0.6]), np.array([0.0, 1.0, 0.6]), fov_deg=80.0)
    scene = Scene(
        [wall, *things, [Part(quad((-9, 9, -9), (18, 0, 0), (0, 0, 18)), grey)]], [], None
    )
    scene.views.extend([blind, good])
    loaded = load_scene(scene)
    assert choose_views(loaded, scene, 1, nearest_m=0.3) == [good]
    assert choose_views(loaded, scene, 2, nearest_m=0.3) == [good, blind]


def test_a_rolled_camera_turns_the_image():
    level = View(np.zeros(3), np.array([0.0, 1.0, 0.0]))
    rolled = View(np.zeros(3), np.array([0.0, 1.0, 0.0]), roll_deg=90.0)
    np.testing.assert_allclose(level.axes()[0], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(rolled.axes()[0], [0, 0, 1], atol=1e-12)
    down = View(np.zeros(3), np.array([0.0, 0.0, -1.0]))
    np.testing.assert_allclose(down.axes() @ down.axes().T, np.eye(3), atol=1e-12)


def test_rooms_are_closed():
    room = build("room", 2)
    loaded = load_scene(room)
    for view in room.views:
        rays = pixel_rays(7, 9, view.fov_deg).reshape(-1, 3)
        assert np.isfinite(planar_depth(cast_rays(loaded, view, rays), rays)).all()
