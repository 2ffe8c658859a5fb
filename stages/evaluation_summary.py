"""Sums up an evaluation: means over images, accuracies over pairs, confidence intervals.

Axes: N images.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64

from dav2.metrics.bootstrap import (
    bootstrap_interval,
    bootstrap_mean_interval,
    interval_of,
    resampled_means,
)
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
    "boundary_sharpness",
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


@dataclass(frozen=True, slots=True)
class _Column:
    """A measure of one source: what is summed over its images, and over what."""

    sums: Float64[np.ndarray, " N"]
    counts: Float64[np.ndarray, " N"]
    is_root: bool
    """Whether the root of the mean is the measure."""

    def mean(self) -> Any:
        return self._finished(self.sums.sum() / self.counts.sum())

    def resampled(self, num_resamples: int, seed: int) -> Any:
        draws = resampled_means(self.sums, self.counts, num_resamples=num_resamples, seed=seed)
        return self._finished(draws)

    def _finished(self, mean: Any) -> Any:
        return np.sqrt(mean) if self.is_root else mean


def _dense(
    per_image: pd.DataFrame,
    protocol: str,
    num_resamples: int,
    pooled: Collection[tuple[str, str]],
) -> tuple[dict[str, Any], dict[str, Any]]:
    rows = per_image[per_image["protocol"] == protocol]
    means: dict[str, dict[str, float]] = {}
    intervals: dict[str, dict[str, list[float]]] = {}
    drawn: dict[str, list[Any]] = {}
    for place, (source, group) in enumerate(rows.groupby("source")):
        measured = group[group["num_pixels"] > 0]
        is_pooled = (protocol, source) in pooled
        columns = _columns(measured, is_pooled=is_pooled)
        # Sources are of different images: in their average each is drawn for itself.
        found, own, shared = (
            {name: column.mean() for name, column in columns.items()},
            *(
                {name: column.resampled(num_resamples, seed) for name, column in columns.items()}
                for seed in (0, 1 + place)
            ),
        )
        if is_pooled and "rmse_log" in columns:
            for values in (found, own, shared):
                variance = values["rmse_log"] ** 2 - values["log_bias"] ** 2
                values["silog"] = 100.0 * np.sqrt(np.maximum(variance, 0.0))
        means[str(source)] = {name: _rounded(value) for name, value in found.items()}
        means[str(source)]["num_images"] = len(measured)
        intervals[str(source)] = {name: _ends(draws) for name, draws in own.items()}
        for name, draws in shared.items():
            drawn.setdefault(name, []).append(draws)
    if means:
        known = [name for name in DENSE_METRICS if name in drawn]
        means["average"] = {
            name: _rounded(np.mean([entry[name] for entry in means.values() if name in entry]))
            for name in known
        }
        intervals["average"] = {name: _ends(np.mean(drawn[name], axis=0)) for name in known}
    return means, intervals


def _columns(measured: pd.DataFrame, *, is_pooled: bool) -> dict[str, _Column]:
    """Returns the measures that any image has; over images, or as far as can be over pixels."""
    columns = {}
    for name in DENSE_METRICS:
        rows = measured[[name, "num_pixels"]].dropna().to_numpy(dtype=np.float64)
        if not len(rows):
            continue
        values, counts = rows[:, 0], np.ones(len(rows))
        is_root = is_pooled and name in _ROOTS_OF_PIXELS
        if is_pooled and name in (*_MEANS_OF_PIXELS, *_ROOTS_OF_PIXELS):
            counts = rows[:, 1]
        columns[name] = _Column((values**2 if is_root else values) * counts, counts, is_root)
    return columns


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


def _ends(draws: Any) -> list[float]:
    return [_rounded(end) for end in interval_of(draws)]


def _interval(sums: Any, counts: Any, num_resamples: int) -> list[float]:
    return [_rounded(end) for end in bootstrap_interval(sums, counts, num_resamples=num_resamples)]


def _rounded(value: Any) -> float:
    return round(float(value), _DECIMALS)
