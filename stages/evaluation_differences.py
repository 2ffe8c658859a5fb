"""Compares two evaluations image by image."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dav2.metrics.bootstrap import bootstrap_interval
from stages.evaluation_summary import DENSE_METRICS

_NUM_RESAMPLES = 2000


def differences(one: Path, other: Path) -> list[dict[str, Any]]:
    """Returns paired differences of two evaluations over the images that both have.

    Args:
        one: Folder of an evaluation.
        other: Folder to compare it with.

    Returns:
        Rows with `kind`, `source`, `measure`, `num_images`, `one` and `other` (means over these
        images), `difference` (one less other), and its 95 % interval `low` and `high`.

    Raises:
        FileNotFoundError: If a folder is none of an evaluation.
        ValueError: If a source was evaluated under two protocols, or no image is in both.
    """
    said = [read_result(folder / "protocols.json") for folder in (one, other)]
    dense = [pd.read_parquet(folder / "per_image.parquet") for folder in (one, other)]
    keys = ["protocol", "source", "sample_id"]
    # No measure's name ends like this; `abs_rel_other` is one.
    both = dense[0].merge(dense[1], on=keys, suffixes=("", " of other"))
    found: list[dict[str, Any]] = []
    for (kind, source), group in both.groupby(["protocol", "source"]):
        used = [entry.get(source, {}).get(kind) for entry in said]
        if used[0] != used[1]:
            names = " and ".join(entry["name"] if entry else "none" for entry in used)
            raise ValueError(f"{source}: expected one protocol in both, got {names}")
        for measure in DENSE_METRICS:
            pair = group[[measure, f"{measure} of other"]].dropna().to_numpy(np.float64)
            if len(pair):
                row = _difference(pair, np.ones(len(pair)))
                found.append({"kind": kind, "source": source, "measure": measure, **row})
    found += _pair_differences(one, other)
    if not found:
        raise ValueError(f"{one}, {other}: expected images in both, got none")
    return found


def _pair_differences(one: Path, other: Path) -> list[dict[str, Any]]:
    """Returns the differences of accuracies on annotated pairs."""
    frames = [pd.read_parquet(folder / "pairs.parquet") for folder in (one, other)]
    same = [
        *("dataset", "source", "sample_id", "closer_row", "closer_column"),
        *("farther_row", "farther_column"),
    ]
    both = frames[0].merge(frames[1][[*same, "correct"]], on=same, suffixes=("", "_other"))
    found = []
    for (dataset, source), group in both.groupby(["dataset", "source"]):
        images = group.groupby("sample_id")[["correct", "correct_other"]].agg("sum")
        counts = group.groupby("sample_id").size().to_numpy(np.float64)
        row = _difference(images.to_numpy(np.float64), counts)
        found.append({"kind": dataset, "source": source, "measure": "accuracy", **row})
    return found


def _difference(sums: np.ndarray, counts: np.ndarray) -> dict[str, Any]:
    means = sums.sum(axis=0) / counts.sum()
    apart = sums[:, 0] - sums[:, 1]
    low, high = bootstrap_interval(apart, counts, num_resamples=_NUM_RESAMPLES)
    return {
        "num_images": len(counts),
        "one": means[0],
        "other": means[1],
        "difference": means[0] - means[1],
        "low": low,
        "high": high,
    }


def read_result(path: Path) -> Any:
    """Returns the content of a JSON file of an evaluation.

    Raises:
        FileNotFoundError: If there is none.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a folder of an evaluation, got no such file")
    return json.loads(path.read_text(encoding="utf-8"))
