"""Boundary F1: whether depth jumps where the truth jumps.

Axes: H height, W width (pixels).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

THRESHOLDS = np.linspace(1.05, 1.25, 10)
"""Depth ratios between neighbours above which there is an occluding contour."""


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
    predicted = _jumps(pred, pixels)
    true = _jumps(depth, pixels)
    if not any((jump > THRESHOLDS[0]).any() for jump in true):
        return dict.fromkeys(("boundary_f1", "boundary_precision", "boundary_recall"), float("nan"))
    scores = []
    for threshold in THRESHOLDS:
        found = [jump > threshold for jump in predicted]
        wanted = [jump > threshold for jump in true]
        scores.append((_f1(found, wanted), _share(wanted, found), _share(found, wanted)))
    f1, precision, recall = np.average(scores, axis=0, weights=THRESHOLDS)
    return {
        "boundary_f1": float(f1),
        "boundary_precision": float(precision),
        "boundary_recall": float(recall),
    }


def mask_boundary_recall(
    pred: Float[np.ndarray, "H W"], foreground: Bool[np.ndarray, "H W"]
) -> float:
    """Returns the share of an object's outline at which the prediction steps behind the object.

    Depth Pro's recall for sets with masks in place of depth, as of hair and fur (as above; a matte
    is foreground where its alpha is above 0.1). Other steps are no errors: nothing is known there.

    Args:
        pred: Predicted depth, aligned or metric, positive.
        foreground: True on the object.

    Returns:
        0 to 1, or NaN where there is no outline.
    """
    everywhere = np.ones(pred.shape, dtype=bool)
    predicted = _jumps(pred, everywhere)
    # Twice as far behind the object as on it: a step at every threshold.
    true = _jumps(np.where(foreground, 1.0, 2.0), everywhere)
    wanted = [jump > 1.5 for jump in true]
    if not any(jump.any() for jump in wanted):
        return float("nan")
    scores = [_share([jump > t for jump in predicted], wanted) for t in THRESHOLDS]
    return float(np.average(scores, weights=THRESHOLDS))


def _jumps(
    depth: Float[np.ndarray, "H W"], pixels: Bool[np.ndarray, "H W"]
) -> list[Float[np.ndarray, " _"]]:
    """Returns, per direction, the depth of the pixel behind over that of the one in front."""
    safe = np.where(pixels, depth, 1.0).astype(np.float64)
    across = (safe[:, :-1] / safe[:, 1:])[pixels[:, :-1] & pixels[:, 1:]]
    down = (safe[:-1] / safe[1:])[pixels[:-1] & pixels[1:]]
    return [across, 1.0 / across, down, 1.0 / down]


def _f1(found: Sequence[Bool[np.ndarray, " _"]], wanted: Sequence[Bool[np.ndarray, " _"]]) -> float:
    precision, recall = _share(wanted, found), _share(found, wanted)
    total = precision + recall
    return 2 * precision * recall / total if total > 0 else 0.0


def _share(
    found: Sequence[Bool[np.ndarray, " _"]], wanted: Sequence[Bool[np.ndarray, " _"]]
) -> float:
    """Returns the share of what is wanted that is found, a mean over directions."""
    share = 0.0
    for hits, marks in zip(found, wanted, strict=True):
        share += np.count_nonzero(hits & marks) / max(int(np.count_nonzero(marks)), 1) / len(wanted)
    return share
