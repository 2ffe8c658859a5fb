"""Evaluates predictions that look at no image, as rows beside the models'."""

import logging
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
from jaxtyping import Float

from dav2.data.files import written_whole
from dav2.data.manifest import read_manifest
from dav2.data.open import ManifestReader
from dav2.data.sample import DepthSample
from dav2.metrics.baselines import (
    BaselineName,
    TrainingMean,
    baseline_map,
    normalised_inverse_depth,
)
from dav2.metrics.pixels import evaluated_pixels
from stages.evaluation import Evaluation, Predicted
from stages.evaluation_params import EvaluateParams
from stages.evaluation_protocols import read_protocol
from stages.evaluation_summary import flat
from stages.params import load
from stages.program import run
from stages.sources import locations
from stages.tracking import tracked

BASELINES: tuple[BaselineName, ...] = get_args(BaselineName)

logger = logging.getLogger(__name__)


def main(labelled_path: Path, evaluation_path: Path, output: Path) -> None:
    """Writes the measures of the trivial baselines, each aligned like a model.

    In the metric protocol constant, row mean and pixel mean are those of the training depth of the
    domain, in metres; a ramp has no metres.

    Args:
        labelled_path: Gated manifest of the training samples.
        evaluation_path: Gated manifest of the evaluation sources.
        output: Folder that gets `trivial-<baseline>/`, each with the files of a model.

    Raises:
        SystemExit: With one line, if the parameters do not fit, samples are not what they should
            be, or there is no training sample.
    """
    try:
        _evaluate(load("evaluate", EvaluateParams), labelled_path, evaluation_path, output)
    except (ValueError, OSError) as error:
        raise SystemExit(f"evaluate_trivial: {error}") from None


def _evaluate(
    params: EvaluateParams, labelled_path: Path, evaluation_path: Path, output: Path
) -> None:
    manifest = read_manifest(evaluation_path)
    sources = locations()
    domains = dict(zip(manifest["source"], manifest["domain"], strict=True))
    inputs = {"labelled": labelled_path, "evaluation": evaluation_path}
    folders = {name: output / f"trivial-{name}" for name in BASELINES}
    with tracked("evaluate_trivial", params, inputs=inputs, outputs=list(folders.values())) as run:
        chosen = _training_rows(labelled_path, params.baseline_samples)
        means = _TrainingMeans(params)
        trained = ManifestReader(chosen, sources)
        for row, domain in enumerate(chosen["domain"]):
            means.add(trained.read(row), domain=domain)
        with ExitStack() as stack:
            evaluations = {
                name: Evaluation(
                    manifest,
                    stack.enter_context(written_whole(folder)),
                    params=params,
                    sources=sources,
                    domains=domains,
                )
                for name, folder in folders.items()
            }
            reader = ManifestReader(manifest, sources)
            for row, source in enumerate(manifest["source"]):
                sample = reader.read(row)
                for name, evaluation in evaluations.items():
                    evaluation.add(means.predicted(name, row, sample, domain=domains[source]))
            metrics = {str(name): entry.finish() for name, entry in evaluations.items()}
        run.log_metrics(flat(metrics))
    logger.info("%d baselines evaluated on %d images", len(BASELINES), len(manifest))


def _training_rows(labelled_path: Path, most: int) -> pd.DataFrame:
    """Returns training rows, evenly spread where there are more than enough."""
    labelled = read_manifest(labelled_path)
    training = labelled[labelled["split"] != "val"]  # as training does
    if not len(training):
        raise ValueError(f"{labelled_path}: expected training samples, got none")
    spread = np.linspace(0, len(training) - 1, min(most, len(training)))
    return training.iloc[np.rint(spread).astype(int)]


class _TrainingMeans:
    """Mean inverse depth of all training samples, and mean depth of those of each domain."""

    def __init__(self, params: EvaluateParams) -> None:
        self._relative = TrainingMean()
        self._metric: dict[str, TrainingMean] = {}
        self._protocols = {
            str(domain): read_protocol(name).protocol() for domain, name in params.metric.items()
        }
        self._values: dict[str, Float[np.ndarray, "R C"]] = {}

    def add(self, sample: DepthSample, *, domain: str) -> None:
        if sample.depth is None or sample.valid is None:
            raise ValueError(f"{sample.sample_id}: expected a training sample with depth, got none")
        inverse = sample.inverse_depth()
        self._relative.add(
            normalised_inverse_depth(inverse, valid=sample.valid), valid=sample.valid
        )
        if domain in self._protocols and sample.scale_known:
            pixels = evaluated_pixels(
                sample.depth, sample.valid, sky=sample.sky, protocol=self._protocols[domain]
            )
            if pixels.any():
                self._metric.setdefault(domain, TrainingMean()).add(sample.depth, valid=pixels)

    def predicted(
        self, name: BaselineName, row: int, sample: DepthSample, *, domain: str
    ) -> Predicted:
        height, width = sample.image.shape[:2]
        depth_m = None
        if name != "ramp" and domain in self._metric:
            mean = self._mean(domain, self._metric[domain])
            depth_m = baseline_map(name, height, width, mean=mean)
        mean = self._mean("", self._relative)
        return Predicted(row, sample, baseline_map(name, height, width, mean=mean), depth_m)

    def _mean(self, key: str, of: TrainingMean) -> Float[np.ndarray, "R C"]:
        if key not in self._values:
            self._values[key] = of.value()
        return self._values[key]


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    run("evaluate_trivial", main, *(Path(argument) for argument in sys.argv[1:]))
