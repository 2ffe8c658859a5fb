"""Images that are nearly the same, by their perceptual hashes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MAX_DISTANCE = 3
"""Most bits, of 64, in which hashes of alike images differ: the search is complete up to this."""

_BANDS = MAX_DISTANCE + 1  # two hashes that differ in fewer bits than this share a whole band
_BAND_BITS = 64 // _BANDS
_PAIRS_AT_ONCE = 1 << 22


def parse_hashes(texts: list[str]) -> npt.NDArray[np.uint64]:
    """Returns hashes of 16 hexadecimal digits as numbers."""
    return np.array([int(text, 16) for text in texts], np.uint64)


@dataclass(frozen=True, slots=True)
class Hashes:
    """Hashes of images, N of them."""

    values: npt.NDArray[np.uint64]
    groups: npt.NDArray[np.int64]
    """Two images of one group, as one scene, are not compared."""


def nearest(hashes: Hashes, others: Hashes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Returns for each hash the other of another group that is nearest, within `MAX_DISTANCE`.

    Hashes are cut into four bands of 16 bits; two that differ in three bits at most have a band in
    common (Manku et al. 2007), so only those that share one are compared.

    Args:
        hashes: N hashes.
        others: Those to compare with; may be the same.

    Returns:
        N distances in bits, and N places in `others`; both -1 where none is near.
    """
    values, compared = hashes.values, others.values
    distance = np.full(len(values), -1, np.int64)
    place = np.full(len(values), -1, np.int64)
    for band in range(_BANDS):
        shift = np.uint64(band * _BAND_BITS)
        mask = np.uint64((1 << _BAND_BITS) - 1)
        for rows, columns in _sharing((values >> shift) & mask, (compared >> shift) & mask):
            bits = np.bitwise_count(values[rows] ^ compared[columns]).astype(np.int64)
            near = (bits <= MAX_DISTANCE) & (hashes.groups[rows] != others.groups[columns])
            rows, columns, bits = rows[near], columns[near], bits[near]
            # The last write of a row stays: the nearest, of equals the first in `others`.
            order = np.lexsort((-columns, -bits, rows))
            rows, columns, bits = rows[order], columns[order], bits[order]
            last = np.append(rows[1:] != rows[:-1], True)[: len(rows)]
            rows, columns, bits = rows[last], columns[last], bits[last]
            known = distance[rows]
            closer = (known < 0) | (bits < known) | ((bits == known) & (columns < place[rows]))
            distance[rows[closer]], place[rows[closer]] = bits[closer], columns[closer]
    return distance, place


def _sharing(
    keys: npt.NDArray[np.uint64], others: npt.NDArray[np.uint64]
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Yields all pairs of places with equal keys, a bounded number at a time."""
    order = np.argsort(others, kind="stable")
    ordered = others[order]
    first = np.searchsorted(ordered, keys, side="left")
    counts = np.searchsorted(ordered, keys, side="right") - first
    start = 0
    ends = np.cumsum(counts)
    while start < len(keys):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + _PAIRS_AT_ONCE, side="right")))
        rows = np.repeat(np.arange(start, stop), counts[start:stop])
        within = np.arange(len(rows)) - np.repeat(
            ends[start:stop] - counts[start:stop] - done, counts[start:stop]
        )
        yield rows, order[np.repeat(first[start:stop], counts[start:stop]) + within]
        start = stop
