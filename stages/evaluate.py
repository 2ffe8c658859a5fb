"""Evaluates one model on every evaluation source."""

import logging
import resource
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from dav2.data.files import written_whole
from dav2.data.manifest import read_manifest
from dav2.data.open import ManifestReader
from stages.digests import dvc_digest
from stages.evaluated_maps import PredictedMaps, is_maps, open_maps
from stages.evaluated_model import EvaluatedModel, load_evaluated
from stages.evaluation import (
    KINDS,
    OUTPUTS,
    EvaluateParams,
    Evaluation,
    Kind,
    Predicted,
    saved_rows,
    source_protocols,
)
from stages.evaluation_protocols import read_protocol
from stages.evaluation_summary import flat
from stages.fingerprint import code_fingerprint, fingerprint, library_versions, work_folder
from stages.leaderboard_rows import Cost, record
from stages.params import load
from stages.program import run
from stages.sources import locations
from stages.tracking import tracked

if TYPE_CHECKING:
    import pandas as pd

    from dav2.data.sample import DepthSample
    from dav2.prediction.model_input import ModelInput

_SMALLEST_DEPTH_M = np.float32(1e-6)  # a metric model may say 0, whose inverse is no number

_BATCH_PIXELS = 1 << 25
"""Most pixels read at once; a larger image comes alone."""

logger = logging.getLogger(__name__)


def main(name: str, manifest_path: Path, checkpoint: Path, output: Path) -> None:
    """Writes the measures of one model.

    Every model goes through the relative protocol on every source with depth, and through the
    pairs of DA-2K; a metric model also through the metric protocol, on the sources of its domain.

    Args:
        name: What the model is called.
        manifest_path: Gated manifest of the evaluation sources.
        checkpoint: The model: ours, a `.pth` of the authors, a folder of Transformers, or one of
            maps that another program predicted (`stages.evaluated_maps`).
        output: Folder to write: `metrics.json`, `per_image.parquet`, `pairs.parquet`,
            `predictions/*.png`, `predictions.json`, `protocols.json` and `calibration.json`.

    Raises:
        SystemExit: With one line, if parameters, checkpoint or samples are not what they should be.
            Nothing is written to `output` then; what is measured is kept in `.work`.
    """
    try:
        _evaluate(name, load("evaluate", EvaluateParams), manifest_path, checkpoint, output)
    except (ValueError, OSError) as error:
        raise SystemExit(f"evaluate {name}: {error}") from None


def _evaluate(
    name: str, params: EvaluateParams, manifest_path: Path, checkpoint: Path, output: Path
) -> None:
    manifest = read_manifest(manifest_path)
    inputs = {"evaluation": manifest_path, "model": checkpoint}
    outputs = [output / part for part in OUTPUTS]
    with tracked("evaluate", params, inputs=inputs, outputs=outputs) as run:
        sources = locations()
        domains = dict(zip(manifest["source"], manifest["domain"], strict=True))
        work = _work_folder(params, inputs, output)
        evaluation = Evaluation(manifest, work, params=params, sources=sources, domains=domains)
        model = open_maps(checkpoint) if is_maps(checkpoint) else load_evaluated(checkpoint)
        taken = measure(evaluation, params, manifest, ManifestReader(manifest, sources), model)
        if taken.num_images:
            run.log_metrics({"seconds_per_image": taken.evaluate_s / taken.num_images})
        if taken.predict_s:
            latency_s = taken.predict_s / taken.num_images
            run.log_metrics({"prediction_seconds_per_image": latency_s})
            run.add_facts({"prediction_seconds_per_image": round(latency_s, 6)})
        sizes = None if isinstance(model, PredictedMaps) else _sizes(model, checkpoint)
        metrics = evaluation.finish(sizes)
        with written_whole(output) as folder:
            shutil.copytree(work, folder)
        shutil.rmtree(work)
        run.log_metrics(flat(metrics))
        for source, panel in evaluation.panels.items():
            run.log_picture(f"{source}.png", panel)
    _keep_in_leaderboard(name, checkpoint, manifest, metrics, params, taken.cost(sizes))
    logger.info("%s: evaluated on %d images", checkpoint, len(manifest))


@dataclass(slots=True)
class Taken:
    """What the loop over images took."""

    num_images: int = 0
    evaluate_s: float = 0.0
    predict_s: float = 0.0
    """Of this the model, with the preparation of images and the resizing of maps."""

    def cost(self, sizes: Mapping[str, int] | None) -> Cost:
        """Returns what the leaderboard keeps of it; None has no model that ran here."""
        if sizes is None:
            return Cost()
        import torch

        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            peak_mb = torch.cuda.max_memory_allocated() / 1e6
            device = torch.cuda.get_device_name()
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            peak_mb = peak / 1e6 if sys.platform == "darwin" else peak / 1e3
            device = "cpu"
        count = self.num_images
        return Cost(
            parameters=sizes["parameters"],
            bytes=sizes["bytes"],
            predict_s=self.predict_s / count if count else None,
            evaluate_s=self.evaluate_s / count if count else None,
            peak_mb=round(peak_mb),
            device=device,
        )


def measure(
    evaluation: Evaluation,
    params: EvaluateParams,
    manifest: "pd.DataFrame",
    reader: ManifestReader,
    model: EvaluatedModel | PredictedMaps,
) -> Taken:
    """Predicts and measures all images that are not done; reads and measures beside the model.

    The next images are read, and those predicted before are measured, each in a thread of its own:
    at most three batches are held at once. Order and batches, hence numbers, do not depend on it.

    Args:
        evaluation: Of the manifest; it gathers the measures.
        params: Sizes and counts.
        manifest: Rows of `evaluation`.
        reader: Of those rows.
        model: Prepared here; or maps in its place.
    """
    from dav2.prediction.ahead import use_behind

    taken = Taken()

    def gather(batch: Sequence[Predicted]) -> None:
        for predicted in batch:
            evaluation.add(predicted)
            taken.num_images += 1

    begin_s = time.monotonic()
    if isinstance(model, PredictedMaps):
        batches = model.predicted(manifest, reader, params, evaluation.done)
    else:
        batches = _predicted(params, manifest, reader, model, evaluation.done, taken)
    use_behind(batches, gather)
    taken.evaluate_s = time.monotonic() - begin_s
    return taken


def _predicted(
    params: EvaluateParams,
    manifest: "pd.DataFrame",
    reader: ManifestReader,
    model: EvaluatedModel,
    done: Set[int],
    taken: Taken,
) -> Iterator[list[Predicted]]:
    """Yields the predictions of the rows that are not done, a batch at a time."""
    from tqdm import tqdm

    from dav2.prediction.ahead import read_ahead
    from dav2.prediction.changes import inconsistencies

    dtype = model.prepare(params)
    before = frozenset(done)  # what is measured meanwhile is not known by then
    domains = dict(zip(manifest["source"], manifest["domain"], strict=True))
    inputs = _inputs(params, model, domains)
    sources = [str(source) for source in manifest["source"]]
    changed = saved_rows(manifest, params.consistency_samples)
    # Batches stay as they are, if only one of their images is left: another may round otherwise.
    left = [rows for rows in _batches(manifest, params.batch_size) if not before >= set(rows)]
    batches = ((rows, [reader.read(row) for row in rows]) for rows in left)
    with tqdm(total=len(manifest), initial=len(before), desc="evaluate", unit="image") as bar:
        for rows, samples in read_ahead(batches):
            wanted = [inputs[sources[row]] for row in rows]
            begin_s = time.monotonic()
            maps = predict_inputs(params, model, samples, wanted, dtype)
            taken.predict_s += time.monotonic() - begin_s
            batch = []
            for row, sample, kinds, found in zip(rows, samples, wanted, maps, strict=True):
                if row in before:
                    continue
                changes: dict[str, float] = {}
                values = found["relative"]
                if row in changed and sample.depth is not None:
                    changes = inconsistencies(
                        model.network, sample.image, values, kinds["relative"], dtype=dtype
                    )
                if model.domain is not None:
                    values = 1 / np.maximum(values, _SMALLEST_DEPTH_M)
                batch.append(Predicted(row, sample, values, found.get("metric"), changes))
                bar.update()
            yield batch


def _inputs(
    params: EvaluateParams, model: EvaluatedModel, domains: Mapping[str, str]
) -> dict[str, dict[Kind, "ModelInput"]]:
    """Returns, for each source, what the model sees under each protocol that applies to it."""
    short_side_px = params.short_side_px or model.trained_px
    return {
        source: {
            kind: protocol.model_input(short_side_px, model.preparation)
            for kind, (_, protocol) in protocols.items()
            if kind == "relative" or domains[source] == model.domain
        }
        for source, protocols in source_protocols(params, domains).items()
    }


def _batches(manifest: "pd.DataFrame", batch_size: int) -> Iterator[list[int]]:
    """Yields all rows, some at a time, whose images fit into memory together."""
    pixels = (manifest["width"].astype("int64") * manifest["height"]).tolist()
    batch: list[int] = []
    for row in range(len(pixels)):
        total = sum(pixels[other] for other in batch) + pixels[row]
        if batch and (len(batch) == batch_size or total > _BATCH_PIXELS):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _work_folder(params: EvaluateParams, inputs: Mapping[str, Path], output: Path) -> Path:
    """Returns the folder of this evaluation's progress, by all that decides its numbers."""
    digests = {name: dvc_digest(path) for name, path in inputs.items()}
    protocols = {name: read_protocol(name).model_dump(mode="json") for name in params.names()}
    code = code_fingerprint(["stages.evaluate"], Path(__file__).parents[1])
    versions = library_versions("numpy", "pillow", "timm", "torch")
    decisive = [params.model_dump(mode="json"), protocols, digests, code, versions]
    return work_folder("evaluate", fingerprint(output.as_posix(), decisive)) / "output"


def predict_inputs(
    params: EvaluateParams,
    model: EvaluatedModel,
    samples: "Sequence[DepthSample]",
    wanted: "Sequence[Mapping[Kind, ModelInput]]",
    dtype: Any,
) -> "list[dict[Kind, Float32[np.ndarray, '_H _W']]]":
    """Returns the model's map of each sample under each protocol; equal inputs are run once."""
    from dav2.prediction.seen import predict_with

    found: list[dict[Kind, Float32[np.ndarray, "_H _W"]]] = [{} for _ in samples]
    for chosen in dict.fromkeys(one for kinds in wanted for one in kinds.values()):
        places = [place for place, kinds in enumerate(wanted) if chosen in kinds.values()]
        images = [samples[place].image for place in places]
        maps = predict_with(
            model.network, images, chosen, batch_size=params.batch_size, dtype=dtype
        )
        for place, values in zip(places, maps, strict=True):
            found[place] |= {kind: values for kind in KINDS if wanted[place].get(kind) == chosen}
    return found


def _keep_in_leaderboard(
    name: str,
    checkpoint: Path,
    manifest: "pd.DataFrame",
    metrics: Mapping[str, Any],
    params: EvaluateParams,
    cost: Cost,
) -> None:
    """Adds the evaluation to the leaderboard; where that cannot be, the evaluation stands."""
    try:
        record(name, checkpoint, manifest=manifest, metrics=metrics, params=params, cost=cost)
    except (OSError, ValueError) as error:
        logger.error("the leaderboard could not take %s: %s", name, error)


def _sizes(model: EvaluatedModel, checkpoint: Path) -> dict[str, int]:
    files = checkpoint.rglob("*") if checkpoint.is_dir() else [checkpoint]
    return {
        "parameters": sum(weights.numel() for weights in model.network.parameters()),
        "bytes": sum(file.stat().st_size for file in files if file.is_file()),
    }


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    run("evaluate", main, sys.argv[1], *(Path(argument) for argument in sys.argv[2:]))
