"""Numbers that tell a usable label from a useless one.

Axes: H, W pixels.
"""

import numpy as np
import pandas as pd
from jaxtyping import Float32

from dav2.metrics.alignment import align_least_squares

WORST_BY = ("flip_inconsistency", "scale_inconsistency", "zero_fraction", "ramp_correlation")
"""Columns of the index of which a high value speaks against a label."""


def label_statistics(relative_depth: Float32[np.ndarray, "H W"]) -> dict[str, float | bool]:
    """Describes one label.

    Args:
        relative_depth: Inverse depth up to scale and shift, finite.

    Returns:
        `label_min`, `label_max` and the percentiles `label_p01`, `label_p50`, `label_p99`, in the
        label's unit; `zero_fraction`, the share of pixels that are exactly 0; `degenerate`, True
        where the map is flat to within 1e-4 of its size or deviates from its median by under 1e-3
        of its range on average, so that no loss could learn from it; `ramp_correlation`, Pearson's
        with the row number, in [-1, 1] (near 1: the label is hardly more than "lower is closer").
    """
    values = relative_depth.astype(np.float64)
    minimum, maximum = values.min(), values.max()
    p01, p50, p99 = np.percentile(values, [1, 50, 99])
    span = maximum - minimum
    deviation = np.abs(values - p50).mean()
    flat = span <= 1e-4 * max(abs(minimum), abs(maximum))
    return {
        "label_min": float(minimum),
        "label_max": float(maximum),
        "label_p01": float(p01),
        "label_p50": float(p50),
        "label_p99": float(p99),
        "zero_fraction": float(np.mean(values == 0)),
        "degenerate": bool(flat or deviation <= 1e-3 * span),
        "ramp_correlation": _ramp_correlation(values),
    }


def flip_inconsistency(
    label: Float32[np.ndarray, "H W"], label_of_mirrored: Float32[np.ndarray, "H W"]
) -> float | None:
    """Returns how much a label changes when its image is mirrored.

    Args:
        label: Label of the image.
        label_of_mirrored: Label of the image mirrored left to right, not mirrored back.

    Returns:
        Mean absolute difference after mirroring back, as a share of the label's range; None where
        the label is constant.
    """
    span = float(label.max()) - float(label.min())
    if span <= 0:
        return None
    difference = label.astype(np.float64) - label_of_mirrored[:, ::-1]
    return float(np.abs(difference).mean() / span)


def scale_inconsistency(
    label: Float32[np.ndarray, "H W"], rescaled: Float32[np.ndarray, "H W"]
) -> float | None:
    """Returns how much a label changes when the teacher sees its image at another resolution.

    A teacher's scale and shift mean nothing, and it may choose others for another resolution; so
    both are first removed by least squares.

    Args:
        label: Label of the image.
        rescaled: Label of the image at another resolution, resampled to the grid of `label`.

    Returns:
        Mean absolute difference after alignment, as a share of the label's range; None where the
        label is constant.
    """
    span = float(label.max()) - float(label.min())
    if span <= 0:
        return None
    scale, shift = align_least_squares(rescaled, label, valid=np.ones(label.shape, bool))
    difference = scale * rescaled.astype(np.float64) + shift - label
    return float(np.abs(difference).mean() / span)


def worst_labels(index: pd.DataFrame, *, num_samples: int) -> dict[str, list[int]]:
    """Returns the places of the worst labels by each of `WORST_BY`, the worst first.

    A measure that is 0 or null shows nothing bad, and so is left out; so is one without any other.

    Args:
        index: Rows of the index of a folder of shards, in its order.
        num_samples: Most places of each.
    """
    found = {}
    for measure in WORST_BY:
        values = index[measure].reset_index(drop=True)
        worst = values[values > 0].sort_values(ascending=False, kind="stable")
        if len(worst):
            found[measure] = [int(place) for place in worst.index[:num_samples]]
    return found


def _ramp_correlation(values: np.ndarray) -> float:
    rows = np.arange(len(values)) - (len(values) - 1) / 2
    means = values.mean(axis=1)
    centred = values - values.mean()
    scale = np.sqrt(np.mean(rows**2) * np.mean(centred**2))
    return float(np.mean(rows * means) / scale) if scale > 0 else 0.0
