"""Boundary F1: whether depth jumps where the truth jumps.

Axes: H height, W width (pixels).
"""

import numpy as np
from jaxtyping import Bool, Float

THRESHOLDS = np.linspace(1.05, 1.25, 10)
"""Depth ratios between neighbours above which there is an occluding contour."""


def boundary_f1(
    pred: Float[np.ndarray, "H W"],
    depth: Float[np.ndarray, "H W"],
    *,
    pixels: Bool[np.ndarray, "H W"],
) -> float:
    """Returns the scale-invariant boundary F1 of Depth Pro, for dense truth.

    Bochkovskii et al. 2024 (arXiv:2410.02073, section 3.3): a contour lies between neighbours whose
    depths differ by more than a factor t, told apart by which of the two is in front; precision and
    recall are means over the four directions (left, right, above, below in front), without any
    tolerance in position; F1 is averaged over ten t from 1.05 to 1.25 with weights t. The ratio
    needs an unambiguous shift, so an affine-invariant prediction must be aligned first.

    Differs from the authors' code in that neighbours count only where both are evaluated, and an
    image whose truth has no contour at all gives NaN rather than 0. A perfect prediction scores
    below 1 where the truth has no contour in one of the directions: as there, it scores 0 in it.

    Args:
        pred: Predicted depth, aligned, positive.
        depth: Reference depth, positive where evaluated.
        pixels: True on the pixels evaluated.

    Returns:
        0 to 1, or NaN where the truth has no contour.
    """
    predicted = _jumps(pred, pixels)
    true = _jumps(depth, pixels)
    if not any((jump > THRESHOLDS[0]).any() for jump in true):
        return float("nan")
    scores = [_f1(predicted, true, float(threshold)) for threshold in THRESHOLDS]
    return float(np.average(scores, weights=THRESHOLDS))


def _jumps(
    depth: Float[np.ndarray, "H W"], pixels: Bool[np.ndarray, "H W"]
) -> list[Float[np.ndarray, " _"]]:
    """Returns, per direction, the depth of the pixel behind over that of the one in front."""
    safe = np.where(pixels, depth, 1.0).astype(np.float64)
    across = (safe[:, :-1] / safe[:, 1:])[pixels[:, :-1] & pixels[:, 1:]]
    down = (safe[:-1] / safe[1:])[pixels[:-1] & pixels[1:]]
    return [across, 1.0 / across, down, 1.0 / down]


def _f1(
    predicted: list[Float[np.ndarray, " _"]], true: list[Float[np.ndarray, " _"]], threshold: float
) -> float:
    precision = recall = 0.0
    for jump, true_jump in zip(predicted, true, strict=True):
        found, wanted = jump > threshold, true_jump > threshold
        hits = np.count_nonzero(found & wanted)
        precision += hits / max(int(np.count_nonzero(found)), 1) / len(true)
        recall += hits / max(int(np.count_nonzero(wanted)), 1) / len(true)
    total = precision + recall
    return 2 * precision * recall / total if total > 0 else 0.0
