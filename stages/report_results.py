"""Reads evaluations and compares models with baselines and with each other."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dav2.metrics.bootstrap import bootstrap_interval
from stages.matrix import MatrixParams

BASELINES = ("constant", "ramp", "row_mean", "pixel_mean")


@dataclass(frozen=True, slots=True)
class Measure:
    """One column of the result tables."""

    key: str
    title: str
    higher_is_better: bool
    percent: bool
    says: str

    def text(self, value: float) -> str:
        """Returns a value as the tables show it."""
        return f"{100 * value:.1f}" if self.percent else f"{value:.3f}"

    def beats(self, one: float, other: float) -> bool:
        """Returns whether one value is better than another."""
        return one > other if self.higher_is_better else one < other


MEASURES = (
    Measure(
        "pair_accuracy",
        "pairs %",
        True,
        True,
        "Point pairs put in right order. In half of them the upper point is closer: no ramp scores "
        "above 50.",
    ),
    Measure("delta1", "δ1 %", True, True, "Pixels within a factor of 1.25 of the true depth."),
    Measure("abs_rel_inverse", "AbsRel 1/z", False, False, "Relative error of inverse depth."),
    Measure("abs_rel", "AbsRel z", False, False, "Relative error of depth."),
    Measure("boundary_f1", "edges F1", True, False, "Agreement of depth edges (as Depth Pro)."),
    Measure("sky_order", "sky %", True, True, "Pairs of sky and ground put in right order."),
)
METRIC_MEASURES = (
    Measure("delta1", "δ1 %", True, True, "Pixels within a factor of 1.25 of the true depth."),
    Measure("abs_rel", "AbsRel", False, False, "Relative error of depth."),
    Measure("rmse", "RMSE m", False, False, "Root of the mean squared error, metres."),
    Measure("log10", "log10", False, False, "Mean error of the decimal logarithm."),
    Measure("silog", "SiLog", False, False, "Scale-invariant logarithmic error."),
)


@dataclass(slots=True)
class Model:
    """One evaluated model or baseline."""

    name: str
    label: str
    tone: str
    """Class that gives its colour."""
    metrics: Mapping[str, Any]
    per_image: pd.DataFrame
    pairs: pd.DataFrame
    pictures: Mapping[str, Any] = field(default_factory=dict)

    def value(self, source: str, key: str, protocol: str = "relative") -> float | None:
        """Returns a mean over the images of a source; None where it was not measured."""
        tree = self.metrics if protocol == "relative" else self.metrics.get(protocol, {})
        value = tree.get(source, {}).get(key)
        return None if value is None else float(value)

    def interval(
        self, source: str, key: str, protocol: str = "relative"
    ) -> tuple[float, float] | None:
        """Returns its 95 % interval."""
        tree = self.metrics.get("intervals", {})
        tree = tree if protocol == "relative" else tree.get(protocol, {})
        ends = tree.get(source, {}).get(key)
        return None if ends is None else (float(ends[0]), float(ends[1]))


def read_models(evaluation: Path, matrix: MatrixParams) -> tuple[list[Model], list[str]]:
    """Returns the evaluated models and baselines in the order of the tables, and what is missing.

    Args:
        evaluation: Folder with a folder a model.
        matrix: Which models there should be.
    """
    names = [*matrix.models, *(f"trivial-{name}" for name in BASELINES)]
    models, missing = [], []
    for name in names:
        folder = evaluation / name
        if not (folder / "metrics.json").is_file():
            missing.append(f"evaluation of {name}")
            continue
        models.append(
            Model(
                name,
                _label(name, matrix),
                _tone(name),
                json.loads((folder / "metrics.json").read_bytes()),
                pd.read_parquet(folder / "per_image.parquet"),
                pd.read_parquet(folder / "pairs.parquet"),
                json.loads((folder / "predictions.json").read_bytes()),
            )
        )
    return models, missing


def is_relative(model: Model) -> bool:
    """Returns whether a model stands in the tables of relative depth."""
    return not model.name.startswith("metric-")


def table(
    models: Sequence[Model], source: str, measures: Sequence[Measure], protocol: str = "relative"
) -> dict[str, Any]:
    """Returns a table of one source: columns, and rows with marked cells.

    The best value among the models that look at the image is marked, and so is each that a trivial
    baseline equals or beats, with that baseline's name.
    """
    known = [m for m in measures if any(_has(model, source, m, protocol) for model in models)]
    rows = []
    for model in models:
        if not any(_has(model, source, measure, protocol) for measure in known):
            continue
        cells = [_cell(model, models, source, measure, protocol) for measure in known]
        rows.append({"label": model.label, "tone": model.tone, "cells": cells})
    return {"columns": known, "rows": rows}


def difference(
    one: Model, other: Model, source: str, key: str
) -> tuple[float, float, float] | None:
    """Returns the mean difference of two models over the same images, and its 95 % interval.

    None where they have no image in common.
    """
    values = [
        model.per_image[
            (model.per_image["protocol"] == "relative") & (model.per_image["source"] == source)
        ].set_index("sample_id")[key]
        for model in (one, other)
    ]
    paired = (values[0] - values[1]).dropna().to_numpy(dtype=np.float64)
    if not paired.size:
        return None
    low, high = bootstrap_interval(paired, np.ones_like(paired), num_resamples=2000)
    return float(paired.mean()), low, high


def _cell(
    model: Model, models: Sequence[Model], source: str, measure: Measure, protocol: str
) -> dict[str, Any]:
    value = model.value(source, measure.key, protocol)
    if value is None:
        return {"text": "", "best": False, "beaten_by": "", "interval": ""}
    looking = [entry for entry in models if entry.tone != "trivial"]
    values = [v for m in looking if (v := m.value(source, measure.key, protocol)) is not None]
    best = bool(values) and not any(measure.beats(other, value) for other in values)
    trivial = "" if model.tone == "trivial" else beaten_by(model, models, source, measure, protocol)
    ends = model.interval(source, measure.key, protocol)
    return {
        "text": measure.text(value),
        "best": best and model in looking,
        "beaten_by": trivial,
        "interval": "" if ends is None else f"{measure.text(ends[0])} to {measure.text(ends[1])}",
    }


def beaten_by(
    model: Model, models: Sequence[Model], source: str, measure: Measure, protocol: str = "relative"
) -> str:
    """Returns the best trivial baseline that a model does not beat; empty if it beats all."""
    least = model.value(source, measure.key, protocol)
    best = ""
    for other in models:
        rival = other.value(source, measure.key, protocol)
        if other.tone != "trivial" or least is None or rival is None:
            continue
        if not measure.beats(least, rival):
            least, best = rival, other.label
    return best


def _has(model: Model, source: str, measure: Measure, protocol: str) -> bool:
    return model.value(source, measure.key, protocol) is not None


def _label(name: str, matrix: MatrixParams) -> str:
    if name.startswith("trivial-"):
        return name.removeprefix("trivial-").replace("_", " ")
    kind, _, rest = name.partition("-")
    encoder, _, what = rest.rpartition("-")
    size = f" {encoder}" if len(matrix.encoders) > 1 else ""
    match kind:
        case "student":
            labels = "pseudo-labels" if what == "pseudo" else "synthetic"
            return f"student{size}, {labels}"
        case "metric":
            return f"metric{size}, {what}"
        case _:
            return name


def _tone(name: str) -> str:
    if name.startswith("trivial-"):
        return "trivial"
    if name.endswith("-pseudo"):
        return "pseudo"
    if name.endswith("-synthetic"):
        return "synthetic"
    return "metric" if name.startswith("metric-") else "teacher"
