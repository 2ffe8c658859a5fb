"""Chooses and prepares the pictures of the report: samples and labels.

Axes: H height, W width (pixels).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool

from dav2.data.manifest import read_manifest
from dav2.data.open import ManifestReader, SourceLocation
from dav2.data.sample import DepthSample
from dav2.data.shards import ShardReader
from dav2.labeling.quality import worst_labels
from stages.report_pictures import depth_uri, image_uri, shown_span

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
    error: str = ""
    """Address of the picture of where a prediction is too near and too far."""


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
            found.append((image_cell(reader.read_image(int(place)), name, options), None))
            continue
        sample = reader.read(int(place))
        found.append((image_cell(sample.image, name, options), truth_cell(sample, options)))
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
            depth = None if sample.depth is None else truth_cell(sample, options)
            found[str(sample_id)] = (image_cell(sample.image, str(sample_id), options), depth)
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
    image = image_cell(sample.image, sample.sample_id, options)
    return image, Cell("pseudo-label", label, caption, tone="pseudo")


def image_cell(image: Any, label: str, options: PictureOptions) -> Cell:
    """Returns an image with what it is called."""
    return Cell(label, image_uri(image, side_px=options.side_px, quality=options.quality))


def truth_cell(sample: DepthSample, options: PictureOptions) -> Cell:
    """Returns a sample's depth map with its range."""
    inverse, valid = sample.inverse_depth(), seen(sample)
    address = depth_uri(
        inverse, span=shown_span(inverse, valid), side_px=options.side_px, valid=valid
    )
    return Cell("truth", address, _range_text(sample), "truth")


def _range_text(sample: DepthSample) -> str:
    low, high = shown_span(sample.inverse_depth(), seen(sample))
    return f"{metres_text(high)} to {metres_text(low)}" if sample.scale_known else ""


def seen(sample: DepthSample) -> Bool[np.ndarray, "H W"]:
    """Returns where a sample with depth was measured."""
    assert sample.valid is not None
    return sample.valid


def metres_text(inverse_depth: float) -> str:
    """Returns depth in words, of inverse depth in 1/m."""
    if inverse_depth < 1e-4:
        return "sky"
    depth_m = 1 / inverse_depth
    return f"{depth_m:.1f} m" if depth_m < 10 else f"{depth_m:.0f} m"
