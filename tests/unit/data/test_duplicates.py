"""Near duplicates are found by their hashes, all of them and no others."""

import numpy as np
import pytest

from dav2.data import duplicates
from dav2.data.duplicates import MAX_DISTANCE, Hashes, nearest, parse_hashes


def flipped(value, *bits):
    for bit in bits:
        value ^= 1 << bit
    return value


def apart(values):
    """Hashes of which each is a group of its own, numbered from 0."""
    return Hashes(np.array(values, np.uint64), np.arange(len(values)))


def brute_force(hashes, others):
    distance, place = [], []
    for value, group in zip(hashes.values, hashes.groups, strict=True):
        found = [
            (int(value ^ other).bit_count(), column)
            for column, other in enumerate(others.values)
            if group != others.groups[column]
        ]
        best = min((entry for entry in found if entry[0] <= MAX_DISTANCE), default=(-1, -1))
        distance.append(best[0])
        place.append(best[1])
    return distance, place


def test_finds_what_differs_in_three_bits_wherever_they_are_and_not_in_four():
    value = 0x0123456789ABCDEF
    others = [flipped(value, 0, 20, 63), flipped(value, 1, 17, 33, 49), ~value % 2**64]

    one = Hashes(np.array([value], np.uint64), np.array([-1]))

    distance, place = nearest(one, apart(others))

    assert (distance.tolist(), place.tolist()) == ([3], [0])
    distance, place = nearest(one, apart(others[1:]))
    assert (distance.tolist(), place.tolist()) == ([-1], [-1])


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("at_once", [1, 7, 1 << 22])
def test_agrees_with_comparing_all_with_all(same, at_once, monkeypatch):
    monkeypatch.setattr(duplicates, "_PAIRS_AT_ONCE", at_once)
    rng = np.random.default_rng(3)
    seeds = rng.integers(0, 2**63, 12).tolist()
    values = [
        flipped(seeds[rng.integers(12)], *rng.integers(0, 64, rng.integers(0, 4)).tolist())
        for _ in range(90)
    ]
    hashes = Hashes(np.array(values, np.uint64), rng.integers(0, 20, 90))
    others = hashes if same else Hashes(hashes.values[::-1][:50], rng.integers(0, 20, 50))

    distance, place = nearest(hashes, others)

    assert (distance.tolist(), place.tolist()) == brute_force(hashes, others)
    assert 0 < (distance >= 0).sum() < 90


def test_none_or_one_has_no_neighbour():
    one, none = apart([5]), apart([])

    assert nearest(one, one)[0].tolist() == [-1]
    assert nearest(none, one)[0].tolist() == []
    assert nearest(one, none)[1].tolist() == [-1]


def test_hashes_are_hexadecimal():
    assert parse_hashes(["00000000000000ff", "8000000000000000"]).tolist() == [255, 2**63]
