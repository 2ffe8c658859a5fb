"""Writes a model's card: what it is for, its data and their licences, results and pictures.

Axes: H height, W width (pixels).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import UInt8
from PIL import Image

from dav2.data.manifest import read_manifest
from dav2.data.open import ManifestReader
from dav2.labeling.codec import decode_label
from dav2.prediction.colours import colour_map, to_closeness
from stages.evidence import Evidence
from stages.sources import load_sources, locations

TEMPLATE = Path("mlflow/model_card.md.jinja")
MEASURES = ("delta1", "abs_rel", "rmse", "pair_accuracy", "boundary_f1")
"""Columns of the card's table."""

_NOT_SETS = ("average", "da2k", "intervals", "metric", "model")
_SIDE_PX = 480


def write_card(evidence: Evidence, name: str, folder: Path) -> Path:
    """Writes `README.md` and its pictures into a folder; the same evidence gives the same bytes.

    Args:
        evidence: Of the model.
        name: Registered model.
        folder: To create.

    Returns:
        The card's file.
    """
    from jinja2 import Environment, StrictUndefined

    from dav2.models.checkpoints import load

    folder.mkdir(parents=True)
    network, metadata = load(evidence.weights)
    known = load_sources()
    text = (
        Environment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)
        .from_string(TEMPLATE.read_text(encoding="utf-8"))
        .render(
            name=name,
            evidence=evidence,
            is_metric=network.config.max_depth_m is not None,
            max_depth_m=network.config.max_depth_m,
            domain=metadata.get("domain"),
            encoder=network.config.encoder,
            num_parameters=sum(weights.numel() for weights in network.parameters()),
            # A source may have left params.yaml since.
            sources=[
                {
                    "name": source,
                    "licence": known[source].licence if source in known else "",
                    "origin": known[source].origin if source in known else "",
                }
                for source in evidence.sources
            ],
            started_from=_given_weights(evidence.params),
            measures=MEASURES,
            results=results_by_set(evidence.metrics),
            pairs=evidence.metrics.get("da2k", {}),
            pictures=_pictures(evidence, folder),
        )
    )
    card = folder / "README.md"
    card.write_text(text, encoding="utf-8")
    return card


def results_by_set(metrics: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Returns the numbers of each evaluation set; those in metres stand under `metric/<set>`."""
    relative = {key: values for key, values in metrics.items() if key not in _NOT_SETS}
    metric = {
        f"metric/{key}": values
        for key, values in metrics.get("metric", {}).items()
        if key not in _NOT_SETS
    }
    return relative | metric


def _given_weights(params: Mapping[str, Any]) -> list[str]:
    """Returns the weights that trainings started from, as params.yaml names them."""
    named = [
        values[key]
        for values in params.values()
        for key in ("weights", "encoder_weights")
        if isinstance(values, Mapping) and values.get(key)
    ]
    files = [list(entry.values()) if isinstance(entry, Mapping) else [entry] for entry in named]
    return sorted({str(file) for group in files for file in group if file})


def _pictures(evidence: Evidence, folder: Path) -> list[dict[str, str]]:
    """Writes an image and its depth side by side, of the first kept sample of each source."""
    kept = json.loads((evidence.folder / "predictions.json").read_bytes())
    first: dict[str, str] = {}
    for sample_id, entry in sorted(kept.items()):
        first.setdefault(entry["source"], sample_id)
    manifest = read_manifest(evidence.manifest)
    reader = ManifestReader(manifest, locations())
    pictures = []
    for source, sample_id in first.items():
        row = int(np.flatnonzero(pd.Series(manifest["sample_id"]) == sample_id)[0])
        entry = kept[sample_id]
        depth = decode_label(
            (evidence.folder / entry["file"]).read_bytes(),
            minimum=entry["minimum"],
            maximum=entry["maximum"],
        )
        drawn = colour_map(to_closeness(depth, is_metric=False))  # kept as inverse depth
        _save(np.concatenate([reader.read(row).image, drawn], axis=1), folder / f"{source}.png")
        pictures.append({"source": source, "file": f"{source}.png"})
    return pictures


def _save(picture: UInt8[np.ndarray, "H W 3"], path: Path) -> None:
    shown = Image.fromarray(picture)
    shown.thumbnail((2 * _SIDE_PX, _SIDE_PX), Image.Resampling.LANCZOS)
    shown.save(path, "PNG", optimize=True)
