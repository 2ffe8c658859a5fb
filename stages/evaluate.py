"""Evaluates one model on every evaluation source."""

import logging
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


@dataclass(slots=True)
class Spent:
    """What predicting took; reading and measuring are not in it."""

    seconds: float = 0.0
    num_images: int = 0


def main(name: str, manifest_path: Path, checkpoint: Path, output: Path) -> None:
    """Writes the measures of one model.

    Every model goes through the relative protocol on every source with depth, and through the
    pairs of DA-2K; a metric model also through the metric protocol, on the sources of its domain.

    Args:
        name: What the model is called.
        manifest_path: Gated manifest of the evaluation sources.
        checkpoint: The model: ours, a `.pth` of the authors, or a folder of Transformers.
        output: Folder to write: `metrics.json`, `per_image.parquet`, `pairs.parquet`,
            `predictions/*.png`, `predictions.json`, `protocols.json` and `calibration.json`.

    Raises:
        SystemExit: With one line, if parameters, checkpoint or samples are not what they should be.
            Nothing is written to `output` then; what is measured is kept in `.work`.
    """
    try:
        _evaluate(load("evaluate", EvaluateParams), manifest_path, checkpoint, output)
    except (ValueError, OSError) as error:
        raise SystemExit(f"evaluate {name}: {error}") from None


def _evaluate(params: EvaluateParams, manifest_path: Path, checkpoint: Path, output: Path) -> None:
    manifest = read_manifest(manifest_path)
    inputs = {"evaluation": manifest_path, "model": checkpoint}
    outputs = [output / part for part in OUTPUTS]
    with tracked("evaluate", params, inputs=inputs, outputs=outputs) as run:
        sources = locations()
        domains = dict(zip(manifest["source"], manifest["domain"], strict=True))
        work = _work_folder(params, inputs, output)
        evaluation = Evaluation(manifest, work, params=params, sources=sources, domains=domains)
        waiting = len(manifest) - len(evaluation.done)
        model = load_evaluated(checkpoint)
        reader = ManifestReader(manifest, sources)
        begin_s, spent = time.monotonic(), Spent()
        for predicted in _predicted(params, manifest, reader, model, evaluation.done, spent):
            evaluation.add(predicted)
        if waiting:
            run.log_metrics({"seconds_per_image": (time.monotonic() - begin_s) / waiting})
        if spent.num_images:
            latency_s = spent.seconds / spent.num_images
            run.log_metrics({"prediction_seconds_per_image": latency_s})
            run.add_facts({"prediction_seconds_per_image": round(latency_s, 6)})
        num_parameters = sum(weights.numel() for weights in model.network.parameters())
        metrics = evaluation.finish({"parameters": num_parameters, "bytes": _num_bytes(checkpoint)})
        with written_whole(output) as folder:
            shutil.copytree(work, folder)
        shutil.rmtree(work)
        run.log_metrics(flat(metrics))
        for source, panel in evaluation.panels.items():
            run.log_picture(f"{source}.png", panel)
    logger.info("%s: evaluated on %d images", checkpoint, len(manifest))


def _predicted(
    params: EvaluateParams,
    manifest: "pd.DataFrame",
    reader: ManifestReader,
    model: EvaluatedModel,
    done: Set[int],
    spent: Spent,
) -> Iterator[Predicted]:
    """Yields one prediction for each row that is not done, a batch at a time; adds up the time."""
    from tqdm import tqdm

    from dav2.prediction.changes import inconsistencies

    dtype = model.prepare(params)
    domains = dict(zip(manifest["source"], manifest["domain"], strict=True))
    inputs = _inputs(params, model, domains)
    sources = [str(source) for source in manifest["source"]]
    changed = saved_rows(manifest, params.consistency_samples)
    with tqdm(total=len(manifest), initial=len(done), desc="evaluate", unit="image") as bar:
        for rows in _batches(manifest, params.batch_size):
            if done >= set(rows):
                continue  # batches stay as they are: another one may round otherwise
            samples = [reader.read(row) for row in rows]
            wanted = [inputs[sources[row]] for row in rows]
            begin_s = time.monotonic()
            maps = predict_inputs(params, model, samples, wanted, dtype)
            spent.seconds += time.monotonic() - begin_s
            spent.num_images += len(rows)
            for row, sample, kinds, found in zip(rows, samples, wanted, maps, strict=True):
                if row in done:
                    continue
                changes: dict[str, float] = {}
                values = found["relative"]
                if row in changed and sample.depth is not None:
                    changes = inconsistencies(
                        model.network, sample.image, values, kinds["relative"], dtype=dtype
                    )
                if model.domain is not None:
                    values = 1 / np.maximum(values, _SMALLEST_DEPTH_M)
                yield Predicted(row, sample, values, found.get("metric"), changes)
                bar.update()


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


def _num_bytes(checkpoint: Path) -> int:
    files = checkpoint.rglob("*") if checkpoint.is_dir() else [checkpoint]
    return sum(file.stat().st_size for file in files if file.is_file())


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    run("evaluate", main, sys.argv[1], *(Path(argument) for argument in sys.argv[2:]))
