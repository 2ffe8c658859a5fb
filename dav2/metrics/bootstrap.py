"""Confidence intervals over images, by resampling them.

Axes: N images, R resamples.
"""

from collections.abc import Sequence

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
    return interval_of(resampled_means(sums, counts, num_resamples=num_resamples, seed=seed))


def resampled_means(
    sums: Float[np.ndarray, " N"],
    counts: Float[np.ndarray, " N"],
    *,
    num_resamples: int,
    seed: int = 0,
) -> Float[np.ndarray, " R"]:
    """Returns sum over count of each draw of images; arguments and errors of `bootstrap_interval`.

    For the interval of what is worked out of several such means, as their average over sources:
    sources are of different images, so that each needs a seed of its own.
    """
    if not sums.size:
        raise ValueError("bootstrap: expected at least one image, got none")
    rng = np.random.default_rng(seed)
    means = np.empty(num_resamples)
    for i in range(num_resamples):  # one draw at a time: memory stays that of one draw
        drawn = rng.integers(sums.size, size=sums.size)
        means[i] = sums[drawn].sum() / counts[drawn].sum()
    return means


def interval_of(draws: Float[np.ndarray, " R"]) -> tuple[float, float]:
    """Returns the 95 % percentile interval of draws; those that are no number do not count."""
    low, high = np.nanquantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def bootstrap_mean_interval(
    kinds: Sequence[tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]],
    *,
    num_resamples: int,
    seed: int = 0,
) -> tuple[float, float]:
    """Returns the 95 % interval of the mean, over kinds of what is counted, of sum over count.

    The same images are drawn for each kind. A kind that a draw has none of does not count in it.

    Args:
        kinds: For each, sums and counts per image, as of `bootstrap_interval`; counts may be 0.
        num_resamples: Draws with replacement.
        seed: Decides the draws.

    Raises:
        ValueError: If nothing is counted in any image.
    """
    sums, counts = (np.stack(values) for values in zip(*kinds, strict=True))
    if not counts.sum():
        raise ValueError("bootstrap: expected at least one image, got none")
    rng = np.random.default_rng(seed)
    means = np.empty(num_resamples)
    for i in range(num_resamples):
        drawn = rng.integers(sums.shape[1], size=sums.shape[1])
        total, count = sums[:, drawn].sum(axis=1), counts[:, drawn].sum(axis=1)
        means[i] = (total[count > 0] / count[count > 0]).mean() if count.any() else np.nan
    return interval_of(means)
