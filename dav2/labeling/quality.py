"""Numbers that tell a usable label from a useless one.

Axes: B labels of one size, H, W pixels, N = H x W.
"""

from math import ceil

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float32, Float64
from torch import Tensor

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
    p01, p50, p99 = np.percentile(values, [1, 50, 99])
    return _described(
        float(values.min()),
        float(values.max()),
        float(p01),
        float(p50),
        float(p99),
        float(np.mean(values == 0)),
        float(np.abs(values - p50).mean()),
        _ramp_correlation(values),
    )


def statistics_on_device(labels: Float32[Tensor, "B H W"]) -> list[dict[str, float | bool]]:
    """Returns `label_statistics` of labels that lie on a GPU, computed there.

    The last bits may differ, as a device adds up in another order.
    """
    values = labels.double()
    height, pixels = values.shape[1], values.flatten(1)
    ordered = labels.flatten(1).sort(1).values
    p01, p50, p99 = (_percentile(ordered, percent) for percent in (1.0, 50.0, 99.0))
    rows = torch.arange(height, device=labels.device, dtype=torch.float64) - (height - 1) / 2
    variance = (pixels - pixels.mean(1, keepdim=True)).square().mean(1)
    scale = (rows.square().mean() * variance).sqrt()
    ramp = (rows * values.mean(2)).mean(1) / scale
    minima, maxima = pixels.amin(1), pixels.amax(1)
    columns = (
        minima,
        maxima,
        p01,
        p50,
        p99,
        (pixels == 0).double().mean(1),
        (pixels - p50[:, None]).abs().mean(1),
        torch.where((maxima > minima) & (scale > 0), ramp, 0.0),
    )
    return [_described(*row) for row in torch.stack(columns, 1).tolist()]


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


def _described(
    minimum: float,
    maximum: float,
    p01: float,
    p50: float,
    p99: float,
    zero_fraction: float,
    deviation: float,
    ramp_correlation: float,
) -> dict[str, float | bool]:
    """Returns the row of a label; deviation is the mean absolute one from the median."""
    span = maximum - minimum
    flat = span <= 1e-4 * max(abs(minimum), abs(maximum))
    return {
        "label_min": minimum,
        "label_max": maximum,
        "label_p01": p01,
        "label_p50": p50,
        "label_p99": p99,
        "zero_fraction": zero_fraction,
        "degenerate": flat or deviation <= 1e-3 * span,
        "ramp_correlation": ramp_correlation,
    }


def _percentile(ordered: Float32[Tensor, "B N"], percent: float) -> Float64[Tensor, " B"]:
    """Interpolates between neighbours, as NumPy does."""
    place = percent / 100 * (ordered.shape[1] - 1)
    low, high = ordered[:, int(place)].double(), ordered[:, ceil(place)].double()
    return torch.lerp(low, high, place - int(place))


def _ramp_correlation(values: np.ndarray) -> float:
    rows = np.arange(len(values)) - (len(values) - 1) / 2
    means = values.mean(axis=1)
    centred = values - values.mean()
    scale = np.sqrt(np.mean(rows**2) * np.mean(centred**2))
    return float(np.mean(rows * means) / scale) if scale > 0 else 0.0
