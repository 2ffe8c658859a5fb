"""How much of a prediction changes when nothing in the scene does.

Axes: H height, W width (pixels).
"""

import numpy as np
from jaxtyping import Float

from dav2.metrics.alignment import align_least_squares


def inconsistency(one: Float[np.ndarray, "H W"], other: Float[np.ndarray, "H W"]) -> float:
    """Returns the share of one prediction that another of the same pixels does not explain.

    The other is fitted to the first by scale and shift, because a model may choose those anew for
    each image; what is left is compared with the deviation of the first. It equals the root of
    1 - r^2 of Pearson's r, so that it does not depend on which of the two is called first.

    Args:
        one: Prediction of the image.
        other: Of the image mirrored, cropped or resized, brought back to the same pixels.

    Returns:
        0 where both agree up to scale and shift, 1 where they have nothing in common; NaN where the
        first is constant.
    """
    every = np.ones(one.shape, dtype=bool)
    scale, shift = align_least_squares(other, one, valid=every)
    first = one.astype(np.float64)
    left = first - (scale * other.astype(np.float64) + shift)
    deviation = float(first.std())
    return float(np.sqrt((left**2).mean())) / deviation if deviation > 0 else float("nan")
