"""Writes what other readers take: text for a pull request, tables for `dvc plots`."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dav2.data.files import written_whole
from stages.report_results import MEASURES, Model, is_relative
from stages.report_template import render

_PLOTTED = ("pair_accuracy", "delta1", "abs_rel_inverse", "boundary_f1")

Row = Sequence[str | float]


def write_markdown(content: Mapping[str, Any], path: Path) -> None:
    """Writes the results as `report.md`, for a pull request; the same content, the same bytes.

    Args:
        content: As the page takes it.
        path: File to write.
    """
    with written_whole(path) as written:
        written.write_text(render("report.md.jinja", content), encoding="utf-8")


def write_plot_tables(
    models: Sequence[Model], sources: Sequence[str], training: Path, folder: Path
) -> None:
    """Writes the tables that `plots` of dvc.yaml names, so that `dvc plots diff` compares rebuilds.

    `<measure>.csv` has a row a source and model, `scenarios/<model>.csv` the accuracy on annotated
    pairs by scenario, `loss/<model>.csv` and `validation/<model>.csv` the curves of its training.

    Args:
        models: Evaluated models and baselines.
        sources: Evaluation sources with depth.
        training: Folder with a folder a model.
        folder: To write.
    """
    relative = [model for model in models if is_relative(model)]
    with written_whole(folder) as written:
        written.mkdir()
        for measure in MEASURES:
            if measure.key in _PLOTTED:
                rows = _result_rows(relative, sources, measure.key)
                _write(written / "results" / f"{measure.key}.csv", ("row", "value"), rows)
        for model in relative:
            pairs = model.metrics.get("da2k", {})
            if pairs and model.tone != "trivial":
                shares = ((name.replace("_", " "), share) for name, share in sorted(pairs.items()))
                path = written / "scenarios" / f"{model.name}.csv"
                _write(path, ("scenario", "accuracy"), shares)
        for model in models:
            _write_curves(training / model.name, model.name, written)


def _result_rows(models: Sequence[Model], sources: Sequence[str], key: str) -> Iterable[Row]:
    for source in sources:
        for model in models:
            value = model.value(source, key)
            if value is not None:
                yield f"{source}: {model.label}", value


def _write_curves(training: Path, name: str, folder: Path) -> None:
    if not (training / "validation.json").is_file():
        return
    with (training / "curves.csv").open(newline="", encoding="utf-8") as stream:
        losses = [(row["step"], row["loss"]) for row in csv.DictReader(stream) if row.get("loss")]
    _write(folder / "loss" / f"{name}.csv", ("step", "loss"), losses)
    history = json.loads((training / "validation.json").read_bytes())["history"]
    points = [
        (entry["step"], entry["pair_accuracy"])
        for entry in history
        if isinstance(entry.get("pair_accuracy"), int | float)
    ]
    _write(folder / "validation" / f"{name}.csv", ("step", "pair_accuracy"), points)


def _write(path: Path, head: Sequence[str], rows: Iterable[Row]) -> None:
    found = list(rows)
    if not found:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(head)
        table.writerows(found)
