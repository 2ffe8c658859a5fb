"""Sums up an evaluation: means over images, accuracies over pairs, confidence intervals."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from dav2.metrics.bootstrap import bootstrap_interval
from dav2.metrics.pairs import balanced_accuracy

DENSE_METRICS = (
    "delta1",
    "delta2",
    "delta3",
    "abs_rel",
    "abs_rel_inverse",
    "rmse",
    "log10",
    "silog",
    "boundary_f1",
    "pair_accuracy",
    "sky_order",
)
"""Measures of one image with a depth map, in the order of every table."""
RESERVED = ("average", "da2k", "intervals", "metric", "model")
"""Keys of `metrics.json` that no source may have as its name."""

_DECIMALS = 6


def summarise(
    per_image: pd.DataFrame, pairs: pd.DataFrame, *, num_resamples: int
) -> dict[str, Any]:
    """Returns the content of `metrics.json`.

    `{source: {metric: mean over images}}` of the relative protocol, `average` over the sources,
    `metric` the same of the metric protocol, `da2k` `{scenario: accuracy}` with `all` pairs and
    `balanced` (mean of the pairs whose upper point is closer and of the others), and `intervals`:
    the same tree with `[low, high]`, 95 %, over images. A measure that no image has is left out.

    Args:
        per_image: Rows of `per_image.parquet`.
        pairs: Rows of `pairs.parquet`.
        num_resamples: Draws behind an interval.

    Raises:
        ValueError: If a source has the name of another part of the tree.
    """
    taken = sorted({*per_image["source"], *pairs["source"]} & set(RESERVED))
    if taken:
        raise ValueError(
            f"evaluation: expected sources not named {', '.join(RESERVED)}, got {taken[0]}"
        )
    metrics, intervals = _dense(per_image[per_image["protocol"] == "relative"], num_resamples)
    metric_rows = per_image[per_image["protocol"] == "metric"]
    if len(metric_rows):
        metrics["metric"], intervals["metric"] = _dense(metric_rows, num_resamples)
    if len(pairs):
        metrics["da2k"], intervals["da2k"] = _annotated(pairs, num_resamples)
    return {**metrics, "intervals": intervals}


def flat(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Returns the numbers of nested metrics by path, as in `studio/delta1`; lists are left out."""
    found: dict[str, float] = {}
    for key, value in metrics.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}/")
        elif isinstance(value, int | float):
            found[f"{prefix}{key}"] = value
    return found


def _dense(rows: pd.DataFrame, num_resamples: int) -> tuple[dict[str, Any], dict[str, Any]]:
    means: dict[str, dict[str, float]] = {}
    intervals: dict[str, dict[str, list[float]]] = {}
    for source, group in rows.groupby("source"):
        columns = {name: group[name].dropna().to_numpy(dtype=np.float64) for name in DENSE_METRICS}
        known = {name: values for name, values in columns.items() if values.size}
        means[str(source)] = {
            **{name: _rounded(values.mean()) for name, values in known.items()},
            "num_images": int((group["num_pixels"] > 0).sum()),
        }
        intervals[str(source)] = {
            name: _interval(values, np.ones_like(values), num_resamples)
            for name, values in known.items()
        }
    if means:
        gathered = {
            name: [entry[name] for entry in means.values() if name in entry]
            for name in DENSE_METRICS
        }
        means["average"] = {
            name: _rounded(np.mean(values)) for name, values in gathered.items() if values
        }
    return means, intervals


def _annotated(
    pairs: pd.DataFrame, num_resamples: int
) -> tuple[dict[str, float], dict[str, list[float]]]:
    groups = {str(name): group for name, group in pairs.groupby("scenario")} | {"all": pairs}
    accuracies = {name: _rounded(group["correct"].mean()) for name, group in groups.items()}
    accuracies["balanced"] = _rounded(
        balanced_accuracy(
            pairs["correct"].to_numpy(dtype=bool), pairs["upper_is_closer"].to_numpy(np.int64)
        )
    )
    intervals = {}
    for name, group in groups.items():
        images = group.groupby("sample_id")["correct"].agg(["sum", "count"]).astype(np.float64)
        intervals[name] = _interval(
            images["sum"].to_numpy(), images["count"].to_numpy(), num_resamples
        )
    return accuracies, intervals


def _interval(sums: Any, counts: Any, num_resamples: int) -> list[float]:
    return [_rounded(end) for end in bootstrap_interval(sums, counts, num_resamples=num_resamples)]


def _rounded(value: Any) -> float:
    return round(float(value), _DECIMALS)
