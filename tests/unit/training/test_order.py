"""The order of samples."""

import pytest

from dav2.training.order import mixed, permuted


@pytest.mark.parametrize("length", [1, 2, 3, 16, 17, 1000])
def test_each_pass_sees_every_sample_once(length):
    for number in (0, 3):
        start = number * length
        seen = [permuted(start + place, length, seed=5) for place in range(length)]
        assert sorted(seen) == list(range(length))


def test_passes_and_seeds_differ_in_their_order():
    def order(start, seed):
        return [permuted(start + place, 200, seed=seed) for place in range(200)]

    orders = [order(0, 1), order(200, 1), order(0, 2), list(range(200))]
    assert all(a != b for i, a in enumerate(orders) for b in orders[:i])


def test_a_position_gives_the_same_sample_whoever_asks():
    late = permuted(123_456_789_012, 62_000_000, seed=0)
    assert late == permuted(123_456_789_012, 62_000_000, seed=0)
    assert 0 <= late < 62_000_000


def test_every_sample_is_equally_likely_at_the_first_place():
    counts = [0] * 8
    for seed in range(4000):
        counts[permuted(0, 8, seed=seed)] += 1
    # 500 expected, deviation 21.
    assert min(counts) > 390
    assert max(counts) < 610


def test_mixing_agrees_with_the_published_generator():
    # The first output of SplitMix64 with state 1234567 (Vigna's reference code).
    assert mixed(1234567) == 6457827717110365317


@pytest.mark.parametrize(("position", "length"), [(0, 0), (-1, 5)])
def test_no_sample_or_a_negative_position_is_refused(position, length):
    with pytest.raises(ValueError, match="expected at least one sample and a position from 0"):
        permuted(position, length, seed=0)
