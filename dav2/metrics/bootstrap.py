"""Confidence intervals over images, by resampling them.

Axes: N images.
"""

import numpy as np
from jaxtyping import Float

CONFIDENCE = 0.95


def bootstrap_interval(
    sums: Float[np.ndarray, " N"],
    counts: Float[np.ndarray, " N"],
    *,
    num_resamples: int,
    seed: int = 0,
) -> tuple[float, float]:
    """Returns the 95 % interval of sum over count, by the percentile bootstrap (Efron 1979).

    Whole images are resampled, because pixels and pairs of one image are not independent.

    Args:
        sums: Per image, the sum of a measure over what is counted: with counts of 1, its value.
        counts: Per image, how much is counted; positive.
        num_resamples: Draws with replacement.
        seed: Decides the draws.

    Raises:
        ValueError: If there is no image.
    """
    if not sums.size:
        raise ValueError("bootstrap: expected at least one image, got none")
    rng = np.random.default_rng(seed)
    means = np.empty(num_resamples)
    for i in range(num_resamples):  # one draw at a time: memory stays that of one draw
        drawn = rng.integers(sums.size, size=sums.size)
        means[i] = sums[drawn].sum() / counts[drawn].sum()
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
