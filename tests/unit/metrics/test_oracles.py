"""Measures against plain float64 readings of their definitions, and against maintained packages.

The errors of depth and the alignments are held against theirs in `test_depth.py`,
`test_alignment.py` and, protocol by protocol, `tests/stages/test_evaluation_oracle.py`.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap
from sklearn.metrics import balanced_accuracy_score

from dav2.data.sample import Intrinsics
from dav2.metrics.bootstrap import bootstrap_interval
from dav2.metrics.boundary import boundary_scores, boundary_sharpness
from dav2.metrics.consistency import inconsistency
from dav2.metrics.depth import depth_errors
from dav2.metrics.pairs import balanced_accuracy, correct_pairs, sample_depth_pairs
from dav2.metrics.surfaces import normal_errors, planarity_error

HEIGHT, WIDTH = 31, 45


def blocks(seed):
    """Depth of fronto-parallel boxes, a prediction of it with noise, and what is evaluated."""
    rng = np.random.default_rng(seed)
    depth = np.kron(rng.uniform(1, 9, (7, 9)), np.ones((5, 5)))[:HEIGHT, :WIDTH]
    pred = depth * np.exp(rng.normal(0, 0.1, depth.shape))
    return depth, pred, rng.random(depth.shape) > 0.05


def neighbours(values):
    """Both values of each pair of neighbours, in the four directions of Depth Pro."""
    across, down = (values[:, :-1], values[:, 1:]), (values[:-1], values[1:])
    return [across, across[::-1], down, down[::-1]]


def test_boundaries_are_those_of_depth_pros_definition():
    depth, pred, pixels = blocks(1)
    thresholds = np.linspace(1.05, 1.25, 10)
    scores = []
    for threshold in thresholds:
        shares = []
        for predicted, true, inside in zip(*map(neighbours, (pred, depth, pixels)), strict=True):
            both = inside[0] & inside[1]
            found = (predicted[0] / predicted[1] > threshold) & both
            wanted = (true[0] / true[1] > threshold) & both
            hits = (found & wanted).sum()
            shares.append((hits / max(found.sum(), 1), hits / max(wanted.sum(), 1)))
        precision, recall = np.mean(shares, axis=0)
        scores.append((2 * precision * recall / (precision + recall), precision, recall))
    f1, precision, recall = np.average(scores, axis=0, weights=thresholds)
    assert boundary_scores(pred, depth, pixels=pixels) == pytest.approx(
        {"boundary_f1": f1, "boundary_precision": precision, "boundary_recall": recall}
    )


def test_sharpness_is_a_mean_over_pairs_of_neighbours():
    depth, pred, pixels = blocks(2)
    shares = []
    for row in range(HEIGHT):
        for column in range(WIDTH):
            for other in ((row, column + 1), (row + 1, column)):
                if other[0] == HEIGHT or other[1] == WIDTH:
                    continue
                step = np.log(depth[row, column] / depth[other])
                if pixels[row, column] and pixels[other] and abs(step) > np.log(1.25):
                    share = np.log(pred[row, column] / pred[other]) / step
                    shares.append(min(max(share, 0), 1))
    assert boundary_sharpness(pred, depth, pixels=pixels) == pytest.approx(np.mean(shares))


def test_angles_are_those_between_crossed_differences():
    rng = np.random.default_rng(3)
    camera = Intrinsics(fx_px=40.0, fy_px=50.0, cx_px=21.0, cy_px=17.0)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    depth = 4 + 0.02 * columns - 0.01 * rows
    pred = depth + rng.normal(0, 0.01, depth.shape)

    def normals(z):
        rays = np.stack(
            [(columns - camera.cx_px) / 40, (rows - camera.cy_px) / 50, np.ones_like(z)]
        )
        points = np.moveaxis(rays * z, 0, -1)
        down, along = np.gradient(points, axis=(0, 1))
        crossed = np.cross(along, down)[1:-1, 1:-1]
        return crossed / np.linalg.norm(crossed, axis=-1, keepdims=True)

    cosines = np.clip((normals(pred) * normals(depth)).sum(-1), -1, 1)
    angles = np.degrees(np.arccos(cosines))
    found = normal_errors(pred, depth, pixels=np.ones(depth.shape, dtype=bool), camera=camera)
    assert found["normal_mean_deg"] == pytest.approx(angles.mean(), rel=1e-6)
    assert found["normal_median_deg"] == pytest.approx(np.median(angles), rel=1e-6)
    assert found["normal_within_11"] == pytest.approx((angles < 11.25).mean())


def test_planarity_is_what_a_fitted_plane_leaves():
    rng = np.random.default_rng(4)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    depth = 1 / (0.2 + 0.001 * columns + 0.003 * rows)
    pred = depth * np.exp(rng.normal(0, 0.02, depth.shape))
    left = []
    for top in range(0, HEIGHT - 4, 5):
        for first in range(0, WIDTH - 4, 5):
            inverse = 1 / pred[top : top + 5, first : first + 5].ravel()
            grid = np.mgrid[:5, :5].reshape(2, -1)
            design = np.stack([*grid, np.ones(25)], axis=1)
            plane = design @ np.linalg.lstsq(design, inverse, rcond=None)[0]
            left.append(np.sqrt(np.mean((inverse - plane) ** 2)) / inverse.mean())
    every = np.ones(depth.shape, dtype=bool)
    assert planarity_error(pred, depth, pixels=every) == pytest.approx(np.mean(left))


@pytest.mark.slow
def test_inconsistency_is_what_torchmetrics_correlation_leaves():
    from torchmetrics.functional import pearson_corrcoef

    depth, pred, _ = blocks(5)
    one, other = (torch.from_numpy(values.ravel()) for values in (depth, pred))
    left = torch.sqrt(1 - pearson_corrcoef(one, other) ** 2)
    assert inconsistency(depth, pred) == pytest.approx(float(left), rel=1e-6)


@pytest.mark.slow
def test_inverse_and_logarithmic_errors_agree_with_torchmetrics():
    from torchmetrics import functional

    depth, pred, _ = blocks(6)
    found = depth_errors(pred, depth, pixels=np.ones(depth.shape, dtype=bool))
    z, p = (torch.from_numpy(values.ravel()) for values in (depth, pred))
    percentage = functional.mean_absolute_percentage_error
    assert found["abs_rel_inverse"] == pytest.approx(float(percentage(1 / p, 1 / z)))
    squared = functional.mean_squared_error(1000 / p, 1000 / z, squared=False)
    assert found["rmse_inverse"] == pytest.approx(float(squared))
    absolute = functional.mean_absolute_error(p.log10(), z.log10())
    assert found["log10"] == pytest.approx(float(absolute))


def test_balanced_accuracy_is_scikit_learns():
    depth, pred, pixels = blocks(7)
    pairs = sample_depth_pairs(depth, pixels=pixels, num_pairs=60, min_ratio=1.1, seed="s")
    correct = correct_pairs(1 / (pred + np.linspace(0, 9, HEIGHT)[:, None]), pairs)
    upper = pairs.upper_is_closer()[5:]  # no longer as many of both kinds
    said = np.where(correct[5:], upper, -upper)
    assert 0 < correct.mean() < 1
    assert balanced_accuracy(correct[5:], upper) == pytest.approx(
        balanced_accuracy_score(upper, said)
    )


def test_intervals_are_scipys_percentile_bootstrap():
    values = np.random.default_rng(8).lognormal(0, 1, 80)
    other = bootstrap((values,), np.mean, n_resamples=5000, method="percentile", rng=1)
    found = bootstrap_interval(values, np.ones(80), num_resamples=5000)
    low, high = other.confidence_interval
    assert found == pytest.approx((low, high), abs=0.05 * (high - low))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), junk=st.floats(0.01, 1e4))
def test_what_is_not_evaluated_moves_no_measure(seed, junk):
    depth, pred, pixels = blocks(seed)
    camera = Intrinsics(fx_px=40.0, fy_px=50.0, cx_px=21.0, cy_px=17.0)

    def all_measures(pred, depth):
        return {
            **depth_errors(pred, depth, pixels=pixels),
            **boundary_scores(pred, depth, pixels=pixels),
            **normal_errors(pred, depth, pixels=pixels, camera=camera),
            "sharpness": boundary_sharpness(pred, depth, pixels=pixels),
            "planarity": planarity_error(pred, depth, pixels=pixels),
        }

    plain = all_measures(pred, depth)
    changed = all_measures(np.where(pixels, pred, junk), np.where(pixels, depth, 1 / junk))
    assert changed == pytest.approx(plain, nan_ok=True)


def test_order_and_boundaries_get_worse_with_noise():
    depth, _, _ = blocks(9)
    every = np.ones(depth.shape, dtype=bool)
    pairs = sample_depth_pairs(depth, pixels=every, num_pairs=100, min_ratio=1.3, seed="s")
    noise = np.random.default_rng(10).standard_normal(depth.shape)
    noisy = [depth * np.exp(sigma * noise) for sigma in (0.0, 0.2, 0.5, 1.5)]
    order = [correct_pairs(1 / pred, pairs).mean() for pred in noisy]
    edges = [boundary_scores(pred, depth, pixels=every)["boundary_f1"] for pred in noisy]
    steps = [boundary_sharpness(pred, depth, pixels=every) for pred in noisy]
    for values in (order, edges, steps):
        assert values == sorted(values, reverse=True)
        assert values[0] == pytest.approx(1.0)
        assert values[-1] < 0.8
