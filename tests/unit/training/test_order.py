"""The order of samples."""

from collections import Counter

import pytest

from dav2.training.order import Part, interleaved, mixed, permuted

PARTS = (Part(10, 2), Part(7, 1), Part(5, 4))
"""Indices 0 to 9, 10 to 16 and 17 to 21; a block is 14 positions."""


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


def set_of(index):
    return (index >= 10) + (index >= 17)


def test_every_block_holds_each_set_twice_its_weight():
    for block in range(30):
        seen = [interleaved(14 * block + place, PARTS, seed=5) for place in range(14)]
        assert Counter(map(set_of, seen)) == {0: 4, 1: 2, 2: 8}


def test_neighbours_are_of_one_set():
    for position in range(0, 600, 2):
        pair = [interleaved(position + member, PARTS, seed=5) for member in (0, 1)]
        assert set_of(pair[0]) == set_of(pair[1])


@pytest.mark.parametrize("num_blocks", [1, 3, 40])
def test_samples_of_a_set_are_seen_equally_often(num_blocks):
    counts = Counter(interleaved(position, PARTS, seed=5) for position in range(14 * num_blocks))
    for first, end in ((0, 10), (10, 17), (17, 22)):
        seen = [counts[index] for index in range(first, end)]
        assert max(seen) - min(seen) <= 1


def test_later_blocks_have_another_order():
    orders = [[interleaved(14 * b + i, PARTS, seed=5) for i in range(14)] for b in range(4)]
    assert len({tuple(map(set_of, order)) for order in orders}) > 1


def test_a_mixture_needs_no_memory_and_follows_its_seed():
    def order(seed):
        return [interleaved(position, PARTS, seed=seed) for position in range(300, 400)]

    assert order(1) == order(1)
    assert order(1) != order(2)
    late = interleaved(10**12, (Part(62_000_000, 2), Part(600_000, 1)), seed=0)
    assert 0 <= late < 62_600_000


@pytest.mark.parametrize("parts", [(), (Part(0, 1),), (Part(5, 0),)])
def test_a_mixture_without_a_sample_or_a_weight_is_refused(parts):
    with pytest.raises(ValueError, match="expected at least one sample and a position from 0"):
        interleaved(0, parts, seed=0)


def test_mixing_agrees_with_the_published_generator():
    # The first output of SplitMix64 with state 1234567 (Vigna's reference code).
    assert mixed(1234567) == 6457827717110365317


@pytest.mark.parametrize(("position", "length"), [(0, 0), (-1, 5)])
def test_no_sample_or_a_negative_position_is_refused(position, length):
    with pytest.raises(ValueError, match="expected at least one sample and a position from 0"):
        permuted(position, length, seed=0)
