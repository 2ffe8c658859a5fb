"""Sums up an evaluation: means over images, accuracies over pairs, confidence intervals."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from dav2.metrics.bootstrap import bootstrap_interval, bootstrap_mean_interval
from dav2.metrics.pairs import balanced_accuracy

DENSE_METRICS = (
    "delta1",
    "delta2",
    "delta3",
    "abs_rel",
    "abs_rel_inverse",
    "sq_rel",
    "rmse",
    "rmse_log",
    "rmse_inverse",
    "log10",
    "silog",
    "log_bias",
    "boundary_f1",
    "boundary_precision",
    "boundary_recall",
    "normal_mean_deg",
    "normal_median_deg",
    "normal_within_11",
    "normal_within_22",
    "normal_within_30",
    "planarity",
    "delta1_tom",
    "abs_rel_tom",
    "delta1_other",
    "abs_rel_other",
    "pair_accuracy",
    "sky_order",
    "inconsistency_flip",
    "inconsistency_crop",
    "inconsistency_resolution",
)
"""Measures of one image with a depth map, in the order of every table."""
WITH_UNIT = ("sq_rel", "rmse", "rmse_inverse")
"""Those in metres or their inverse."""
RESERVED = ("average", "da2k", "intervals", "metric", "model", "whdr")
"""Keys of `metrics.json` that no source may have as its name."""

_DECIMALS = 6
_MEANS_OF_PIXELS = (
    "delta1",
    "delta2",
    "delta3",
    "abs_rel",
    "abs_rel_inverse",
    "sq_rel",
    "log10",
    "log_bias",
)
_ROOTS_OF_PIXELS = ("rmse", "rmse_log", "rmse_inverse")


def summarise(
    per_image: pd.DataFrame,
    pairs: pd.DataFrame,
    *,
    num_resamples: int,
    pooled: Collection[tuple[str, str]] = (),
) -> dict[str, Any]:
    """Returns the content of `metrics.json`.

    `{source: {metric: mean over images}}` of the relative protocol, `average` over the sources,
    `metric` the same of the metric protocol, `da2k` `{scenario: accuracy}` with `all` pairs and
    `balanced` (mean of the pairs whose upper point is closer and of the others), `whdr` the share
    of the pairs of Depth in the Wild ordered otherwise than people did, by source, and `intervals`:
    the same tree with `[low, high]`, 95 %, over images. A measure that no image has is left out.

    Args:
        per_image: Rows of `per_image.parquet`.
        pairs: Rows of `pairs.parquet`.
        num_resamples: Draws behind an interval.
        pooled: Protocol (`relative`, `metric`) and source of those whose measures are means over
            the pixels of all images, as far as they are means over pixels at all.

    Raises:
        ValueError: If a source has the name of another part of the tree.
    """
    taken = sorted({*per_image["source"], *pairs["source"]} & set(RESERVED))
    if taken:
        raise ValueError(
            f"evaluation: expected sources not named {', '.join(RESERVED)}, got {taken[0]}"
        )
    metrics, intervals = _dense(per_image, "relative", num_resamples, pooled)
    if (per_image["protocol"] == "metric").any():
        metrics["metric"], intervals["metric"] = _dense(per_image, "metric", num_resamples, pooled)
    by_scenario = pairs[pairs["dataset"] == "da2k"]
    if len(by_scenario):
        metrics["da2k"], intervals["da2k"] = _annotated(by_scenario, num_resamples)
    ordinal = pairs[pairs["dataset"] == "diw"]
    if len(ordinal):
        metrics["whdr"], intervals["whdr"] = _disagreement(ordinal, num_resamples)
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


def _dense(
    per_image: pd.DataFrame,
    protocol: str,
    num_resamples: int,
    pooled: Collection[tuple[str, str]],
) -> tuple[dict[str, Any], dict[str, Any]]:
    rows = per_image[per_image["protocol"] == protocol]
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
        if (protocol, source) in pooled:
            over_pixels = _pooled(group[group["num_pixels"] > 0], num_resamples)
            means[str(source)] |= over_pixels[0]
            intervals[str(source)] |= over_pixels[1]
    if means:
        gathered = {
            name: [entry[name] for entry in means.values() if name in entry]
            for name in DENSE_METRICS
        }
        means["average"] = {
            name: _rounded(np.mean(values)) for name, values in gathered.items() if values
        }
    return means, intervals


def _pooled(
    group: pd.DataFrame, num_resamples: int
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Returns measures over the pixels of all images, with intervals over images."""
    means: dict[str, float] = {}
    intervals: dict[str, list[float]] = {}
    exact: dict[str, float] = {}
    for name in (*_MEANS_OF_PIXELS, *_ROOTS_OF_PIXELS):
        rows = group[[name, "num_pixels"]].dropna().to_numpy(dtype=np.float64)
        if not len(rows):
            continue
        is_root = name in _ROOTS_OF_PIXELS
        values, counts = rows[:, 0], rows[:, 1]
        sums = (values**2 if is_root else values) * counts
        mean = float(sums.sum() / counts.sum())
        ends = bootstrap_interval(sums, counts, num_resamples=num_resamples)
        exact[name] = float(np.sqrt(mean)) if is_root else mean
        means[name] = _rounded(exact[name])
        # A root is monotone: the ends of its interval are the roots of the ends.
        intervals[name] = [_rounded(np.sqrt(end) if is_root else end) for end in ends]
    if "rmse_log" in exact:
        variance = exact["rmse_log"] ** 2 - exact["log_bias"] ** 2
        means["silog"] = _rounded(100.0 * np.sqrt(max(variance, 0.0)))
        # Its interval, of two means at once, is that of the mean over images.
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
    intervals["balanced"] = _balanced_interval(pairs, num_resamples)
    return accuracies, intervals


def _balanced_interval(pairs: pd.DataFrame, num_resamples: int) -> list[float]:
    """Returns the interval of `dav2.metrics.pairs.balanced_accuracy` over images."""
    upper, correct = pairs["upper_is_closer"], pairs["correct"].astype(np.float64)
    kinds = []
    for kind in (upper >= 0, upper <= 0):
        counted = pd.DataFrame({"sum": correct * kind, "count": kind.astype(np.float64)})
        images = counted.groupby(pairs["sample_id"]).sum()
        kinds.append((images["sum"].to_numpy(), images["count"].to_numpy()))
    ends = bootstrap_mean_interval(kinds, num_resamples=num_resamples)
    return [_rounded(end) for end in ends]


def _disagreement(
    pairs: pd.DataFrame, num_resamples: int
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Returns the weighted human disagreement rate, all weights 1 (arXiv:1604.03901, section 4)."""
    rates: dict[str, float] = {}
    intervals: dict[str, list[float]] = {}
    for source, group in pairs.groupby("source"):
        images = (~group["correct"]).groupby(group["sample_id"]).agg(["sum", "count"])
        wrong, count = (images[name].to_numpy(dtype=np.float64) for name in ("sum", "count"))
        rates[str(source)] = _rounded(wrong.sum() / count.sum())
        intervals[str(source)] = _interval(wrong, count, num_resamples)
    return rates, intervals


def _interval(sums: Any, counts: Any, num_resamples: int) -> list[float]:
    return [_rounded(end) for end in bootstrap_interval(sums, counts, num_resamples=num_resamples)]


def _rounded(value: Any) -> float:
    return round(float(value), _DECIMALS)
