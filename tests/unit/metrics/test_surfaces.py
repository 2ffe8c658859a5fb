"""Normals and planarity: worked planes, noise, masks, and bands of a large map."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dav2.data.sample import Intrinsics
from dav2.metrics.surfaces import normal_errors, planarity_error

CAMERA = Intrinsics(fx_px=60.0, fy_px=50.0, cx_px=25.0, cy_px=20.0)
HEIGHT, WIDTH = 40, 50


def plane(a: float, b: float, c: float = 0.5) -> np.ndarray:
    """Depth of the plane a x + b y + c z = 1 in space: 1/z = a u + b v + c along each ray."""
    u = (np.arange(WIDTH) + 0.5 - CAMERA.cx_px) / CAMERA.fx_px
    v = (np.arange(HEIGHT) + 0.5 - CAMERA.cy_px) / CAMERA.fy_px
    return 1 / (a * u[None] + b * v[:, None] + c)


def all_of(array):
    return np.ones(array.shape, dtype=bool)


@settings(max_examples=30, deadline=None)
@given(
    a=st.floats(-0.3, 0.3), b=st.floats(-0.3, 0.3), d=st.floats(-0.3, 0.3), e=st.floats(-0.3, 0.3)
)
def test_the_angle_between_two_planes_is_that_of_their_normals(a, b, d, e):
    one, other = np.array([a, b, 0.5]), np.array([d, e, 0.5])
    across = np.sqrt((np.cross(one, other) ** 2).sum())
    expected = math.degrees(math.atan2(across, (one * other).sum()))
    found = normal_errors(plane(d, e), plane(a, b), pixels=all_of(plane(a, b)), camera=CAMERA)
    assert found["normal_mean_deg"] == pytest.approx(expected, abs=1e-6)
    assert found["normal_median_deg"] == pytest.approx(expected, abs=1e-6)
    assert found["normal_within_30"] == float(expected < 30)


def test_normals_ignore_the_scale_of_the_prediction():
    rng = np.random.default_rng(0)
    depth = plane(0.1, 0.2)
    pred = depth * rng.uniform(0.99, 1.01, depth.shape)
    plain = normal_errors(pred, depth, pixels=all_of(depth), camera=CAMERA)
    assert normal_errors(7 * pred, depth, pixels=all_of(depth), camera=CAMERA) == pytest.approx(
        plain
    )


def test_surfaces_get_worse_with_noise():
    rng = np.random.default_rng(1)
    depth, noise = plane(0.1, 0.2), rng.standard_normal((HEIGHT, WIDTH))
    pixels = all_of(depth)
    noisy = [depth * np.exp(sigma * noise) for sigma in (0.0, 0.001, 0.01, 0.05)]
    angles = [normal_errors(p, depth, pixels=pixels, camera=CAMERA) for p in noisy]
    means = [entry["normal_mean_deg"] for entry in angles]
    shares = [entry["normal_within_11"] for entry in angles]
    bends = [planarity_error(p, depth, pixels=pixels) for p in noisy]
    assert means == sorted(means)
    assert shares == sorted(shares, reverse=True)
    assert bends == sorted(bends)
    assert (means[0], bends[0]) == pytest.approx((0.0, 0.0), abs=1e-6)


def test_bands_of_rows_give_what_the_whole_map_gives(monkeypatch):
    rng = np.random.default_rng(2)
    depth = plane(0.1, 0.2)
    pred = depth * rng.uniform(0.9, 1.1, depth.shape)
    pixels = rng.random(depth.shape) > 0.05
    whole = normal_errors(pred, depth, pixels=pixels, camera=CAMERA)
    monkeypatch.setattr("dav2.metrics.surfaces._BAND_PIXELS", 3 * WIDTH)
    assert normal_errors(pred, depth, pixels=pixels, camera=CAMERA) == whole


def test_normals_are_not_taken_across_edges_or_beside_what_is_not_evaluated():
    depth = plane(0.0, 0.0)
    depth[:, 25:] *= 2  # a step, along which the prediction bends
    pred = depth.copy()
    pred[:, 24:26] *= 1.3
    pixels = all_of(depth)
    pixels[:, 23] = pixels[:, 27] = False
    found = normal_errors(pred, depth, pixels=pixels, camera=CAMERA)
    assert found["normal_mean_deg"] == pytest.approx(0.0, abs=1e-6)
    pred[~pixels] = np.nan
    assert normal_errors(pred, depth, pixels=pixels, camera=CAMERA) == found
    assert normal_errors(pred, depth, pixels=np.zeros_like(pixels), camera=CAMERA) == {}


def test_the_deviation_from_a_plane_is_worked_out_on_one_square():
    # 5 x 5 pixels, one square. 1/z is 1, but for the middle one with 1 + 0.24; its plane is level
    # at 1 + 0.24 / 25, and the mean square deviation 0.24^2 (1/25 - 1/625).
    depth = np.ones((5, 5))
    inverse = np.ones((5, 5))
    inverse[2, 2] += 0.24
    expected = 0.24 * math.sqrt(1 / 25 - 1 / 625) / (1 + 0.24 / 25)
    assert planarity_error(1 / inverse, depth, pixels=all_of(depth)) == pytest.approx(expected)


def test_squares_that_are_not_flat_or_not_whole_do_not_count():
    rng = np.random.default_rng(3)
    rough = rng.uniform(1, 2, (HEIGHT, WIDTH))
    assert math.isnan(planarity_error(rough, rough, pixels=all_of(rough)))
    depth = plane(0.1, 0.1)
    pixels = all_of(depth)
    pixels[::3, ::3] = False
    assert math.isnan(planarity_error(rough, depth, pixels=pixels))
