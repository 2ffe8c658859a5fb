"""Removes the scale, or scale and shift, that a prediction leaves open.

Axes: H height, W width (pixels).
"""

import numpy as np
from jaxtyping import Bool, Float

CONSTANT_TOLERANCE = 1e-12
"""Predictions whose deviation is below this fraction of their magnitude are constant."""
_MAX_HALVINGS = 200


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


def align_least_absolute(
    pred: Float[np.ndarray, "H W"],
    target: Float[np.ndarray, "H W"],
    *,
    valid: Bool[np.ndarray, "H W"],
) -> tuple[float, float]:
    """Returns scale and shift that bring `pred` closest to `target` in absolute error.

    Least absolute deviations: a few outliers do not move it. For a given scale the best shift is a
    median, and what is left is convex in the scale, whose zero of the slope is bisected; from the
    scale of least squares outwards.

    Args:
        pred: Prediction, any affine scale.
        target: Reference in the space of alignment.
        valid: True on the pixels to use.

    Returns:
        `(scale, shift)`; `(0, median of target)` for a constant prediction.

    Raises:
        ValueError: If no pixel is valid, or a value there is not finite.
    """
    x, y = _evaluated(pred, target, valid)
    start, _ = align_least_squares(pred, target, valid=valid)
    centred = x - float(np.median(x))
    spread = float(np.abs(centred).max())
    if spread <= CONSTANT_TOLERANCE * float(np.abs(x).max()):
        return 0.0, float(np.median(y))
    low, high = _bracket(centred, y, start, step=max(abs(start), float(np.ptp(y)) / spread, 1e-12))
    for _ in range(_MAX_HALVINGS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if _slope(centred, y, middle) < 0:
            low = middle
        else:
            high = middle
    scale = high
    return scale, float(np.median(y - scale * x))


def align_geometric_mean(
    pred: Float[np.ndarray, "H W"],
    target: Float[np.ndarray, "H W"],
    *,
    valid: Bool[np.ndarray, "H W"],
) -> float:
    """Returns the scale that brings log `pred` closest to log `target` in squared error.

    Args:
        pred: Prediction up to scale, positive where valid, such as depth.
        target: Reference in the same space, positive where valid.
        valid: True on the pixels to use.

    Raises:
        ValueError: If no pixel is valid, or a value there is not finite or not positive.
    """
    x, y = _evaluated(pred, target, valid)
    if min(x.min(), y.min()) <= 0:
        raise ValueError(
            f"alignment: expected positive values where valid, got a prediction from {x.min()} "
            f"and a target from {y.min()}"
        )
    return float(np.exp((np.log(y) - np.log(x)).mean()))


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


def _bracket(
    x: Float[np.ndarray, " N"], y: Float[np.ndarray, " N"], start: float, *, step: float
) -> tuple[float, float]:
    """Returns two scales between which the sum of absolute errors is smallest."""
    low = high = start
    while _slope(x, y, low) > 0:
        low, step = low - step, 2 * step
    while _slope(x, y, high) < 0:
        high, step = high + step, 2 * step
    return low, high


def _slope(x: Float[np.ndarray, " N"], y: Float[np.ndarray, " N"], scale: float) -> float:
    """Returns a slope, in the scale, of the sum of absolute errors at the best shift."""
    left = y - scale * x
    left -= np.median(left)
    sign = np.sign(left)
    # What lies on the median itself balances the two sides.
    level = sign == 0
    balance = float(sign.sum()) / max(int(level.sum()), 1)
    sign[level] = -balance
    return -float(np.sum(x * sign))


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
