"""Consistency of predictions: nothing but scale and shift may change for free."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dav2.metrics.consistency import inconsistency


@settings(max_examples=30, deadline=None)
@given(scale=st.floats(0.01, 100), shift=st.floats(-100, 100), seed=st.integers(0, 1000))
def test_another_scale_and_shift_changes_nothing(scale, shift, seed):
    rng = np.random.default_rng(seed)
    one, other = rng.random((4, 6)), rng.random((4, 6))
    assert inconsistency(one, scale * one + shift) == pytest.approx(0.0, abs=1e-6)
    plain = inconsistency(one, other)
    assert inconsistency(one, scale * other + shift) == pytest.approx(plain, abs=1e-6)
    assert inconsistency(other, one) == pytest.approx(plain)


def test_is_what_a_correlation_leaves_unexplained():
    rng = np.random.default_rng(0)
    one = rng.random((5, 7))
    other = one + 0.3 * rng.standard_normal((5, 7))
    r = np.corrcoef(one.ravel(), other.ravel())[0, 1]
    assert inconsistency(one, other) == pytest.approx(math.sqrt(1 - r**2))


def test_grows_with_noise():
    rng = np.random.default_rng(1)
    one, noise = rng.random((30, 40)), rng.standard_normal((30, 40))
    values = [inconsistency(one, one + sigma * noise) for sigma in (0.0, 0.1, 0.3, 1.0)]
    assert values == sorted(values)


def test_a_constant_explains_nothing_and_is_not_explained():
    one = np.random.default_rng(2).random((4, 6))
    assert inconsistency(one, np.full((4, 6), 3.0)) == pytest.approx(1.0)
    assert math.isnan(inconsistency(np.full((4, 6), 3.0), one))
