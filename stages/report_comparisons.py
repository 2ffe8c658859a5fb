"""Puts image, truth, predictions and their errors side by side, and lists the worst cases.

Axes: H height, W width (pixels).
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from jaxtyping import Float32

from dav2.data.manifest import read_manifest
from dav2.data.open import ManifestReader, SourceLocation
from dav2.data.sample import DepthSample
from dav2.labeling.codec import decode_label
from stages.report_evidence import (
    Cell,
    PictureOptions,
    image_cell,
    metres_text,
    seen,
    truth_cell,
)
from stages.report_pictures import depth_uri, error_uri, shown_span, with_points
from stages.report_results import Model

_NUM_WORST = 5  # of each source


def comparisons(
    evaluation: Path,
    manifest_path: Path,
    models: Sequence[Model],
    sources: Mapping[str, SourceLocation],
    *,
    first: Collection[str],
    options: PictureOptions,
) -> list[dict[str, Any]]:
    """Returns, for each source, image, truth and predictions of the best, a middle and the worst.

    Ranked are the samples of which every model has a picture, by the first student's error (by its
    pairs where there is no depth map).

    Args:
        evaluation: Folder with a folder a model.
        manifest_path: Gated manifest of the evaluation samples.
        models: What to show, left to right.
        sources: Where samples lie.
        first: Sources that come before the others.
        options: Of the pictures.
    """
    shared = set.intersection(*(set(model.pictures) for model in models)) if models else set()
    judge = judge_of(models)
    found = []
    for source, rows in read_manifest(manifest_path).groupby("source") if judge else ():
        chosen = rows[rows["sample_id"].isin(shared)].reset_index(drop=True)
        if chosen.empty or judge is None:
            continue
        errors = _errors(judge, chosen["sample_id"])
        reader = ManifestReader(chosen, sources)
        items = []
        for title, name in _best_middle_worst([name for _, name in errors]):
            sample = reader.read(int(chosen.index[chosen["sample_id"] == name][0]))
            items.append(_item(title, sample, models, evaluation, options))
        found.append(
            {
                "source": str(source),
                "judge": judge.label,
                "num_kept": len(chosen),
                "num_samples": len(rows),
                "samples": items,
            }
        )
    return sorted(found, key=lambda group: (group["source"] not in first, group["source"]))


def worst_cases(
    evaluation: Path,
    manifest_path: Path,
    models: Sequence[Model],
    sources: Mapping[str, SourceLocation],
    *,
    first: Collection[str],
    options: PictureOptions,
) -> list[dict[str, Any]]:
    """Returns the samples of each source that the first student errs most on, of all evaluated.

    Arguments as `comparisons`. A sample's `link` leads from `reports/` to its image where that is a
    file below the project; its `kept` tells whether its predictions were kept as pictures.
    """
    judge = judge_of(models)
    found = []
    for source, rows in read_manifest(manifest_path).groupby("source") if judge else ():
        assert judge is not None
        rows = rows.reset_index(drop=True)
        errors = [entry for entry in _errors(judge, rows["sample_id"]) if np.isfinite(entry[0])]
        if not errors or errors[-1][0] <= 0:
            continue
        reader = ManifestReader(rows, sources)
        samples = []
        for _, name in reversed(errors[-_NUM_WORST:]):
            place = int(rows.index[rows["sample_id"] == name][0])
            row = rows.iloc[place]
            sample = reader.read(place)
            samples.append(
                {
                    "name": name,
                    "scene": str(row["scene"]),
                    "file": str(row["image"]),
                    "link": _link(sources[str(source)].root, str(row["image"])),
                    "kept": all(name in model.pictures for model in models),
                    "cells": _worst_cells(sample, judge, evaluation, options),
                    "numbers": [(m.tone, m.label, _caption(m, name)) for m in models],
                }
            )
        middle = _caption(judge, errors[len(errors) // 2][1])
        found.append(
            {"source": str(source), "judge": judge.label, "middle": middle, "samples": samples}
        )
    return sorted(found, key=lambda group: (group["source"] not in first, group["source"]))


def judge_of(models: Sequence[Model]) -> Model | None:
    """Returns the model by whose errors samples are ranked: the first student of pseudo-labels."""
    first = models[0] if models else None
    return next((model for model in models if model.tone == "pseudo"), first)


def _item(
    title: str,
    sample: DepthSample,
    models: Sequence[Model],
    evaluation: Path,
    options: PictureOptions,
) -> dict[str, Any]:
    cells = [_marked_image(sample, models[0], options)]
    span = None
    near = far = ""
    if sample.depth is not None:
        span = shown_span(sample.inverse_depth(), seen(sample))
        cells.append(truth_cell(sample, options))
        if sample.scale_known:
            near, far = metres_text(span[1]), metres_text(span[0])
    cells += [_predicted_cell(sample, model, evaluation, span, options) for model in models]
    return {"title": title, "name": sample.sample_id, "cells": cells, "near": near, "far": far}


def _worst_cells(
    sample: DepthSample, judge: Model, evaluation: Path, options: PictureOptions
) -> list[Cell]:
    cells = [_marked_image(sample, judge, options)]
    span = None
    if sample.depth is not None:
        span = shown_span(sample.inverse_depth(), seen(sample))
        cells.append(truth_cell(sample, options))
    if sample.sample_id in judge.pictures:
        cells.append(_predicted_cell(sample, judge, evaluation, span, options))
    return cells


def _marked_image(sample: DepthSample, model: Model, options: PictureOptions) -> Cell:
    image = sample.image
    listed = model.pairs[model.pairs["sample_id"] == sample.sample_id]
    if len(listed):
        pair = listed.iloc[0]
        closer = (int(pair["closer_row"]), int(pair["closer_column"]))
        image = with_points(image, closer, (int(pair["farther_row"]), int(pair["farther_column"])))
    return image_cell(image, "image", options)


def _predicted_cell(
    sample: DepthSample,
    model: Model,
    evaluation: Path,
    span: tuple[float, float] | None,
    options: PictureOptions,
) -> Cell:
    entry = model.pictures[sample.sample_id]
    prediction = _prediction(evaluation / model.name, entry)
    own = shown_span(prediction) if span is None else span
    address = depth_uri(prediction, span=own, side_px=options.side_px)
    error = ""
    if sample.depth is not None and entry["aligned"]:
        error = error_uri(
            prediction, sample.inverse_depth(), valid=seen(sample), side_px=options.side_px
        )
    return Cell(model.label, address, _caption(model, sample.sample_id), model.tone, error)


def _prediction(folder: Path, entry: Mapping[str, Any]) -> Float32[np.ndarray, "H W"]:
    data = (folder / entry["file"]).read_bytes()
    return decode_label(data, minimum=entry["minimum"], maximum=entry["maximum"])


def _caption(model: Model, name: str) -> str:
    rows = model.per_image[
        (model.per_image["sample_id"] == name) & (model.per_image["protocol"] == "relative")
    ]
    if len(rows) and pd.notna(rows["abs_rel_inverse"].iloc[0]):
        return f"AbsRel 1/z {rows['abs_rel_inverse'].iloc[0]:.3f}"
    pairs = model.pairs[model.pairs["sample_id"] == name]
    return f"{int(pairs['correct'].sum())} of {len(pairs)} pairs" if len(pairs) else ""


def _errors(judge: Model, names: "pd.Series[str]") -> list[tuple[float, str]]:
    """Returns errors with sample ids, from the best to the worst."""
    dense = judge.per_image[judge.per_image["protocol"] == "relative"]
    errors = dense.set_index("sample_id")["abs_rel_inverse"].dropna().to_dict()
    wrong = (1 - judge.pairs.groupby("sample_id")["correct"].mean()).to_dict()
    return sorted((float(errors.get(name, wrong.get(name, np.inf))), name) for name in names)


def _best_middle_worst(ranked: list[str]) -> list[tuple[str, str]]:
    last = len(ranked) - 1
    places = {"best": 0, "middle": last // 2, "worst": last}
    chosen: dict[str, str] = {}
    for title, place in places.items():
        chosen.setdefault(ranked[place], title)
    return [(title, name) for name, title in chosen.items()]


def _link(root: Path | str, image: str) -> str:
    """Returns where a sample's image lies as seen from the page; empty where no file of ours is."""
    path = Path(root) / image
    return f"../{quote(path.as_posix())}" if not path.is_absolute() and path.is_file() else ""
