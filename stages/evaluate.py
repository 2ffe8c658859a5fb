"""Evaluates one model on every evaluation source."""

import logging
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from dav2.data.files import written_whole
from dav2.data.manifest import read_manifest
from dav2.data.open import ManifestReader
from stages.evaluation import OUTPUTS, Domain, EvaluateParams, Evaluation, Predicted
from stages.evaluation_summary import flat
from stages.params import load
from stages.program import run
from stages.sources import locations
from stages.tracking import tracked

if TYPE_CHECKING:
    import pandas as pd

    from dav2.models.depth_anything import DepthAnything

_SMALLEST_DEPTH_M = np.float32(1e-6)  # a metric model may say 0, whose inverse is no number

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Model:
    network: "DepthAnything"
    domain: Domain | None
    """Of a metric model; None for a relative one."""
    trained_px: int
    """Short side of the images it was trained on."""


def main(name: str, manifest_path: Path, checkpoint: Path, output: Path) -> None:
    """Writes the measures of one model.

    Every model goes through the relative protocol on every source with depth, and through the
    pairs of DA-2K; a metric model also through the metric protocol, on the sources of its domain.

    Args:
        name: What the model is called.
        manifest_path: Gated manifest of the evaluation sources.
        checkpoint: The model.
        output: Folder to write: `metrics.json`, `per_image.parquet`, `pairs.parquet`,
            `predictions/*.png` and `predictions.json`.

    Raises:
        SystemExit: With one line, if parameters, checkpoint or samples are not what they should be.
            Nothing is written to `output` then.
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
        with written_whole(output) as folder:
            evaluation = Evaluation(
                manifest, folder, params=params, sources=sources, domains=domains
            )
            model = _load(checkpoint)
            reader = ManifestReader(manifest, sources)
            for predicted in _predicted(params, manifest, reader, model, domains):
                evaluation.add(predicted)
            num_parameters = sum(weights.numel() for weights in model.network.parameters())
            sizes = {"parameters": num_parameters, "bytes": checkpoint.stat().st_size}
            metrics = evaluation.finish(sizes)
        run.log_metrics(flat(metrics))
        for source, panel in evaluation.panels.items():
            run.log_picture(f"{source}.png", panel)
    logger.info("%s: evaluated on %d images", checkpoint, len(manifest))


def _predicted(
    params: EvaluateParams,
    manifest: "pd.DataFrame",
    reader: ManifestReader,
    model: _Model,
    domains: Mapping[str, str],
) -> Iterator[Predicted]:
    """Yields one prediction per row, a batch at a time."""
    import torch
    from tqdm import tqdm

    from dav2.models.device import chosen_device
    from dav2.predict import predict

    torch.set_num_threads(params.num_threads)
    device = chosen_device(params.device, where="evaluate.device")
    model.network.to(device)
    half = params.dtype == "bfloat16" or (params.dtype == "auto" and device == "cuda")
    with tqdm(total=len(reader), desc="evaluate", unit="image") as bar:
        for first in range(0, len(reader), params.batch_size):
            rows = range(first, min(first + params.batch_size, len(reader)))
            samples = [reader.read(row) for row in rows]
            maps = predict(
                model.network,
                [sample.image for sample in samples],
                short_side_px=params.short_side_px or model.trained_px,
                preparation="antialiased",
                batch_size=params.batch_size,
                dtype=torch.bfloat16 if half else None,
            )
            for row, sample, values in zip(rows, samples, maps, strict=True):
                if model.domain is None:
                    yield Predicted(row, sample, relative_depth=values)
                else:
                    applies = domains[manifest["source"].iloc[row]] == model.domain
                    yield Predicted(
                        row,
                        sample,
                        1 / np.maximum(values, _SMALLEST_DEPTH_M),
                        values if applies else None,
                    )
                bar.update()


def _load(checkpoint: Path) -> _Model:
    from dav2.models.checkpoints import load as load_model

    network, metadata = load_model(checkpoint)
    trained_px = int(metadata.get("short_side_px", network.encoder.config.native_px))
    return _Model(network, _metric_domain(network, metadata, checkpoint), trained_px)


def _metric_domain(
    model: "DepthAnything", metadata: dict[str, Any], checkpoint: Path
) -> Domain | None:
    """Returns the domain of a metric model, None for a relative one."""
    if model.config.max_depth_m is None:
        return None
    for domain in get_args(Domain):
        if metadata.get("domain") == domain:
            return domain  # type: ignore[no-any-return]
    raise ValueError(
        f"{checkpoint}: expected the domain of a metric model to be one of "
        f"{', '.join(get_args(Domain))}, got {metadata.get('domain')!r}"
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    run("evaluate", main, sys.argv[1], *(Path(argument) for argument in sys.argv[2:]))
