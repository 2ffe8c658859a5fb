"""Shows how the numbers of one model differ between protocols, on the same images.

`python -m stages.compare_protocols data/gated/evaluation.parquet models/teacher.safetensors` prints
a table in markdown for each source, a line for each protocol of `protocols/` that fits the model
(or for each `--protocol`). Protocols are taken for their rules alone, whichever dataset they are
for. Nothing is written and nothing tracked.

Axes: H height, W width (pixels).
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from dav2.data.manifest import read_manifest
from dav2.data.open import ManifestReader
from dav2.data.sample import DepthSample
from stages.evaluated_model import EvaluatedModel, load_evaluated
from stages.evaluation_measures import measure_depth
from stages.evaluation_params import EvaluateParams
from stages.evaluation_protocols import ProtocolParams, protocol_names, read_protocol
from stages.evaluation_summary import summarise
from stages.params import load
from stages.program import run
from stages.sources import locations

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("num_pixels", "abs_rel", "abs_rel_inverse", "delta1", "rmse", "silog")

_SMALLEST_DEPTH_M = np.float32(1e-6)


def main(arguments: Sequence[str]) -> None:
    """Prints the tables.

    Args:
        arguments: Of the command line: manifest, model, `--protocol`, `--source`.

    Raises:
        ValueError: If the files do not fit, or a protocol is not for such a model.
    """
    options = _parse(arguments)
    params = load("evaluate", EvaluateParams)
    model = load_evaluated(options.checkpoint)
    protocols = _protocols(options.protocol or protocol_names(), model, is_named=options.protocol)
    manifest = read_manifest(options.manifest)
    if options.source:
        manifest = manifest[manifest["source"].isin(options.source)].reset_index(drop=True)
    for source, rows in manifest.groupby("source"):
        reader = ManifestReader(rows, locations())
        lines = list(_measured(reader, rows, model, protocols, params))
        if lines:
            sys.stdout.write(table(str(source), lines))


def table(source: str, lines: Sequence[dict[str, Any]]) -> str:
    """Returns a table in markdown: a line for each protocol, means as the protocol takes them.

    Args:
        source: Name of the source.
        lines: For each protocol its `name` and measures.
    """
    heads = ["protocol", *(name.replace("_", " ") for name in COLUMNS)]
    rows = [heads, ["---"] * len(heads)]
    for line in lines:
        cells = [f"{line[name]:.4g}" if name in line else "" for name in COLUMNS]
        rows.append([line["name"], *cells])
    return "\n".join([f"**{source}**", "", *(f"| {' | '.join(row)} |" for row in rows)]) + "\n\n"


def predicted(
    model: EvaluatedModel,
    samples: Sequence[DepthSample],
    protocol: ProtocolParams,
    params: EvaluateParams,
) -> list[Float32[np.ndarray, "_H _W"]]:
    """Returns what a model says of samples under a protocol: relative depth or metres, as it takes.

    Args:
        model: Prepared.
        samples: Held at once.
        protocol: Decides what the model sees.
        params: Sizes where the protocol leaves them open.
    """
    from dav2.prediction.seen import predict_with

    seen = protocol.model_input(params.short_side_px or model.trained_px, model.preparation)
    images = [sample.image for sample in samples]
    maps = predict_with(
        model.network, images, seen, batch_size=params.batch_size, dtype=model.prepare(params)
    )
    if model.domain is None or not protocol.protocol().is_relative:
        return maps
    return [1 / np.maximum(values, _SMALLEST_DEPTH_M) for values in maps]


def _measured(
    reader: ManifestReader,
    rows: "pd.DataFrame",
    model: EvaluatedModel,
    protocols: dict[str, ProtocolParams],
    params: EvaluateParams,
) -> Iterator[dict[str, Any]]:
    """Yields the measures under each protocol; images pass one after the other."""
    import pandas as pd

    found: dict[str, list[dict[str, Any]]] = {name: [] for name in protocols}
    for index in range(len(reader)):
        sample = reader.read(index)
        if sample.depth is None:
            continue
        maps: dict[Any, Any] = {}
        for name, protocol in protocols.items():
            seen = (protocol.input, protocol.image_crop, protocol.protocol().is_relative)
            if seen not in maps:
                (maps[seen],) = predicted(model, [sample], protocol, params)
            row, _, _ = measure_depth(sample, maps[seen], protocol=protocol.protocol())
            found[name].append({"source": "one", "protocol": "relative", **row})
    for name, protocol in protocols.items():
        measured = pd.DataFrame(found[name])
        if not len(measured) or not (measured["num_pixels"] > 0).any():
            continue
        yield {"name": name, **_means(measured, protocol)}


def _means(measured: "pd.DataFrame", protocol: ProtocolParams) -> dict[str, float]:
    from stages.evaluation_measures import PAIRS, PER_IMAGE

    pooled = {("relative", "one")} if protocol.averaging == "pixel" else set()
    nothing = measured.iloc[:0].reindex(columns=PAIRS.names)
    rows = measured.reindex(columns=PER_IMAGE.names)
    means = summarise(rows, nothing, num_resamples=1, pooled=pooled)["one"]
    return {**means, "num_pixels": float(measured["num_pixels"].mean())}


def _protocols(
    names: Sequence[str], model: EvaluatedModel, *, is_named: Any
) -> dict[str, ProtocolParams]:
    """Returns the protocols that fit the model; all must that were named."""
    found = {name: read_protocol(name) for name in names}
    # A metric model says metres, which can be inverted; relative depth cannot.
    unfit = [
        name
        for name, protocol in found.items()
        if model.domain is None and not protocol.protocol().is_relative
    ]
    if is_named and unfit:
        raise ValueError(f"expected protocols for relative depth, got {', '.join(unfit)}")
    return {name: protocol for name, protocol in found.items() if name not in unfit}


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stages.compare_protocols", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("manifest", type=Path, help="of the evaluation sources")
    parser.add_argument("checkpoint", type=Path, help="ours, the authors' or of Transformers")
    parser.add_argument("--protocol", action="append", help="of protocols/, repeatable; else all")
    parser.add_argument("--source", action="append", help="of the manifest, repeatable; else all")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run("compare_protocols", main, sys.argv[1:])
