"""Boundary F1: worked values, invariance, masks and truth without contours."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dav2.metrics import boundary
from dav2.metrics.boundary import boundary_scores, boundary_sharpness


def boundary_f1(pred, depth, *, pixels):
    return boundary_scores(pred, depth, pixels=pixels)["boundary_f1"]


def all_of(array):
    return np.ones(array.shape, dtype=bool)


def test_a_score_worked_out_by_hand():
    # One row; truth: the right pixel is in front at column 0|1 by 2, the left one at 2|3 by 1.5.
    depth = np.array([[2.0, 1.0, 1.0, 1.5]])
    # Prediction finds the first, misses the second, and invents one at 1|2 with the right in front.
    pred = np.array([[4.0, 2.0, 1.0, 1.0]])
    # Right in front: precision 1/2, recall 1. Left in front: 0 and 0. Above, below: nothing, 0.
    precision, recall = 0.5 / 4, 1.0 / 4
    expected = 2 * precision * recall / (precision + recall)
    assert boundary_f1(pred, depth, pixels=all_of(depth)) == pytest.approx(expected)


def test_weighs_thresholds_by_themselves():
    depth = np.array([[1.2, 1.0]])
    # Found up to a ratio of 1.1; of the truth's contours (below 1.2) only those count.
    pred = np.array([[1.1, 1.0]])
    thresholds = np.linspace(1.05, 1.25, 10)
    # In one direction of four precision and recall are 1: F1 is 1/4 where both see the contour.
    expected = 0.25 * thresholds[thresholds < 1.1].sum() / thresholds.sum()
    assert boundary_f1(pred, depth, pixels=all_of(depth)) == pytest.approx(expected)


def test_a_perfect_prediction_scores_one_where_all_directions_occur():
    depth = np.ones((5, 7))
    depth[2, 3] = 2.0
    assert boundary_f1(depth, depth, pixels=all_of(depth)) == pytest.approx(1.0)


@settings(max_examples=30, deadline=None)
@given(factor=st.floats(0.01, 100), seed=st.integers(0, 1000))
def test_ignores_the_scale_of_the_prediction(factor, seed):
    rng = np.random.default_rng(seed)
    depth, pred = rng.uniform(1, 3, (5, 7)), rng.uniform(1, 3, (5, 7))
    plain = boundary_f1(pred, depth, pixels=all_of(depth))
    assert boundary_f1(factor * pred, depth, pixels=all_of(depth)) == pytest.approx(plain, rel=0.05)


def test_swapping_front_and_back_finds_nothing():
    depth = np.array([[1.0, 1.0, 2.0, 2.0]])
    assert boundary_f1(1 / depth, depth, pixels=all_of(depth)) == 0.0


def test_ignores_contours_beside_pixels_that_are_not_evaluated():
    depth = np.array([[1.0, 2.0, np.inf, np.nan, 1.0, 2.0]])
    pred = np.array([[1.0, 2.0, 50.0, 1e-9, 1.0, 1.0]])
    pixels = np.array([[True, True, False, False, False, True]])
    alone = boundary_f1(pred[:, :2], depth[:, :2], pixels=pixels[:, :2])
    assert boundary_f1(pred, depth, pixels=pixels) == alone > 0


def test_truth_without_contours_gives_no_score():
    depth = np.full((5, 7), 3.0)
    assert math.isnan(boundary_f1(depth, depth, pixels=all_of(depth)))
    depth[0, 0] = 1.0
    only_inside = all_of(depth)
    only_inside[:2, :2] = False
    assert math.isnan(boundary_f1(depth, depth, pixels=only_inside))


def test_a_flat_prediction_scores_zero():
    depth = np.array([[1.0, 2.0]])
    assert boundary_f1(np.ones((1, 2)), depth, pixels=all_of(depth)) == 0.0


def test_precision_and_recall_are_the_parts_of_the_score():
    depth = np.array([[2.0, 1.0, 1.0, 1.5]])
    pred = np.array([[4.0, 2.0, 1.0, 1.0]])  # as worked out above: right in front alone
    scores = boundary_scores(pred, depth, pixels=all_of(depth))
    assert scores["boundary_precision"] == pytest.approx(0.5 / 4)
    assert scores["boundary_recall"] == pytest.approx(1.0 / 4)


def test_scores_do_not_depend_on_how_many_rows_are_counted_at_once(monkeypatch):
    rng = np.random.default_rng(5)
    depth = np.exp(rng.normal(0, 0.2, (23, 17)))
    pred = depth * np.exp(rng.normal(0, 0.1, depth.shape))
    pixels = rng.random(depth.shape) > 0.1
    whole = boundary.boundary_scores(pred, depth, pixels=pixels)
    # Plainly: every pair of neighbours, each way, at every threshold.
    directions = []
    for near, far in (
        (np.s_[:, :-1], np.s_[:, 1:]),
        (np.s_[:, 1:], np.s_[:, :-1]),
        (np.s_[:-1], np.s_[1:]),
        (np.s_[1:], np.s_[:-1]),
    ):
        both = pixels[near] & pixels[far]
        directions.append([(values[far] / values[near])[both] for values in (pred, depth)])
    recalls = [
        np.mean([((p > t) & (q > t)).sum() / max((q > t).sum(), 1) for p, q in directions])
        for t in boundary.THRESHOLDS
    ]
    expected = np.average(recalls, weights=boundary.THRESHOLDS)
    assert whole["boundary_recall"] == pytest.approx(expected, rel=1e-12)
    for rows in (1, 2, 22, 23):
        monkeypatch.setattr(boundary, "_BAND_PIXELS", 17 * rows)
        assert boundary.boundary_scores(pred, depth, pixels=pixels) == whole


def test_sharpness_is_the_share_of_the_step_that_is_made_at_the_edge():
    depth = np.array([[1.0, 1.0, 4.0, 4.0]])
    # Of ln 4 the blurred step makes a half at the edge, the rest before and after it.
    blurred = np.array([[1.0, np.sqrt(2), 2 * np.sqrt(2), 4.0]])
    for pred, expected in (
        (3 * depth, 1.0),
        (blurred, 0.5),
        (depth**2, 1.0),  # higher than the truth
        (1 / depth, 0.0),  # the wrong way
        (np.ones_like(depth), 0.0),
    ):
        assert boundary_sharpness(pred, depth, pixels=all_of(depth)) == pytest.approx(expected)


def test_sharpness_counts_evaluated_edges_alone():
    depth = np.array([[1.0, 2.0, 1.0], [1.0, 2.0, 2.0]])  # edges: two, one, and one below
    pred = np.array([[1.0, 2.0, 2.0], [1.0, 2.0, 2.0]])
    assert boundary_sharpness(pred, depth, pixels=all_of(depth)) == pytest.approx(2 / 4)
    pixels = all_of(depth)
    pixels[0, 2] = False
    depth[0, 2] = pred[0, 2] = np.nan
    assert boundary_sharpness(pred, depth, pixels=pixels) == 1.0
    slanted = np.array([[1.0, 1.2, 1.44]])
    assert math.isnan(boundary_sharpness(slanted, slanted, pixels=all_of(slanted)))


def test_sharpness_falls_with_blur_and_does_not_depend_on_bands(monkeypatch):
    rng = np.random.default_rng(0)
    depth = np.kron(rng.uniform(1, 9, (4, 5)), np.ones((6, 7)))

    def blurred(times):
        log = np.log(depth)
        for _ in range(times):
            padded = np.pad(log, 1, mode="edge")
            log = (padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]) / 4
        return np.exp(log)

    found = [boundary_sharpness(blurred(n), depth, pixels=all_of(depth)) for n in (0, 1, 3, 9)]
    assert found[0] == pytest.approx(1.0)
    assert found == sorted(found, reverse=True)
    assert found[3] < 0.4
    monkeypatch.setattr(boundary, "_BAND_PIXELS", 100)
    assert boundary_sharpness(blurred(3), depth, pixels=all_of(depth)) == pytest.approx(found[2])
