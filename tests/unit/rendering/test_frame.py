"""Depth of analytic scenes, and pictures that are the same every time."""

import hashlib

import numpy as np
import pytest

from dav2.rendering.backend import has_panes, load_scene, load_sensor
from dav2.rendering.frame import cast_rays, pixel_rays, planar_depth, render_frame
from dav2.rendering.mesh import merge, placed, quad
from dav2.rendering.scene import Light, Material, Part, Scene, Sky, View
from dav2.rendering.solids import ball, tube

HEIGHT, WIDTH, FOV_DEG = 21, 34, 64.0
GREY = Material(np.full(3, 0.5))
PANE = Material(np.ones(3), "pane")
LEVEL = View(np.array([1.0, -4.0, 2.0]), np.array([1.3, 1.0, 1.4]), 11.0, FOV_DEG)


def depth_of(scene, view=LEVEL, height=HEIGHT, width=WIDTH):
    rays = pixel_rays(height, width, view.fov_deg).reshape(-1, 3)
    return planar_depth(cast_rays(load_scene(scene), view, rays), rays).reshape(height, width)


def world_rays(view=LEVEL, height=HEIGHT, width=WIDTH):
    """Directions whose length along the optical axis is 1, so that t is the depth."""
    return pixel_rays(height, width, view.fov_deg) @ view.axes()


def wide_floor(material=GREY, height_m=0.0):
    return Part(quad((-500, -500, height_m), (1000, 0, 0), (0, 1000, 0)), material)


def shapes():
    """Twelve shapes and two lights: enough for their order to matter."""
    things = [[Part(placed(ball(0.4), (x, y, 0.4)), GREY)] for x in range(4) for y in range(3)]
    lights = [
        Light(quad((x, 0, 3), (0, 1, 0), (1, 0, 0)), np.array([r, 4.0, 5 - r]))
        for x, r in ((-2, 1.0), (3, 4.0))
    ]
    return Scene([[wide_floor()], *things], lights, None)


def render_bytes(loaded):
    frame = render_frame(
        loaded, LEVEL, height=HEIGHT, width=WIDTH, samples=4, max_bounces=4, seed=3
    )
    parts = (frame.colour, frame.depth, frame.distance, frame.entity)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def test_depth_of_a_plane_agrees_with_its_equation():
    depth = depth_of(Scene([[wide_floor()]]))
    slope = world_rays()[..., 2]
    with np.errstate(divide="ignore"):
        expected = np.where(slope < 0, -LEVEL.eye[2] / slope, np.inf)
    seen = np.isfinite(depth) & (expected < 300)
    assert seen.sum() > 0.3 * depth.size
    assert np.isinf(depth[slope > 0]).all()
    np.testing.assert_allclose(depth[seen], expected[seen], rtol=1e-5)


def test_depth_of_a_sphere_agrees_with_its_equation():
    centre, radius = np.array([1.2, 1.0, 1.5]), 1.1
    # Flat faces lie inside the sphere they approximate: by less than 1e-4 with so many sides.
    sphere = placed(ball(radius, segments=400), tuple(centre))
    depth = depth_of(Scene([[Part(sphere, GREY)]]))
    rays, offset = world_rays(), LEVEL.eye - centre
    a, b = (rays**2).sum(-1), rays @ offset
    inside = b**2 - a * (offset @ offset - radius**2)
    well_inside = inside > 0.2 * inside.max()
    expected = (-b - np.sqrt(np.maximum(inside, 0))) / a
    assert well_inside.sum() > 20
    assert np.isinf(depth[inside < 0]).all()
    np.testing.assert_allclose(depth[well_inside], expected[well_inside], rtol=1e-4)


def test_a_pane_of_glass_and_a_mirror_carry_their_own_depth():
    for finish in ("pane", "mirror", "glass"):
        sheet = Part(quad((-60, 2, -60), (120, 0, 0), (0, 0, 120)), Material(np.ones(3), finish))
        depth = depth_of(Scene([[wide_floor(height_m=-80)], [sheet]]))
        expected = (2 - LEVEL.eye[1]) / world_rays()[..., 1]
        np.testing.assert_allclose(depth, expected, rtol=1e-5)


def test_a_thin_rod_is_hit_exactly_where_a_ray_meets_it():
    radius = 0.02
    view = View(np.array([0.0, -2.0, 1.0]), np.array([0.0, 0.0, 1.0]), 0.0, FOV_DEG)
    # An odd width puts a column of pixel centres on the rod's middle.
    rod = Part(tube([[0, 0, 0], [0, 0, 2]], radius, segments=256), GREY)
    depth = depth_of(Scene([[rod]]), view, 21, 33)
    hit = np.isfinite(depth)
    assert hit[:, 16].all()
    assert hit.sum() == 21
    np.testing.assert_allclose(depth[:, 16], 2.0 - radius, rtol=1e-4)


def test_depth_never_averages_across_an_edge():
    near = Part(quad((-0.53, 0, 0), (1.1, 0, 0), (0, 0, 1.3)), GREY)
    far = Part(quad((-50, 6, -50), (100, 0, 0), (0, 0, 100)), GREY)
    view = View(np.array([0.0, -2.0, 1.0]), np.array([0.0, 0.0, 1.0]), 0.0, FOV_DEG)
    depth = depth_of(Scene([[near], [far]]), view)
    assert set(np.round(depth.ravel().astype(float), 4)) == {2.0, 8.0}


@pytest.mark.parametrize("near_m", [0.01, 0.5])
def test_depth_is_that_of_the_pictures_own_rays_whatever_their_near_plane(near_m):
    scene = Scene([[wide_floor()], [Part(placed(ball(1.0), (1.0, 1.0, 1.0)), GREY)]])
    loaded = load_scene(scene)
    sensor = load_sensor(LEVEL, height=HEIGHT, width=WIDTH, samples=1, near_m=near_m)
    forward = LEVEL.axes()[2]
    depth = depth_of(scene)
    for row, column in ((2, 3), (10, 17), (20, 30), (15, 8), (12, 20)):
        place = [(column + 0.5) / WIDTH, (row + 0.5) / HEIGHT]
        ray, _ = sensor.sample_ray(0.0, 0.5, place, [0.5, 0.5])
        hit = loaded.handle.ray_intersect_preliminary(ray)
        if not hit.is_valid():
            assert np.isinf(depth[row, column])
            continue
        point = np.array(ray.o) + hit.t * np.array(ray.d)
        assert depth[row, column] == pytest.approx((point - LEVEL.eye) @ forward, rel=1e-5)


def test_distance_runs_along_the_ray_and_depth_along_the_axis():
    wall = Part(quad((-60, 2, -60), (120, 0, 0), (0, 0, 120)), GREY)
    view = View(np.array([0.0, -2.0, 1.0]), np.array([0.0, 0.0, 1.0]), 0.0, FOV_DEG)
    frame = render_frame(
        load_scene(Scene([[wall]], [], Sky(np.ones((4, 8, 3))))),
        view,
        height=HEIGHT,
        width=WIDTH,
        samples=1,
        max_bounces=2,
        seed=0,
    )
    rays = pixel_rays(HEIGHT, WIDTH, FOV_DEG)
    np.testing.assert_allclose(frame.depth, 4.0, rtol=1e-5)
    np.testing.assert_allclose(frame.distance, 4.0 * np.linalg.norm(rays, axis=-1), rtol=1e-5)


def test_nothing_along_a_ray_is_infinitely_far_and_has_no_entity():
    thing = [Part(placed(ball(0.5), (1.0, 0.0, 1.6)), GREY)]
    scene = Scene([[], thing], [], Sky(np.ones((4, 8, 3))))
    frame = render_frame(
        load_scene(scene), LEVEL, height=HEIGHT, width=WIDTH, samples=1, max_bounces=2, seed=0
    )
    assert set(np.unique(frame.entity)) == {-1, 1}
    np.testing.assert_array_equal(frame.entity == -1, np.isinf(frame.depth))


def test_the_same_scene_gives_the_same_bytes_ten_times():
    digests = {render_bytes(load_scene(shapes())) for _ in range(10)}
    assert len(digests) == 1


def test_another_seed_gives_another_picture_of_the_same_depth():
    loaded = load_scene(shapes())
    size = {"height": HEIGHT, "width": WIDTH, "samples": 4, "max_bounces": 4}
    first = render_frame(loaded, LEVEL, **size, seed=1)
    second = render_frame(loaded, LEVEL, **size, seed=2)
    assert not np.array_equal(first.colour, second.colour)
    np.testing.assert_array_equal(first.depth, second.depth)


def test_one_light_in_two_pieces_is_as_bright_as_both():
    dark = shapes()
    one = Scene(dark.objects, dark.lights[:1], None)
    size = {"height": HEIGHT, "width": WIDTH, "samples": 16, "max_bounces": 2, "seed": 1}
    both = render_frame(load_scene(dark), LEVEL, **size).colour.mean()
    first = render_frame(load_scene(one), LEVEL, **size).colour.mean()
    second = render_frame(
        load_scene(Scene(dark.objects, dark.lights[1:], None)), LEVEL, **size
    ).colour.mean()
    assert both == pytest.approx(first + second, rel=0.1)


def test_sheets_of_glass_are_left_out_on_request():
    sheet = Part(quad((-60, 2, -60), (120, 0, 0), (0, 0, 120)), PANE)
    scene = Scene([[wide_floor()], [sheet]])
    assert has_panes(scene)
    assert not has_panes(Scene([[wide_floor()]]))
    assert len(load_scene(scene).shapes) == 2
    assert len(load_scene(scene, without_panes=True).shapes) == 1


def test_merging_no_mesh_is_refused():
    with pytest.raises(ValueError, match="merge: expected at least one mesh, got none"):
        merge([])
