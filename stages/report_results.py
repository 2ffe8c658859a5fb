"""Reads the evaluations of models and baselines, and says what their measures mean."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

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
    protocols: Mapping[str, Any] = field(default_factory=dict)
    """By source and kind (`relative`, `metric`); `says` is the line that stands beside numbers."""
    calibration: Mapping[str, Any] = field(default_factory=dict)
    """Content of `calibration.json`."""

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
                json.loads((folder / "protocols.json").read_bytes()),
                json.loads((folder / "calibration.json").read_bytes()),
            )
        )
    return models, missing


def protocol_of(models: Sequence[Model], source: str, kind: str = "relative") -> dict[str, Any]:
    """Returns how the numbers of a source came about, as the first model's files say.

    Args:
        models: Of one table.
        source: Name of the source.
        kind: `relative` or `metric`.

    Returns:
        `says`, a line, and `fields`, pairs of a word and what it is; both empty if no file says.
    """
    entries = (model.protocols.get(source, {}).get(kind, {}) for model in models)
    entry: Mapping[str, Any] = next((entry for entry in entries if entry), {})
    shown = ("name", "alignment", "min_depth_m", "max_depth_m", "crop", "image_crop", "sky",
             "floor_inverse_depth", "is_clipped", "erode_px", "max_spread", "averaging",
             "paper")  # fmt: skip
    fields = [(key.replace("_", " "), _word(entry[key])) for key in shown if key in entry]
    given = entry.get("input", {})
    fields += [(f"input, {key.replace('_', ' ')}", _word(value)) for key, value in given.items()]
    return {"says": entry.get("says", ""), "fields": fields}


def _word(value: Any) -> str:
    match value:
        case None:
            return "as the model or the truth has it"
        case bool():
            return "yes" if value else "no"
        case _:
            return f"{value:g}" if isinstance(value, int | float) else str(value).replace("_", " ")


def is_relative(model: Model) -> bool:
    """Returns whether a model stands in the tables of relative depth."""
    return not model.name.startswith("metric-")


def _label(name: str, matrix: MatrixParams) -> str:
    if name.startswith("trivial-"):
        return name.removeprefix("trivial-").replace("_", " ")
    kind, _, rest = name.partition("-")
    encoder, _, what = rest.rpartition("-")
    size = f" {encoder}" if len(matrix.encoders) > 1 else ""
    match kind:
        case "student":
            labels = {
                "pseudo": "pseudo-labels",
                "both": "pseudo-labels and synthetic",
                "warm": "pseudo-labels, warmed encoder",
                "live": "labels asked as it trains",
            }
            return f"student{size}, {labels.get(what, what)}"
        case "metric":
            return f"metric{size}, {what}"
        case _:
            return name


def _tone(name: str) -> str:
    if name.startswith("trivial-"):
        return "trivial"
    if name.endswith(("-pseudo", "-warm", "-live")):
        return "pseudo"
    if name.endswith("-synthetic"):
        return "synthetic"
    if name.endswith("-both"):
        return "both"
    return "metric" if name.startswith("metric-") else "teacher"
