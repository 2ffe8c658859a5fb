"""Holds predictions against the truth; models and trivial baselines go through the same code.

Axes: H height, W width (pixels of an image as stored).
"""

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float32, UInt8

from dav2.data.booster import Booster
from dav2.data.da2k import Da2k
from dav2.data.diw import Diw
from dav2.data.files import write_json, written_whole
from dav2.data.open import SourceLocation
from dav2.data.sample import DepthSample
from dav2.labeling.codec import encode_label
from dav2.metrics.depth import AlignedDepth
from stages.evaluation_calibration import Counts, calibration, depth_counts
from stages.evaluation_measures import (
    PAIRS,
    PER_IMAGE,
    glass_and_mirrors,
    measure_annotated,
    measure_depth,
    measure_order,
    measure_region,
)
from stages.evaluation_params import EvaluateParams, Kind, source_protocols
from stages.evaluation_protocols import check_source
from stages.evaluation_summary import summarise

OUTPUTS = (
    "calibration.json",
    "metrics.json",
    "pairs.parquet",
    "per_image.parquet",
    "predictions",
    "predictions.json",
    "protocols.json",
)
"""What stands in a model's folder of evaluation."""

_PROGRESS = "progress.jsonl"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """What a model says of one image."""

    row: int
    """Position in the evaluation manifest."""
    sample: DepthSample
    relative_depth: Float32[np.ndarray, "H W"]
    """Inverse depth up to scale and shift, higher is closer."""
    depth_m: Float32[np.ndarray, "H W"] | None = None
    """Metres, in a source of a metric protocol; None where no such protocol applies."""
    inconsistencies: Mapping[str, float] = field(default_factory=dict)
    """Result of `dav2.prediction.changes.inconsistencies`, of the samples that it is taken of."""


class Evaluation:
    """Gathers the measures of one model, image by image, in one folder."""

    def __init__(
        self,
        manifest: pd.DataFrame,
        folder: Path,
        *,
        params: EvaluateParams,
        sources: Mapping[str, SourceLocation],
        domains: Mapping[str, str],
    ) -> None:
        """Creates the folder, or goes on with what a killed process left in it.

        Args:
            manifest: Evaluation manifest, sorted as written.
            folder: Where the files of `OUTPUTS` will stand.
            params: Protocols and counts.
            sources: Where each source lies.
            domains: Domain of each source; decides the metric protocol.
        """
        self._manifest, self._folder, self._params = manifest, folder, params
        self._protocols = source_protocols(params, domains)
        self._described = {
            source: {
                kind: check_source(name, entry, manifest[manifest["source"] == source])
                for kind, (name, entry) in kinds.items()
            }
            for source, kinds in self._protocols.items()
        }
        self._readers = {
            name: location.open()
            for name, location in sources.items()
            if location.reader in ("da2k", "diw", "booster")
        }
        self._saved = saved_rows(manifest, params.saved_predictions)
        self._per_image: list[dict[str, Any]] = []
        self._pairs: list[dict[str, Any]] = []
        self._pictures: dict[str, dict[str, Any]] = {}
        self._counts: dict[str, Counts] = {}
        self.panels: dict[str, UInt8[np.ndarray, "H W3 3"]] = {}
        """Per source, the first saved sample: image, truth where known, prediction."""
        self.done: set[int] = set()
        """Rows of the manifest that are measured already."""
        (folder / "predictions").mkdir(parents=True, exist_ok=True)
        self._resume()

    def add(self, predicted: Predicted) -> None:
        """Measures one prediction.

        Raises:
            ValueError: If it is of another size than its image, or not finite.
        """
        sample, prediction = predicted.sample, predicted.relative_depth
        if prediction.shape != sample.image.shape[:2]:
            raise ValueError(
                f"{sample.sample_id}: expected a prediction of the image's size "
                f"{sample.image.shape[:2]}, got {prediction.shape}"
            )
        if not np.isfinite(prediction).all():
            raise ValueError(f"{sample.sample_id}: expected a finite prediction, got other values")
        row = self._manifest.iloc[predicted.row]
        source = str(row["source"])
        before, pairs_before = len(self._per_image), len(self._pairs)
        reader = self._readers.get(source)
        if isinstance(reader, Da2k | Diw):
            self._pairs += measure_annotated(row, prediction, reader=reader)
        aligned = None
        if sample.depth is not None:
            aligned, _ = self._add_dense(predicted, prediction, kind="relative")
        counts: Counts = Counter()
        if predicted.depth_m is not None and sample.depth is not None and sample.scale_known:
            metric, pixels = self._add_dense(predicted, predicted.depth_m, kind="metric")
            if metric is not None:
                counts = depth_counts(metric.depth, sample.depth, pixels=pixels)
                self._counts.setdefault(source, Counter()).update(counts)
        if predicted.row in self._saved:
            self._save(source, sample, prediction, aligned)
        parts = {"per_image": self._per_image[before:], "pairs": self._pairs[pairs_before:]}
        self._keep(predicted, {**parts, "counts": [[*key, n] for key, n in counts.items()]})

    def finish(self, model: Mapping[str, int] | None = None) -> dict[str, Any]:
        """Writes the tables and returns the content of `metrics.json`.

        Args:
            model: Sizes of what was evaluated, for its entry `model`.
        """
        per_image = pd.DataFrame(self._per_image, columns=PER_IMAGE.names)
        pairs = pd.DataFrame(self._pairs, columns=PAIRS.names)
        for name, frame, schema in (
            ("per_image.parquet", per_image, PER_IMAGE),
            ("pairs.parquet", pairs, PAIRS),
        ):
            table = pa.Table.from_pandas(frame, schema, preserve_index=False)
            # Without pandas' own metadata, which names its version.
            table = table.replace_schema_metadata(None)
            pq.write_table(table, self._folder / name, compression="zstd")
        write_json(self._pictures, self._folder / "predictions.json")
        write_json(self._described, self._folder / "protocols.json")
        write_json(calibration(self._counts), self._folder / "calibration.json")
        metrics = summarise(
            per_image,
            pairs,
            num_resamples=self._params.bootstrap_resamples,
            pooled={
                (kind, source)
                for source, kinds in self._protocols.items()
                for kind, (_, entry) in kinds.items()
                if entry.averaging == "pixel"
            },
        )
        if model is not None:
            metrics["model"] = dict(model)
        write_json(metrics, self._folder / "metrics.json")
        (self._folder / _PROGRESS).unlink(missing_ok=True)
        return metrics

    def _keep(self, predicted: Predicted, parts: Mapping[str, Any]) -> None:
        """Appends what is known of one image, so that a later process need not measure it again."""
        entry = {
            "row": predicted.row,
            **parts,
            "picture": self._pictures.get(predicted.sample.sample_id),
        }
        with (self._folder / _PROGRESS).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")
        self.done.add(predicted.row)

    def _resume(self) -> None:
        """Takes over what was kept; a line that a kill tore ends it."""
        path = self._folder / _PROGRESS
        if not path.is_file():
            return
        whole = [line for line in path.read_bytes().splitlines(keepends=True) if line[-1:] == b"\n"]
        for line in whole:
            entry = json.loads(line)
            self.done.add(entry["row"])
            self._per_image += entry["per_image"]
            self._pairs += entry["pairs"]
            source = str(self._manifest["source"].iloc[entry["row"]])
            for *key, count in entry["counts"]:
                self._counts.setdefault(source, Counter())[key[0], key[1]] += count
            if entry["picture"] is not None:
                sample_id = self._manifest["sample_id"].iloc[entry["row"]]
                self._pictures[sample_id] = entry["picture"]
        with written_whole(path) as written:
            written.write_bytes(b"".join(whole))

    def _add_dense(
        self, predicted: Predicted, prediction: Float32[np.ndarray, "H W"], *, kind: Kind
    ) -> tuple[AlignedDepth | None, Bool[np.ndarray, "H W"]]:
        """Measures against the depth map; returns the aligned prediction, None without pixels.

        With it come the pixels that count.
        """
        sample = predicted.sample
        manifest_row = self._manifest.iloc[predicted.row]
        source = str(manifest_row["source"])
        measures, aligned, pixels = measure_depth(
            sample, prediction, protocol=self._protocols[source][kind][1].protocol()
        )
        row = {"sample_id": sample.sample_id, "source": source, "protocol": kind, **measures}
        self._per_image.append(row)
        if aligned is None:
            logger.warning("%s: no pixel within the %s protocol", sample.sample_id, kind)
            return None, pixels
        reader = self._readers.get(source)
        if isinstance(reader, Booster):
            size = (sample.image.shape[0], sample.image.shape[1])
            region = glass_and_mirrors(manifest_row, size, reader=reader)
            if region is not None:
                row |= measure_region(sample, aligned, pixels=pixels, region=region)
        if kind == "relative":
            row |= predicted.inconsistencies
            row |= measure_order(
                sample,
                prediction,
                pixels=pixels,
                num_pairs=self._params.num_pairs,
                min_pair_ratio=self._params.min_pair_ratio,
            )
        return aligned, pixels

    def _save(
        self,
        source: str,
        sample: DepthSample,
        prediction: Float32[np.ndarray, "H W"],
        aligned: AlignedDepth | None,
    ) -> None:
        """Keeps a prediction as a 16-bit PNG, in the unit of the truth where there is one."""
        shown = prediction if aligned is None else (1.0 / aligned.depth).astype(np.float32)
        encoded = encode_label(shown)
        name = f"predictions/{sample.sample_id}.png"
        (self._folder / name).write_bytes(encoded.data)
        unit = "1/m" if sample.scale_known else "disparity up to a factor"
        self._pictures[sample.sample_id] = {
            "file": name,
            "source": source,
            "aligned": aligned is not None,
            "unit": unit if aligned is not None else "relative",
            "minimum": encoded.minimum,
            "maximum": encoded.maximum,
            "scale": None if aligned is None else aligned.scale,
            "shift": None if aligned is None else aligned.shift,
        }
        if source not in self.panels:
            truth = [] if sample.depth is None else [sample.inverse_depth()]
            self.panels[source] = _panel(sample.image, [*truth, shown])


def saved_rows(manifest: pd.DataFrame, num_per_source: int) -> set[int]:
    """Returns positions of the samples kept as pictures: evenly spread over each source's ids."""
    kept: set[int] = set()
    ids = manifest["sample_id"].reset_index(drop=True)
    for _, rows in ids.groupby(manifest["source"].to_numpy()):
        ordered = rows.sort_values().index.to_numpy()
        positions = np.linspace(0, len(ordered) - 1, min(num_per_source, len(ordered)))
        kept |= {int(ordered[position]) for position in np.rint(positions).astype(int)}
    return kept


def _panel(
    image: UInt8[np.ndarray, "H W 3"], maps: Sequence[Float32[np.ndarray, "H W"]]
) -> UInt8[np.ndarray, "H W3 3"]:
    """Returns an image and maps side by side, all maps on the scale of the first, near white."""
    low, high = float(maps[0].min()), float(maps[0].max())
    span = high - low if high > low else 1.0
    greys = [np.clip(255 * (values - low) / span, 0, 255).astype(np.uint8) for values in maps]
    return np.concatenate([image, *(np.repeat(grey[..., None], 3, 2) for grey in greys)], axis=1)
