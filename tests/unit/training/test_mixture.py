"""Several sets as one."""

from collections import Counter

import pytest

from dav2.training.mixture import MixedSamples, Part, interleaved

PARTS = (Part(10, 2), Part(7, 1), Part(5, 4))
"""Indices 0 to 9, 10 to 16 and 17 to 21; a block is 14 positions."""


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


def test_mixed_sets_follow_one_another_and_keep_their_kind(discs):
    sets = discs(2), discs(3, first=10, pseudo=False), discs(1, first=20)
    both = MixedSamples(sets)
    assert both.sample_ids == ("disc-0", "disc-1", "disc-10", "disc-11", "disc-12", "disc-20")
    for index, name in enumerate(both.sample_ids):
        sample = both.read(index)
        assert sample.sample_id == name
        assert sample.pseudo == (not name.startswith("disc-1") or name == "disc-1")
    assert [one.reads for one in sets] == [[0, 1], [0, 1, 2], [0]]
