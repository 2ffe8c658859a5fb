"""Chooses and prepares the pictures of the report: samples, labels, predictions side by side.

Axes: H height, W width (pixels).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32

from dav2.data.manifest import read_manifest
from dav2.data.open import ManifestReader, SourceLocation
from dav2.data.sample import DepthSample
from dav2.data.shards import ShardReader
from dav2.labeling.codec import decode_label
from dav2.labeling.quality import worst_labels
from stages.report_pictures import depth_uri, image_uri, shown_span, with_points
from stages.report_results import Model

_SHOWN_OFFENDERS = 3  # of each expectation that failed


@dataclass(frozen=True, slots=True)
class PictureOptions:
    """How pictures are stored in the page."""

    side_px: int
    quality: int


@dataclass(frozen=True, slots=True)
class Cell:
    """One picture with what stands below it."""

    label: str
    address: str
    caption: str = ""
    tone: str = ""


def source_examples(
    manifest_path: Path,
    sources: Mapping[str, SourceLocation],
    *,
    num_examples: int,
    options: PictureOptions,
) -> list[tuple[Cell, Cell | None]]:
    """Returns image and, where there is one, depth of samples spread over a source."""
    rows = read_manifest(manifest_path)
    places = np.linspace(0, len(rows) - 1, min(num_examples, len(rows))).round().astype(int)
    reader = ManifestReader(rows, sources)
    found: list[tuple[Cell, Cell | None]] = []
    for place in places:
        name = str(rows["sample_id"].iloc[place])
        if rows["depth"].isna().iloc[place]:
            found.append((_image_cell(reader.read_image(int(place)), name, options), None))
            continue
        sample = reader.read(int(place))
        found.append((_image_cell(sample.image, name, options), _truth_cell(sample, options)))
    return found


def offender_examples(
    verdicts: Sequence[Mapping[str, Any]],
    ingest: Path,
    sources: Mapping[str, SourceLocation],
    *,
    options: PictureOptions,
) -> dict[str, tuple[Cell, Cell | None]]:
    """Returns pictures of the first samples that each failed expectation of the data names, by id.

    Args:
        verdicts: Of all gates.
        ingest: Folder with one folder of manifest a source.
        sources: Where samples lie.
        options: Of the pictures.
    """
    wanted = {
        entry["sample_id"]
        for verdict in verdicts
        if verdict["gate"] == "data"
        for finding in verdict["expectations"]
        if not finding["success"]
        for entry in finding["offending"][:_SHOWN_OFFENDERS]
    }
    found: dict[str, tuple[Cell, Cell | None]] = {}
    for name in sources if wanted else ():
        path = ingest / name / "manifest.parquet"
        rows = read_manifest(path) if path.is_file() else None
        if rows is None:
            continue
        rows = rows[rows["sample_id"].isin(wanted)].reset_index(drop=True)
        reader = ManifestReader(rows, sources)
        for place, sample_id in enumerate(rows["sample_id"]):
            sample = reader.read(place)
            depth = None if sample.depth is None else _truth_cell(sample, options)
            found[str(sample_id)] = (_image_cell(sample.image, str(sample_id), options), depth)
    return found


def label_examples(
    folder: Path, *, num_examples: int, options: PictureOptions
) -> list[tuple[Cell, Cell]]:
    """Returns photographs with their pseudo-labels, spread evenly over the sources."""
    reader = ShardReader(folder)
    index = pd.read_parquet(folder / "manifest.parquet", columns=["sample_id", "source"])
    places: list[int] = []
    groups = [group.index.to_numpy() for _, group in index.groupby("source")]
    for group in groups:
        number = max(1, num_examples // len(groups))
        spread = np.linspace(0, len(group) - 1, min(number, len(group))).round().astype(int)
        places += [int(group[place]) for place in spread]
    return [_label_cells(reader, place, "", options) for place in places]


def worst_label_examples(
    folder: Path, *, num_examples: int, options: PictureOptions
) -> list[dict[str, Any]]:
    """Returns the worst pseudo-labels by each measure that has any, the worst first.

    Each entry has the measure's column as `measure` and as `examples` pairs of photograph and
    label, whose caption is the measure.
    """
    reader = ShardReader(folder)
    index = pd.read_parquet(folder / "manifest.parquet")
    return [
        {
            "measure": measure,
            "examples": [
                _label_cells(reader, place, f"{index[measure][place]:.3f}", options)
                for place in places
            ],
        }
        for measure, places in worst_labels(index, num_samples=num_examples).items()
    ]


def _label_cells(
    reader: ShardReader, place: int, caption: str, options: PictureOptions
) -> tuple[Cell, Cell]:
    sample = reader.read(place)
    label = depth_uri(
        sample.relative_depth,
        span=shown_span(sample.relative_depth),
        side_px=options.side_px,
    )
    image = _image_cell(sample.image, sample.sample_id, options)
    return image, Cell("pseudo-label", label, caption, tone="pseudo")


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
    manifest = read_manifest(manifest_path)
    judge = next(
        (model for model in models if model.tone == "pseudo"), models[0] if models else None
    )
    found = []
    for source, rows in manifest.groupby("source") if judge else ():
        chosen = rows[rows["sample_id"].isin(shared)].reset_index(drop=True)
        if chosen.empty or judge is None:
            continue
        ranked = _ranked(judge, chosen["sample_id"])
        reader = ManifestReader(chosen, sources)
        items = []
        for title, name in _best_middle_worst(ranked):
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


def _item(
    title: str,
    sample: DepthSample,
    models: Sequence[Model],
    evaluation: Path,
    options: PictureOptions,
) -> dict[str, Any]:
    cells = []
    image, span = sample.image, None
    listed = models[0].pairs[models[0].pairs["sample_id"] == sample.sample_id]
    if len(listed):
        pair = listed.iloc[0]
        closer = (int(pair["closer_row"]), int(pair["closer_column"]))
        image = with_points(image, closer, (int(pair["farther_row"]), int(pair["farther_column"])))
    cells.append(_image_cell(image, "image", options))
    near = far = ""
    if sample.depth is not None:
        span = shown_span(sample.inverse_depth(), _seen(sample))
        cells.append(_truth_cell(sample, options))
        if sample.scale_known:
            near, far = _metres(span[1]), _metres(span[0])
    for model in models:
        prediction = _prediction(evaluation / model.name, model.pictures[sample.sample_id])
        own = shown_span(prediction) if span is None else span
        address = depth_uri(prediction, span=own, side_px=options.side_px)
        cells.append(Cell(model.label, address, _caption(model, sample.sample_id), model.tone))
    return {"title": title, "name": sample.sample_id, "cells": cells, "near": near, "far": far}


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


def _ranked(judge: Model, names: "pd.Series[str]") -> list[str]:
    """Returns sample ids from the best to the worst."""
    dense = judge.per_image[judge.per_image["protocol"] == "relative"]
    errors = dense.set_index("sample_id")["abs_rel_inverse"].dropna().to_dict()
    wrong = (1 - judge.pairs.groupby("sample_id")["correct"].mean()).to_dict()
    scored = [(errors.get(name, wrong.get(name, np.inf)), name) for name in names]
    return [name for _, name in sorted(scored)]


def _best_middle_worst(ranked: list[str]) -> list[tuple[str, str]]:
    last = len(ranked) - 1
    places = {"best": 0, "middle": last // 2, "worst": last}
    chosen: dict[str, str] = {}
    for title, place in places.items():
        chosen.setdefault(ranked[place], title)
    return [(title, name) for name, title in chosen.items()]


def _image_cell(image: Any, label: str, options: PictureOptions) -> Cell:
    return Cell(label, image_uri(image, side_px=options.side_px, quality=options.quality))


def _truth_cell(sample: DepthSample, options: PictureOptions) -> Cell:
    inverse, valid = sample.inverse_depth(), _seen(sample)
    address = depth_uri(
        inverse, span=shown_span(inverse, valid), side_px=options.side_px, valid=valid
    )
    return Cell("truth", address, _range_text(sample), "truth")


def _range_text(sample: DepthSample) -> str:
    low, high = shown_span(sample.inverse_depth(), _seen(sample))
    return f"{_metres(high)} to {_metres(low)}" if sample.scale_known else ""


def _seen(sample: DepthSample) -> Bool[np.ndarray, "H W"]:
    assert sample.valid is not None
    return sample.valid


def _metres(inverse_depth: float) -> str:
    if inverse_depth < 1e-4:
        return "sky"
    depth_m = 1 / inverse_depth
    return f"{depth_m:.1f} m" if depth_m < 10 else f"{depth_m:.0f} m"
