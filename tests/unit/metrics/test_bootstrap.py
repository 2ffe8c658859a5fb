"""Bootstrap intervals: known spread, pooling, seeds and degenerate sets."""

import numpy as np
import pytest

from dav2.metrics.bootstrap import bootstrap_interval, bootstrap_mean_interval


def test_width_is_that_of_the_standard_error():
    values = np.random.default_rng(0).normal(5.0, 2.0, 400)
    low, high = bootstrap_interval(values, np.ones(400), num_resamples=2000)
    error = values.std() / np.sqrt(400)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.03)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.03)


def test_pools_over_counts():
    # Every image is right in a quarter of its pairs, however many: no spread.
    counts = np.array([4.0, 8.0, 40.0])
    assert bootstrap_interval(counts / 4, counts, num_resamples=50) == (0.25, 0.25)


def test_one_image_has_no_spread():
    assert bootstrap_interval(np.array([0.3]), np.ones(1), num_resamples=10) == (0.3, 0.3)


def test_the_seed_alone_decides():
    values = np.arange(9.0)
    first, same, other = (
        bootstrap_interval(values, np.ones(9), num_resamples=100, seed=seed) for seed in (1, 1, 2)
    )
    assert first == same != other


def test_no_image_is_refused():
    with pytest.raises(ValueError, match="at least one image, got none"):
        bootstrap_interval(np.zeros(0), np.zeros(0), num_resamples=10)


def test_one_kind_alone_has_the_interval_of_its_mean():
    rng = np.random.default_rng(3)
    sums, counts = rng.uniform(size=30), rng.integers(1, 5, size=30).astype(np.float64)
    expected = bootstrap_interval(sums, counts, num_resamples=200)
    assert bootstrap_mean_interval([(sums, counts)], num_resamples=200) == pytest.approx(expected)


def test_kinds_weigh_the_same_however_often_they_occur():
    often = (np.full(40, 9.0), np.full(40, 9.0))
    seldom = (np.zeros(40), np.full(40, 1.0))
    assert bootstrap_mean_interval([often, seldom], num_resamples=50) == (0.5, 0.5)


def test_a_kind_that_is_missing_leaves_the_other_to_decide():
    counted, none = (np.ones(5), np.full(5, 2.0)), (np.zeros(5), np.zeros(5))
    assert bootstrap_mean_interval([counted, none], num_resamples=50) == (0.5, 0.5)
    with pytest.raises(ValueError, match="expected at least one image, got none"):
        bootstrap_mean_interval([none, none], num_resamples=50)
