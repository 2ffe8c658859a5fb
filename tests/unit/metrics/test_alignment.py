"""Alignment: worked values, invariance, masks and degenerate predictions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from dav2.metrics.alignment import (
    align_geometric_mean,
    align_least_absolute,
    align_least_squares,
    align_median,
)

ALL = np.ones((1, 3), dtype=bool)


def test_solves_a_line_worked_out_by_hand():
    # x = 0, 1, 2 and y = 1, 2, 6: slope (1*4 - 1*(-2)) ... = sum(xc*yc)/sum(xc^2) = 5/2 = 2.5,
    # shift = 3 - 2.5 * 1 = 0.5.
    pred = np.array([[0.0, 1.0, 2.0]])
    target = np.array([[1.0, 2.0, 6.0]])
    assert align_least_squares(pred, target, valid=ALL) == pytest.approx((2.5, 0.5))


def test_agrees_with_a_general_solver():
    rng = np.random.default_rng(0)
    pred, target = rng.random((5, 7)), rng.random((5, 7))
    valid = rng.random((5, 7)) > 0.3
    design = np.stack([pred[valid], np.ones(valid.sum())], axis=1)
    expected = np.linalg.lstsq(design, target[valid], rcond=None)[0]
    assert align_least_squares(pred, target, valid=valid) == pytest.approx(tuple(expected))


@settings(max_examples=50, deadline=None)
@given(
    scale=st.floats(0.01, 100) | st.floats(-100, -0.01),
    shift=st.floats(-100, 100),
    seed=st.integers(0, 1000),
)
def test_undoes_any_affine_change_of_the_prediction(scale, shift, seed):
    rng = np.random.default_rng(seed)
    pred, target = rng.random((4, 6)), rng.random((4, 6))
    valid = np.ones((4, 6), dtype=bool)
    plain = align_least_squares(pred, target, valid=valid)
    changed = scale * pred + shift
    again = align_least_squares(changed, target, valid=valid)
    assert again[0] * changed + again[1] == pytest.approx(plain[0] * pred + plain[1], abs=1e-9)


def test_ignores_invalid_pixels():
    pred = np.array([[0.0, 1.0, np.nan]])
    target = np.array([[5.0, 7.0, np.inf]])
    valid = np.array([[True, True, False]])
    assert align_least_squares(pred, target, valid=valid) == pytest.approx((2.0, 5.0))
    assert align_median(pred + 1, target, valid=valid) == pytest.approx(6.0 / 1.5)


@pytest.mark.parametrize("value", [0.0, 0.1, -3e8, 1e-30])
def test_gives_a_constant_prediction_the_mean(value):
    pred = np.full((1, 3), value, dtype=np.float32)
    target = np.array([[1.0, 2.0, 6.0]])
    assert align_least_squares(pred, target, valid=ALL) == (0.0, 3.0)


def test_keeps_a_faint_but_real_slope():
    pred = np.array([[1.0, 1.0 + 1e-6, 1.0 + 2e-6]])
    target = np.array([[1.0, 2.0, 3.0]])
    scale, _ = align_least_squares(pred, target, valid=ALL)
    assert scale == pytest.approx(1e6, rel=1e-6)


def test_scales_to_the_median():
    pred = np.array([[1.0, 2.0, 30.0]])
    target = np.array([[3.0, 5.0, 7.0]])
    assert align_median(pred, target, valid=ALL) == 2.5


def test_median_of_zero_gives_scale_zero():
    assert align_median(np.zeros((1, 3)), np.ones((1, 3)), valid=ALL) == 0.0


def absolute_error(scale, shift, pred, target, valid):
    return np.abs(scale * pred + shift - target)[valid].sum()


def test_the_least_absolute_line_ignores_an_outlier():
    pred = np.array([[0.0, 1.0, 2.0, 3.0, 4.0]])
    target = np.array([[1.0, 3.0, 5.0, 7.0, 900.0]])  # 2 x + 1, but for the last
    everywhere = np.ones((1, 5), dtype=bool)
    assert align_least_absolute(pred, target, valid=everywhere) == pytest.approx((2.0, 1.0))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_least_absolute_errors_agree_with_linear_programming(seed):
    from scipy.optimize import linprog

    rng = np.random.default_rng(seed)
    pred, target = rng.random((4, 5)), rng.standard_cauchy((4, 5))
    valid = rng.random((4, 5)) > 0.2
    x, y = pred[valid], target[valid]
    # Unknowns: scale, shift, and for each pixel a bound of its error, whose sum is smallest.
    one, own = np.ones((x.size, 1)), np.eye(x.size)
    bounds = np.block([[x[:, None], one, -own], [-x[:, None], -one, -own]])
    cost = np.concatenate([[0, 0], np.ones(x.size)])
    limits = [(None, None)] * 2 + [(0, None)] * x.size
    least = linprog(cost, A_ub=bounds, b_ub=np.concatenate([y, -y]), bounds=limits).fun
    found = align_least_absolute(pred, target, valid=valid)
    assert absolute_error(*found, pred, target, valid) == pytest.approx(least, rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    scale=st.floats(0.01, 100) | st.floats(-100, -0.01),
    shift=st.floats(-100, 100),
    seed=st.integers(0, 1000),
)
def test_least_absolute_errors_ignore_any_affine_change(scale, shift, seed):
    rng = np.random.default_rng(seed)
    pred, target = rng.random((4, 6)), rng.random((4, 6))
    valid = np.ones((4, 6), dtype=bool)
    plain = align_least_absolute(pred, target, valid=valid)
    changed = scale * pred + shift
    again = align_least_absolute(changed, target, valid=valid)
    assert absolute_error(*again, changed, target, valid) == pytest.approx(
        absolute_error(*plain, pred, target, valid), rel=1e-6
    )


def test_a_constant_gets_the_median_of_least_absolute_errors():
    target = np.array([[1.0, 2.0, 600.0]])
    assert align_least_absolute(np.full((1, 3), 0.1), target, valid=ALL) == (0.0, 2.0)


def test_the_scale_in_logarithms_is_the_geometric_mean_of_ratios():
    pred, target = np.array([[1.0, 2.0, 9.0]]), np.array([[2.0, 16.0, 0.0]])
    valid = np.array([[True, True, False]])
    assert align_geometric_mean(pred, target, valid=valid) == pytest.approx(math.sqrt(2 * 8))
    with pytest.raises(ValueError, match=r"expected positive values .* and a target from 0\.0"):
        align_geometric_mean(pred, target, valid=ALL)


@pytest.mark.parametrize("function", [align_least_squares, align_median])
def test_refuses_an_image_without_valid_pixels(function):
    with pytest.raises(ValueError, match="at least one valid pixel, got none"):
        function(np.ones((1, 3)), np.ones((1, 3)), valid=~ALL)


@pytest.mark.parametrize("function", [align_least_squares, align_median])
def test_refuses_values_that_are_not_finite(function):
    bad = np.array([[1.0, np.nan, np.inf]])
    with pytest.raises(ValueError, match="finite prediction where valid, got 2 other values"):
        function(bad, np.ones((1, 3)), valid=ALL)
    with pytest.raises(ValueError, match="finite target where valid"):
        function(np.ones((1, 3)), bad, valid=ALL)


def test_the_number_of_threads_of_blas_changes_no_bit():
    rng = np.random.default_rng(0)
    pred, target = rng.random((300, 400)), rng.random((300, 400))
    solutions = set()
    for num_threads in (1, 2):
        with threadpool_limits(num_threads):
            solutions.add(align_least_squares(pred, target, valid=pred > 0.1))
    assert len(solutions) == 1
