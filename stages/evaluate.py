"""Evaluates one model on every evaluation source."""

import logging
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dav2.data.files import written_whole
from dav2.data.manifest import read_manifest
from dav2.data.open import ManifestReader
from stages.digests import dvc_digest
from stages.evaluated_maps import PredictedMaps, is_maps, open_maps
from stages.evaluated_model import EvaluatedModel, load_evaluated
from stages.evaluation import OUTPUTS, Evaluation
from stages.evaluation_loop import measure
from stages.evaluation_params import EvaluateParams
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


def _work_folder(params: EvaluateParams, inputs: Mapping[str, Path], output: Path) -> Path:
    """Returns the folder of this evaluation's progress, by all that decides its numbers."""
    digests = {name: dvc_digest(path) for name, path in inputs.items()}
    protocols = {name: read_protocol(name).model_dump(mode="json") for name in params.names()}
    code = code_fingerprint(["stages.evaluate"], Path(__file__).parents[1])
    versions = library_versions("numpy", "pillow", "timm", "torch")
    decisive = [params.model_dump(mode="json"), protocols, digests, code, versions]
    return work_folder("evaluate", fingerprint(output.as_posix(), decisive)) / "output"


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
