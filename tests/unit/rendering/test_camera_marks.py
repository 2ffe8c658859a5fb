"""The camera's marks: a lens that bends rays and depth alike, and the film's."""

import numpy as np
import pytest

from dav2.rendering.backend import load_scene
from dav2.rendering.camera_marks import (
    Marks,
    bent_rays,
    draw_marks,
    photographed,
    resampled,
    wide_camera,
)
from dav2.rendering.frame import cast_rays, pixel_rays, planar_depth
from dav2.rendering.mesh import quad
from dav2.rendering.scene import Material, Part, Scene, View

PLAIN = {
    "shape_px": (12, 20),
    "bend": 0.0,
    "vignette": 0.0,
    "balance": np.ones(3),
    "exposure": 1.0,
    "blur_px": 0.0,
    "motion_px": (0.0, 0.0),
    "noise": 0.0,
    "quality": 90,
    "orientation": 1,
}


def marks(**changes):
    return Marks(**(PLAIN | changes))


def photograph(light, **changes):
    return photographed(light.astype(np.float32), marks(**changes), np.random.default_rng(0))


def test_a_straight_lens_bends_nothing():
    np.testing.assert_array_equal(bent_rays(marks(), 50.0), pixel_rays(12, 20, 50.0))


def test_a_bulging_lens_sees_more_at_the_edge_and_the_same_in_the_middle():
    straight, bent = pixel_rays(12, 20, 90.0), bent_rays(marks(bend=0.2), 90.0)
    # At half the width from the centre along a row, r is 0.95 of half the width.
    middle = straight[6, 19, :2]
    factor = 1 + 0.2 * (middle**2).sum()
    np.testing.assert_allclose(bent[6, 19, :2], middle * factor)
    np.testing.assert_array_equal(bent[..., 2], 1.0)


@pytest.mark.parametrize("bend", [-0.06, 0.14])
def test_depth_and_picture_go_through_the_same_lens(bend):
    """A floor coloured by its depth shows, after the lens, the depth cast through the lens."""
    view = View(np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.3]), 5.0, 70.0)
    loaded = load_scene(
        Scene([[Part(quad((-50, -50, 0), (100, 0, 0), (0, 100, 0)), Material(np.ones(3)))]])
    )
    rays = bent_rays(marks(shape_px=(40, 60), bend=bend), view.fov_deg)
    flat = rays.reshape(-1, 3)
    depth = planar_depth(cast_rays(loaded, view, flat), flat).reshape(40, 60)
    height, width, fov_deg = wide_camera(rays, view.fov_deg)
    wide = pixel_rays(height, width, fov_deg).reshape(-1, 3)
    straight = planar_depth(cast_rays(loaded, view, wide), wide).reshape(height, width)
    # 1 / depth is linear in the image of a plane: bilinear sampling is exact.
    colour = np.repeat((1 / straight)[..., None], 3, axis=2)
    seen = resampled(colour.astype(np.float32), rays, fov_deg)[..., 0]
    inside = depth < 20
    np.testing.assert_allclose(seen[inside], 1 / depth[inside], rtol=1e-4)


def test_noise_has_the_strength_it_says():
    light = np.full((12, 20, 3), 0.2)
    clean, noisy = photograph(light), photograph(light, noise=0.05)
    assert np.ptp(clean) == 0
    assert 0.02 < noisy.std() / 255 < 0.12


def test_blur_and_motion_spread_a_line_but_keep_its_light():
    light = np.full((12, 120, 3), 0.05)
    light[:, 10] = 0.4
    sharp, blurred = photograph(light), photograph(light, blur_px=1.0)
    moved = photograph(light, motion_px=(0.0, 3.0))
    still = photograph(light, motion_px=(3.0, 0.0))
    assert blurred[6, 10, 0] < sharp[6, 10, 0]
    assert blurred[6, 9, 0] > sharp[6, 9, 0]
    assert moved[6, 9, 0] > sharp[6, 9, 0]
    np.testing.assert_array_equal(still, sharp)


def test_vignetting_darkens_corners_and_balance_tints():
    light = np.full((12, 20, 3), 0.3)
    dark = photograph(light, vignette=0.5)
    assert dark[0, 0, 0] < dark[6, 10, 0] - 20
    warm = photograph(light, balance=np.array([1.3, 1.0, 0.7]))
    assert warm[6, 10, 0] > warm[6, 10, 1] > warm[6, 10, 2]


def test_cameras_differ_but_their_pictures_are_of_one_size():
    rng = np.random.default_rng(0)
    drawn = [draw_marks(rng, 126 * 168) for _ in range(40)]
    assert len({camera.shape_px for camera in drawn}) > 4
    assert {camera.orientation for camera in drawn} >= {1, 6}
    for camera in drawn:
        height, width = camera.shape_px
        assert height * width == pytest.approx(126 * 168, rel=0.02)
