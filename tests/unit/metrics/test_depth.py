"""Dense depth measures: worked values, invariance, masks, limits and degenerate predictions."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dav2.metrics.depth import Protocol, align, depth_errors
from dav2.metrics.pixels import evaluated_pixels

RELATIVE = Protocol(alignment="inverse_depth", crop="none", min_depth_m=0.1, max_depth_m=80.0)
METRIC = Protocol(alignment="none", crop="none", min_depth_m=0.1, max_depth_m=80.0)


def all_of(array):
    return np.ones(array.shape, dtype=bool)


def test_values_worked_out_by_hand():
    pred = np.array([[2.0, 3.0, 10.0]])
    depth = np.array([[2.0, 2.0, 5.0]])  # ratios 1, 1.5, 2
    errors = depth_errors(pred, depth, pixels=all_of(depth))
    assert errors["delta1"] == pytest.approx(1 / 3)  # below 1.25
    assert errors["delta2"] == pytest.approx(2 / 3)  # below 1.5625
    assert errors["delta3"] == pytest.approx(2 / 3)  # 1.953125 < 2
    assert errors["abs_rel"] == pytest.approx((0 + 0.5 + 1) / 3)
    assert errors["abs_rel_inverse"] == pytest.approx((0 + 1 / 3 + 1 / 2) / 3)
    assert errors["rmse"] == pytest.approx(math.sqrt((0 + 1 + 25) / 3))
    assert errors["log10"] == pytest.approx(math.log10(1.5 * 2) / 3)
    logs = [0.0, math.log(1.5), math.log(2)]
    mean = sum(logs) / 3
    variance = sum(value**2 for value in logs) / 3 - mean**2
    assert errors["silog"] == pytest.approx(100 * math.sqrt(variance))
    assert errors["log_bias"] == pytest.approx(mean)
    assert errors["rmse_log"] == pytest.approx(math.sqrt(variance + mean**2))
    assert errors["sq_rel"] == pytest.approx((0 + 1 / 2 + 25 / 5) / 3)
    inverse = [0.0, 1 / 3 - 1 / 2, 1 / 10 - 1 / 5]
    assert errors["rmse_inverse"] == pytest.approx(
        1000 * math.sqrt(sum(value**2 for value in inverse) / 3)
    )


def test_a_perfect_prediction_has_no_error():
    depth = np.array([[1.0, 2.0], [4.0, 8.0]])
    aligned = align(3.0 / depth + 1, depth, pixels=all_of(depth), protocol=RELATIVE)
    assert aligned.depth == pytest.approx(depth)
    assert (aligned.scale, aligned.shift) == pytest.approx((1 / 3, -1 / 3))
    errors = depth_errors(aligned.depth, depth, pixels=all_of(depth))
    assert errors["delta1"] == 1.0
    assert errors["abs_rel"] == pytest.approx(0.0, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(scale=st.floats(0.01, 100), shift=st.floats(-100, 100), seed=st.integers(0, 1000))
def test_relative_measures_ignore_scale_and_shift(scale, shift, seed):
    rng = np.random.default_rng(seed)
    depth, pred = rng.uniform(1, 20, (4, 6)), rng.random((4, 6))
    pixels = all_of(depth)
    plain = align(pred, depth, pixels=pixels, protocol=RELATIVE)
    changed = align(scale * pred + shift, depth, pixels=pixels, protocol=RELATIVE)
    assert changed.depth == pytest.approx(plain.depth, rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(factor=st.floats(0.01, 100), seed=st.integers(0, 1000))
def test_without_a_unit_only_measures_in_metres_depend_on_it(factor, seed):
    rng = np.random.default_rng(seed)
    depth, pred = rng.uniform(1, 20, (4, 6)), rng.random((4, 6))
    pixels = all_of(depth)
    protocol = RELATIVE.without_unit()
    errors = [
        depth_errors(
            align(pred, unit * depth, pixels=pixels, protocol=protocol).depth,
            unit * depth,
            pixels=pixels,
        )
        for unit in (1.0, factor)
    ]
    for name, power in (("rmse", 1), ("sq_rel", 1), ("rmse_inverse", -1)):
        assert errors[1][name] == pytest.approx(factor**power * errors[0][name], rel=1e-6)
    for name in set(errors[0]) - {"rmse", "sq_rel", "rmse_inverse"}:
        assert errors[1][name] == pytest.approx(errors[0][name], rel=1e-6, abs=1e-9)


def test_grows_with_noise():
    rng = np.random.default_rng(0)
    depth, noise = rng.uniform(1, 20, (30, 40)), rng.standard_normal((30, 40))
    errors = [
        depth_errors(depth * np.exp(sigma * noise), depth, pixels=all_of(depth))
        for sigma in (0.0, 0.1, 0.2, 0.4)
    ]
    assert [entry["delta1"] for entry in errors] == sorted(
        (entry["delta1"] for entry in errors), reverse=True
    )
    for name in set(errors[0]) - {"delta1", "delta2", "delta3", "log_bias"}:
        values = [entry[name] for entry in errors]
        assert values == sorted(values)
        assert values[0] == pytest.approx(0.0, abs=1e-9)


def test_evaluates_valid_pixels_within_limits_and_no_sky():
    depth = np.array([[0.05, 0.1, 80.0, 80.1, np.inf, np.nan, 5.0, 5.0]])
    valid = np.array([[True, True, True, True, True, True, False, True]])
    sky = np.array([[False, False, False, False, True, False, False, True]])
    pixels = evaluated_pixels(depth, valid, sky=sky, protocol=RELATIVE)
    assert pixels.tolist() == [[False, True, True, False, False, False, False, False]]
    pixels = evaluated_pixels(depth, valid, sky=None, protocol=RELATIVE.without_unit())
    assert pixels.tolist() == [[True, True, True, True, False, False, False, True]]


def test_errors_ignore_pixels_that_are_not_evaluated():
    depth = np.array([[2.0, np.inf, 2.0]])
    pred = np.array([[4.0, 1.0, np.nan]])
    errors = depth_errors(pred, depth, pixels=np.array([[True, False, False]]))
    assert errors["abs_rel"] == 1.0


@pytest.mark.parametrize(
    ("crop", "height", "width", "box"),
    [
        ("none", 10, 12, (0, 10, 0, 12)),
        ("eigen_nyu", 480, 640, (45, 471, 41, 601)),
        ("garg", 375, 1242, (153, 371, 44, 1197)),
        ("eigen_kitti", 375, 1242, (124, 342, 44, 1197)),
    ],
)
def test_crops_as_published(crop, height, width, box):
    depth = np.ones((height, width))
    protocol = dataclasses.replace(RELATIVE, crop=crop)
    pixels = evaluated_pixels(depth, all_of(depth), sky=None, protocol=protocol)
    rows, columns = np.nonzero(pixels)
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == box
    assert pixels.sum() == (box[1] - box[0]) * (box[3] - box[2])


def test_a_constant_prediction_becomes_the_mean_of_inverse_depth():
    depth = np.array([[1.0, 2.0, 4.0]])
    aligned = align(np.full((1, 3), 7.0), depth, pixels=all_of(depth), protocol=RELATIVE)
    assert aligned.depth == pytest.approx(np.full((1, 3), 3 / (1 + 0.5 + 0.25)))
    assert aligned.scale == 0.0


def test_inverse_depth_has_a_floor_and_a_ceiling():
    depth = np.array([[1.0, 1.0, 1.0, 1.0, 2.0]])
    pred = np.array([[1.0, 1.0, -100.0, 100.0, 0.5]])
    pixels = np.array([[True, True, False, False, True]])
    aligned = align(pred, depth, pixels=pixels, protocol=RELATIVE)
    assert aligned.depth[0] == pytest.approx([1.0, 1.0, 80.0, 0.1, 2.0])
    open_ended = align(pred, depth, pixels=pixels, protocol=RELATIVE.without_unit())
    assert open_ended.depth[0] == pytest.approx([1.0, 1.0, 2.0, 0.01, 2.0])


def test_the_metric_protocol_takes_metres_as_they_stand():
    depth = np.array([[1.0, 2.0, 4.0]])
    aligned = align(np.array([[2.0, 4.0, 500.0]]), depth, pixels=all_of(depth), protocol=METRIC)
    assert aligned.depth.tolist() == [[2.0, 4.0, 80.0]]
    assert (aligned.scale, aligned.shift) == (1.0, 0.0)


def test_the_median_protocol_removes_the_scale_alone():
    depth = np.array([[1.0, 2.0, 4.0]])
    protocol = dataclasses.replace(METRIC, alignment="median")
    aligned = align(10 * depth, depth, pixels=all_of(depth), protocol=protocol)
    assert aligned.depth == pytest.approx(depth)
    assert aligned.scale == pytest.approx(0.1)


def test_refuses_an_image_without_evaluated_pixels():
    depth = np.ones((2, 3))
    none = np.zeros((2, 3), dtype=bool)
    with pytest.raises(ValueError, match="at least one evaluated pixel, got none"):
        depth_errors(depth, depth, pixels=none)
    with pytest.raises(ValueError, match="at least one valid pixel, got none"):
        align(depth, depth, pixels=none, protocol=RELATIVE)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_refuses_depth_that_is_not_positive_and_finite(value):
    good, bad = np.ones((1, 2)), np.array([[1.0, value]])
    with pytest.raises(ValueError, match="positive finite prediction"):
        depth_errors(bad, good, pixels=all_of(good))
    with pytest.raises(ValueError, match="positive finite target"):
        depth_errors(good, bad, pixels=all_of(good))


@pytest.mark.parametrize("alignment", ["depth", "depth_l1"])
def test_an_affine_alignment_of_depth_undoes_scale_and_shift(alignment):
    depth = np.array([[1.0, 2.0, 4.0, 7.0]])
    protocol = dataclasses.replace(METRIC, alignment=alignment)
    aligned = align(3 * depth - 2, depth, pixels=all_of(depth), protocol=protocol)
    assert aligned.depth == pytest.approx(depth)
    assert (aligned.scale, aligned.shift) == pytest.approx((1 / 3, 2 / 3))


def test_a_fit_of_depth_may_fall_below_zero_and_is_raised_above_it():
    depth = np.array([[1.0, 2.0, 3.0, 1.0]])
    pred = np.array([[2.0, 3.0, 4.0, -9.0]])
    pixels = np.array([[True, True, True, False]])
    protocol = dataclasses.replace(METRIC, alignment="depth", is_clipped=False)
    aligned = align(pred, depth, pixels=pixels, protocol=protocol)
    assert aligned.depth[0] == pytest.approx([1.0, 2.0, 3.0, 1e-6])
    errors = depth_errors(aligned.depth, depth, pixels=all_of(depth))
    assert all(np.isfinite(value) for value in errors.values())


def test_the_scale_in_logarithms_is_removed():
    depth = np.array([[1.0, 2.0, 4.0]])
    protocol = dataclasses.replace(METRIC, alignment="log_depth")
    aligned = align(depth * [0.5, 1.0, 2.0], depth, pixels=all_of(depth), protocol=protocol)
    assert aligned.scale == pytest.approx(1.0)  # the geometric mean of 2, 1 and 1/2


def test_least_absolute_errors_keep_one_wrong_pixel_from_moving_the_rest():
    depth = np.array([[3.0, 2.0, 4.0, 5.0, 8.0]])
    pred = 3 / depth + 1
    depth[0, 0] = 0.2  # of the truth: in the prediction it would be a lever for both
    robust = dataclasses.replace(RELATIVE, alignment="inverse_depth_l1")
    aligned = align(pred, depth, pixels=all_of(depth), protocol=robust)
    assert aligned.depth[0, 1:] == pytest.approx(depth[0, 1:])
    moved = align(pred, depth, pixels=all_of(depth), protocol=RELATIVE)
    assert np.abs(moved.depth - depth)[0, 1:].max() > 0.5


def test_a_floor_of_its_own_and_no_clipping_as_marigold_and_moge_have_it():
    depth = np.array([[1.0, 1.0, 1.0, 1.0, 2.0]])
    pred = np.array([[1.0, 1.0, -100.0, 100.0, 0.5]])
    pixels = np.array([[True, True, False, False, True]])
    marigold = dataclasses.replace(
        RELATIVE, floor_inverse_depth=1e-3, max_depth_m=None, is_clipped=False
    )
    aligned = align(pred, depth, pixels=pixels, protocol=marigold)
    assert aligned.depth[0] == pytest.approx([1.0, 1.0, 1000.0, 0.01, 2.0])
    limited = dataclasses.replace(RELATIVE, floor_inverse_depth=1e-3)
    aligned = align(pred, depth, pixels=pixels, protocol=limited)
    assert aligned.depth[0] == pytest.approx([1.0, 1.0, 80.0, 0.1, 2.0])
    moge = dataclasses.replace(RELATIVE, max_depth_m=None, is_clipped=False)
    aligned = align(pred, depth, pixels=pixels, protocol=moge)
    assert aligned.depth[0] == pytest.approx([1.0, 1.0, 2.0, 0.01, 2.0])
    metres = dataclasses.replace(METRIC, is_clipped=False)
    aligned = align(
        np.array([[500.0, 1.0]]), np.ones((1, 2)), pixels=~pixels[:, :2], protocol=metres
    )
    assert aligned.depth[0].tolist() == [500.0, 1.0]


def test_errors_of_many_pixels_are_those_of_a_plain_oracle(monkeypatch):
    monkeypatch.setattr("dav2.metrics.depth._CHUNK", 64)
    rng = np.random.default_rng(3)
    depth, pred = rng.uniform(1, 30, (23, 31)), rng.uniform(1, 30, (23, 31))
    pixels = rng.random((23, 31)) > 0.3
    z, p = depth[pixels], pred[pixels]
    e = np.log(p / z)
    expected = {
        "delta1": np.mean(np.maximum(p / z, z / p) < 1.25),
        "delta2": np.mean(np.maximum(p / z, z / p) < 1.25**2),
        "delta3": np.mean(np.maximum(p / z, z / p) < 1.25**3),
        "abs_rel": np.mean(np.abs(p - z) / z),
        "abs_rel_inverse": np.mean(np.abs(1 / p - 1 / z) * z),
        "sq_rel": np.mean((p - z) ** 2 / z),
        "rmse": np.sqrt(np.mean((p - z) ** 2)),
        "rmse_log": np.sqrt(np.mean(e**2)),
        "rmse_inverse": 1000 * np.sqrt(np.mean((1 / p - 1 / z) ** 2)),
        "log10": np.mean(np.abs(np.log10(p / z))),
        "silog": 100 * np.sqrt(np.mean(e**2) - np.mean(e) ** 2),
        "log_bias": np.mean(e),
    }
    found = depth_errors(pred, depth, pixels=pixels)
    assert found == {name: pytest.approx(value, rel=1e-12) for name, value in expected.items()}


@pytest.mark.slow
def test_errors_agree_with_torchmetrics_where_it_offers_them():
    metrics = pytest.importorskip("torchmetrics.functional")
    rng = np.random.default_rng(4)
    depth, pred = rng.uniform(1, 30, (5, 7)), rng.uniform(1, 30, (5, 7))
    found = depth_errors(pred, depth, pixels=all_of(depth))
    z, p = torch.from_numpy(depth.ravel()), torch.from_numpy(pred.ravel())
    assert found["abs_rel"] == pytest.approx(float(metrics.mean_absolute_percentage_error(p, z)))
    assert found["rmse"] == pytest.approx(float(metrics.mean_squared_error(p, z, squared=False)))
    log_rmse = float(metrics.mean_squared_error(p.log(), z.log(), squared=False))
    assert found["rmse_log"] == pytest.approx(log_rmse)
    assert found["silog"] == pytest.approx(100 * float((p.log() - z.log()).std(unbiased=False)))
