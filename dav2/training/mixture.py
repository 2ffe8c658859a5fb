"""Several sets of samples as one, each seen as often as it has samples, or by weights."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, chain
from typing import NamedTuple

from dav2.training.order import mixed, permuted
from dav2.training.samples import Samples, TrainingSample


class MixedSamples:
    """Several sets, one after another; each sample knows whether a teacher gave its target."""

    def __init__(self, sets: Sequence[Samples]) -> None:
        self._sets = tuple(sets)
        self._ids = tuple(chain.from_iterable(one.sample_ids for one in self._sets))
        self._ends = list(accumulate(len(one.sample_ids) for one in self._sets))

    @property
    def sample_ids(self) -> tuple[str, ...]:
        """Names of all samples, in the order of their indices."""
        return self._ids

    def read(self, index: int) -> TrainingSample:
        """Returns one sample; raises `ValueError` as the set it is of."""
        number = bisect_right(self._ends, index)
        return self._sets[number].read(index - (self._ends[number - 1] if number else 0))


class Part(NamedTuple):
    """One of several sets that follow each other, and how often it is drawn."""

    num_samples: int
    weight: int
    """Of as many samples as all weights add up to, this many come from the set."""


def interleaved(position: int, parts: Sequence[Part], *, seed: int) -> int:
    """Returns the index of the sample at a position of an endless stream of several sets.

    Like `permuted`, without memory. The shares are exact, not on average: each block of twice as
    many positions as the weights add up to holds each set twice its weight, in an order of its own.
    At the end of a block no sample of a set was seen more than once more often than another.
    Samples come in pairs of one set, first and second, third and fourth..., for those are what
    CutMix may mix.

    Args:
        position: Place in the stream, from 0.
        parts: The sets; an index counts through all of them.
        seed: Other seeds give other orders.

    Raises:
        ValueError: If a set has no sample or all weights are 0, or the position is negative.
    """
    pair, member = divmod(position, 2)
    total = sum(part.weight for part in parts)
    place = permuted(pair, total, seed=mixed(seed))
    first = 0
    for number, (num_samples, weight) in enumerate(parts):
        if place < weight:
            seen = 2 * (pair // total * weight + place) + member
            return first + permuted(seen, num_samples, seed=mixed(mixed(seed) + 1 + number))
        place -= weight
        first += num_samples
    raise AssertionError("a place below the sum of weights belongs to one of them")
