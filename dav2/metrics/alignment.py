"""Removes the scale, or scale and shift, that a prediction leaves open.

Axes: H height, W width (pixels).
"""

import numpy as np
from jaxtyping import Bool, Float

CONSTANT_TOLERANCE = 1e-12
"""Predictions whose deviation is below this fraction of their magnitude are constant."""


def align_least_squares(
    pred: Float[np.ndarray, "H W"],
    target: Float[np.ndarray, "H W"],
    *,
    valid: Bool[np.ndarray, "H W"],
) -> tuple[float, float]:
    """Returns scale and shift that bring `pred` closest to `target` in squared error.

    The alignment of MiDaS (Ranftl et al. 2020, arXiv:1907.01341, section 5), which evaluates in
    inverse depth. Solved on centred values in float64. The scale may be negative: then the
    prediction orders depth the wrong way round, and alignment is the kindest reading of it.

    Args:
        pred: Prediction, any affine scale.
        target: Reference in the space of alignment, such as inverse depth in 1/m.
        valid: True on the pixels to use.

    Returns:
        `(scale, shift)`; `(0, mean of target)` for a constant prediction.

    Raises:
        ValueError: If no pixel is valid, or a value there is not finite.
    """
    x, y = _evaluated(pred, target, valid)
    mean_x, mean_y = float(x.mean()), float(y.mean())
    x_centred = x - mean_x
    # np.sum, as BLAS would share a product out to threads and round it otherwise from run to run.
    deviation = float(np.sum(x_centred * x_centred))
    magnitude = float(np.abs(x).max())
    if deviation <= x.size * (CONSTANT_TOLERANCE * magnitude) ** 2:
        return 0.0, mean_y
    scale = float(np.sum(x_centred * (y - mean_y))) / deviation
    return scale, mean_y - scale * mean_x


def align_median(
    pred: Float[np.ndarray, "H W"],
    target: Float[np.ndarray, "H W"],
    *,
    valid: Bool[np.ndarray, "H W"],
) -> float:
    """Returns the scale that gives `pred` the median of `target`.

    Args:
        pred: Prediction up to scale, such as depth.
        target: Reference in the same space.
        valid: True on the pixels to use.

    Returns:
        Ratio of the medians; 0 where the prediction's median is 0.

    Raises:
        ValueError: If no pixel is valid, or a value there is not finite.
    """
    x, y = _evaluated(pred, target, valid)
    median = float(np.median(x))
    return float(np.median(y)) / median if median != 0.0 else 0.0


def _evaluated(
    pred: Float[np.ndarray, "H W"],
    target: Float[np.ndarray, "H W"],
    valid: Bool[np.ndarray, "H W"],
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Returns both maps on the valid pixels as float64, checked."""
    if not valid.any():
        raise ValueError("alignment: expected at least one valid pixel, got none")
    x, y = pred[valid].astype(np.float64), target[valid].astype(np.float64)
    for name, values in (("prediction", x), ("target", y)):
        if not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).sum())
            raise ValueError(
                f"alignment: expected a finite {name} where valid, got {bad} other values"
            )
    return x, y
