"""Boundaries: whether depth jumps where the truth jumps, and how sharply.

Axes: H height, W width (pixels), D directions, T thresholds, N neighbours.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

THRESHOLDS = np.linspace(1.05, 1.25, 10)
"""Depth ratios between neighbours above which there is an occluding contour."""
_STEP_DOWN = 0.96
"""Ratios above it are no step the other way round: 1 / 0.96 is below all thresholds."""
_BAND_PIXELS = 1 << 16


def boundary_scores(
    pred: Float[np.ndarray, "H W"],
    depth: Float[np.ndarray, "H W"],
    *,
    pixels: Bool[np.ndarray, "H W"],
) -> dict[str, float]:
    """Returns the scale-invariant boundary F1 of Depth Pro with its parts, for dense truth.

    Bochkovskii et al. 2024 (arXiv:2410.02073, section 3.3): a contour lies between neighbours whose
    depths differ by more than a factor t, told apart by which of the two is in front; precision and
    recall are means over the four directions (left, right, above, below in front), without any
    tolerance in position; all three are averaged over ten t from 1.05 to 1.25 with weights t. The
    ratio needs an unambiguous shift, so an affine-invariant prediction must be aligned first.

    Differs from the authors' code in that neighbours count only where both are evaluated, and an
    image whose truth has no contour at all gives NaN rather than 0. A perfect prediction scores
    below 1 where the truth has no contour in one of the directions: as there, it scores 0 in it.

    Args:
        pred: Predicted depth, aligned, positive.
        depth: Reference depth, positive where evaluated.
        pixels: True on the pixels evaluated.

    Returns:
        `boundary_f1`, `boundary_precision` and `boundary_recall`, 0 to 1, or NaN where the truth
        has no contour.
    """
    counts = _counted(pred, depth, pixels)
    if not counts.wanted.any():
        return dict.fromkeys(("boundary_f1", "boundary_precision", "boundary_recall"), float("nan"))
    scores = []
    for step in range(len(THRESHOLDS)):
        hits = counts.hits[:, step]
        precision, recall = (
            _share(hits, counts.found[:, step]),
            _share(hits, counts.wanted[:, step]),
        )
        total = precision + recall
        f1 = 2 * precision * recall / total if total > 0 else 0.0
        scores.append((f1, precision, recall))
    f1, precision, recall = np.average(scores, axis=0, weights=THRESHOLDS)
    return {
        "boundary_f1": float(f1),
        "boundary_precision": float(precision),
        "boundary_recall": float(recall),
    }


def boundary_sharpness(
    pred: Float[np.ndarray, "H W"],
    depth: Float[np.ndarray, "H W"],
    *,
    pixels: Bool[np.ndarray, "H W"],
) -> float:
    """Returns how much of a true edge's step the prediction makes between the same two pixels.

    Our own measure, beside the F1 for its lack of a threshold in the prediction: an edge blurred
    over n pixels keeps about 1 / n of its step. The step is that of log depth, so that a factor of
    the prediction changes nothing; an edge lies between neighbours whose true depths differ by more
    than the largest of the F1's ratios, which no slanted surface does.

    Args:
        pred: Predicted depth, aligned, positive.
        depth: Reference depth, positive where evaluated.
        pixels: True on the pixels evaluated.

    Returns:
        A mean over edges, each between 0 (no step, or one the wrong way) and 1 (as high as the true
        one, or higher); NaN where the truth has no edge.
    """
    total, count = 0.0, 0
    rows = max(1, _BAND_PIXELS // depth.shape[1])
    for first in range(0, depth.shape[0], rows):
        part = slice(first, first + rows + 1)  # one row more: the neighbours below the last
        inside = pixels[part]
        predicted, true = (
            np.log(np.where(inside, values[part], 1.0).astype(np.float64, copy=False))
            for values in (pred, depth)
        )
        for one, other in (
            (np.s_[:rows, :-1], np.s_[:rows, 1:]),
            (np.s_[:-1, :], np.s_[1:, :]),
        ):
            wanted = true[one] - true[other]
            edges = (np.abs(wanted) > np.log(THRESHOLDS[-1])) & inside[one] & inside[other]
            shares = (predicted[one] - predicted[other])[edges] / wanted[edges]
            total += float(np.clip(shares, 0.0, 1.0).sum())
            count += int(edges.sum())
    return total / count if count else float("nan")


@dataclass(frozen=True, slots=True)
class _Counts:
    """Neighbours whose depths differ by more than each threshold, for each direction."""

    found: Int[np.ndarray, "D T"]
    """In the prediction."""
    wanted: Int[np.ndarray, "D T"]
    """In the truth."""
    hits: Int[np.ndarray, "D T"]
    """In both."""


def _counted(
    pred: Float[np.ndarray, "H W"],
    depth: Float[np.ndarray, "H W"],
    pixels: Bool[np.ndarray, "H W"],
) -> _Counts:
    """Counts contours, some rows at a time: left, right, above and below in front."""
    counts = np.zeros((3, 4, len(THRESHOLDS)), dtype=np.int64)
    rows = max(1, _BAND_PIXELS // depth.shape[1])
    for first in range(0, depth.shape[0], rows):
        # One row more: the neighbours below the last.
        part = slice(first, first + rows + 1)
        inside = pixels[part]
        maps = [
            np.where(inside, values[part], 1.0).astype(np.float64, copy=False)
            for values in (pred, depth)
        ]
        beside = inside[:rows, :-1] & inside[:rows, 1:]
        below = inside[:-1] & inside[1:]
        across = [(safe[:rows, :-1] / safe[:rows, 1:])[beside] for safe in maps]
        down = [(safe[:-1] / safe[1:])[below] for safe in maps]
        for axis, (predicted, true) in enumerate((across, down)):
            counts[:, 2 * axis] += _above(predicted, true)
            # Only what may exceed a threshold is turned round: the inverse of a step up.
            counts[0, 2 * axis + 1] += _over(1.0 / predicted[predicted < _STEP_DOWN])
            back = true < _STEP_DOWN
            counts[1:, 2 * axis + 1] += _above(1.0 / predicted[back], 1.0 / true[back])[1:]
    return _Counts(*counts)


def _above(
    predicted: Float[np.ndarray, " N"], true: Float[np.ndarray, " N"]
) -> Int[np.ndarray, "3 T"]:
    """Returns how many neighbours are above each threshold: predicted, true, both."""
    contour = true > THRESHOLDS[0]
    both = np.minimum(predicted[contour], true[contour])
    return np.stack([_over(predicted), _over(true[contour]), _over(both)])


def _over(jumps: Float[np.ndarray, " N"]) -> Int[np.ndarray, " T"]:
    """Returns how many are above each threshold."""
    high = jumps[jumps > THRESHOLDS[0]]
    return np.array([np.count_nonzero(high > threshold) for threshold in THRESHOLDS])


def _share(hits: Int[np.ndarray, " D"], marks: Int[np.ndarray, " D"]) -> float:
    """Returns the share of what is marked that is hit, a mean over directions."""
    share = 0.0
    for hit, marked in zip(hits.tolist(), marks.tolist(), strict=True):
        share += hit / max(marked, 1) / len(marks)
    return share
