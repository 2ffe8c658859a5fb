"""Evaluates one model on every evaluation source."""

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from jaxtyping import Float32

from dav2.data.files import written_whole
from dav2.data.manifest import read_manifest
from dav2.data.open import ManifestReader
from stages.evaluation import (
    KINDS,
    OUTPUTS,
    Domain,
    EvaluateParams,
    Evaluation,
    Kind,
    Predicted,
    saved_rows,
    source_protocols,
)
from stages.evaluation_summary import flat
from stages.params import load
from stages.program import run
from stages.sources import locations
from stages.tracking import tracked

if TYPE_CHECKING:
    import pandas as pd

    from dav2.data.preparation import Preparation
    from dav2.data.sample import DepthSample
    from dav2.models.depth_anything import DepthAnything
    from dav2.prediction.model_input import ModelInput

_SMALLEST_DEPTH_M = np.float32(1e-6)  # a metric model may say 0, whose inverse is no number

_BATCH_PIXELS = 1 << 25
"""Most pixels read at once; a larger image comes alone."""
_PUBLISHED_DOMAINS: dict[float, Domain] = {20.0: "indoor", 80.0: "outdoor"}
"""Of the authors' metric models, by the metres at which they saturate."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Model:
    network: "DepthAnything"
    domain: Domain | None
    """Of a metric model; None for a relative one."""
    trained_px: int
    """Short side of the images it was trained on."""
    preparation: "Preparation"
    """How those were resized."""


def main(name: str, manifest_path: Path, checkpoint: Path, output: Path) -> None:
    """Writes the measures of one model.

    Every model goes through the relative protocol on every source with depth, and through the
    pairs of DA-2K; a metric model also through the metric protocol, on the sources of its domain.

    Args:
        name: What the model is called.
        manifest_path: Gated manifest of the evaluation sources.
        checkpoint: The model: ours, a `.pth` of the authors, or a folder of Transformers.
        output: Folder to write: `metrics.json`, `per_image.parquet`, `pairs.parquet`,
            `predictions/*.png`, `predictions.json` and `protocols.json`.

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
            sizes = {"parameters": num_parameters, "bytes": _num_bytes(checkpoint)}
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
    from dav2.prediction.changes import inconsistencies

    torch.set_num_threads(params.num_threads)
    device = chosen_device(params.device, where="evaluate.device")
    model.network.to(device)
    half = params.dtype == "bfloat16" or (params.dtype == "auto" and device == "cuda")
    dtype = torch.bfloat16 if half else None
    inputs = _inputs(params, model, domains)
    sources = [str(source) for source in manifest["source"]]
    changed = saved_rows(manifest, params.consistency_samples)
    with tqdm(total=len(reader), desc="evaluate", unit="image") as bar:
        for rows in _batches(manifest, params.batch_size):
            samples = [reader.read(row) for row in rows]
            wanted = [inputs[sources[row]] for row in rows]
            maps = _maps(params, model, samples, wanted, dtype)
            for row, sample, kinds, found in zip(rows, samples, wanted, maps, strict=True):
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
    params: EvaluateParams, model: _Model, domains: Mapping[str, str]
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


def _batches(manifest: "pd.DataFrame", batch_size: int) -> Iterator[range]:
    """Yields ranges of rows that fit into memory together."""
    pixels = (manifest["width"].astype("int64") * manifest["height"]).tolist()
    first = 0
    while first < len(pixels):
        last = first + 1
        while last < min(first + batch_size, len(pixels)):
            if sum(pixels[first : last + 1]) > _BATCH_PIXELS:
                break
            last += 1
        yield range(first, last)
        first = last


def _maps(
    params: EvaluateParams,
    model: _Model,
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


def _load(checkpoint: Path) -> _Model:
    from dav2.models.checkpoints import load as load_model

    network, metadata = load_model(checkpoint)
    trained_px = int(metadata.get("short_side_px", network.encoder.config.native_px))
    return _Model(
        network,
        _metric_domain(network, metadata, checkpoint),
        trained_px,
        # What we trained carries metadata, and saw antialiased images.
        "antialiased" if metadata else "authors",
    )


def _metric_domain(
    model: "DepthAnything", metadata: dict[str, Any], checkpoint: Path
) -> Domain | None:
    """Returns the domain of a metric model, None for a relative one."""
    max_depth_m = model.config.max_depth_m
    if max_depth_m is None:
        return None
    named = metadata.get("domain") if metadata else _PUBLISHED_DOMAINS.get(max_depth_m)
    for domain in get_args(Domain):
        if named == domain:
            return domain  # type: ignore[no-any-return]
    raise ValueError(
        f"{checkpoint}: expected the domain of a metric model to be one of "
        f"{', '.join(get_args(Domain))}, got {named!r}"
    )


def _num_bytes(checkpoint: Path) -> int:
    files = checkpoint.rglob("*") if checkpoint.is_dir() else [checkpoint]
    return sum(file.stat().st_size for file in files if file.is_file())


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    run("evaluate", main, sys.argv[1], *(Path(argument) for argument in sys.argv[2:]))
