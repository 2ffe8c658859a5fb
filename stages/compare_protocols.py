"""Shows how the numbers of models differ between protocols, on the same images.

`python -m stages.compare_protocols data/gated/evaluation.parquet models/teacher.safetensors` prints
a table in markdown for each model and source: a line for each protocol of `protocols/` that fits
the model (or for each `--protocol`), one for those that come to the same. Protocols are taken for
their rules alone, whichever dataset they are for. `--data middlebury/all=<folder>` adds a dataset
that was not ingested. Nothing is written and nothing tracked.

Axes: H height, W width (pixels).
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from jaxtyping import Float32

from dav2.data.manifest import read_manifest
from dav2.data.open import DatasetName, ManifestReader, open_dataset
from dav2.data.sample import DepthSample
from stages.evaluated_model import EvaluatedModel, load_evaluated
from stages.evaluation_measures import PAIRS, PER_IMAGE, measure_depth
from stages.evaluation_params import EvaluateParams
from stages.evaluation_protocols import ProtocolParams, protocol_names, read_protocol
from stages.evaluation_summary import summarise
from stages.params import load
from stages.program import run
from stages.sources import locations

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("abs_rel", "abs_rel_inverse", "delta1", "rmse")

_SMALLEST_DEPTH_M = np.float32(1e-6)


def main(arguments: Sequence[str]) -> None:
    """Prints the tables.

    Args:
        arguments: Of the command line: manifest, models, `--protocol`, `--source`, `--data`.

    Raises:
        ValueError: If the files do not fit, or a protocol is not for such a model.
    """
    options = _parse(arguments)
    params = load("evaluate", EvaluateParams)
    manifest = read_manifest(options.manifest)
    if options.source:
        manifest = manifest[manifest["source"].isin(options.source)].reset_index(drop=True)
    for checkpoint in options.checkpoint:
        model = load_evaluated(checkpoint)
        names = options.protocol or protocol_names()
        protocols = _protocols(names, model, is_named=options.protocol)
        for source, samples in _sources(manifest, options.data, model):
            lines = list(_measured(samples, model, protocols, params))
            if lines:
                sys.stdout.write(table(f"{checkpoint.stem}, {source}", lines))


def table(title: str, lines: Sequence[dict[str, Any]]) -> str:
    """Returns a table in markdown: means as the protocol takes them, with 95 % intervals.

    Args:
        title: Stands above.
        lines: For each protocol its `name`, `num_pixels` (mean), measures, and `intervals` where
            there is more than one image. Protocols of equal numbers share a line.
    """
    heads = ["protocol", "pixels", *(name.replace("_", " ") for name in COLUMNS)]
    grouped: dict[tuple[str, ...], list[str]] = {}
    for line in lines:
        cells = (f"{line['num_pixels']:.0f}", *(_cell(line, name) for name in COLUMNS))
        grouped.setdefault(cells, []).append(line["name"])
    rows = [heads, ["---"] * len(heads)]
    rows += [[_joined(names), *cells] for cells, names in grouped.items()]
    return "\n".join([f"**{title}**", "", *(f"| {' | '.join(row)} |" for row in rows)]) + "\n\n"


def _cell(line: dict[str, Any], name: str) -> str:
    if name not in line:
        return ""
    ends = line["intervals"].get(name)
    return _number(line[name]) + (f" [{_number(ends[0])}, {_number(ends[1])}]" if ends else "")


def _number(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}" if value < 1000 else f"{value:.0f}"


def _joined(names: Sequence[str]) -> str:
    """Returns names of protocols, those of one paper in braces: `v2/{any, kitti}`."""
    papers: dict[str, list[str]] = {}
    for name in names:
        paper, _, dataset = name.partition("/")
        papers.setdefault(paper, []).append(dataset)
    return ", ".join(
        f"{paper}/{datasets[0]}" if len(datasets) == 1 else f"{paper}/{{{', '.join(datasets)}}}"
        for paper, datasets in papers.items()
    )


def _sources(
    manifest: "pd.DataFrame", folders: Sequence[str], model: EvaluatedModel
) -> Iterator[tuple[str, Iterable[DepthSample]]]:
    """Yields name and samples of each source; of a metric model those of its domain."""
    for source, rows in manifest.groupby("source"):
        if model.domain in (None, rows["domain"].iloc[0]):
            reader = ManifestReader(rows, locations())
            yield str(source), map(reader.read, range(len(reader)))
    for folder in folders if model.domain is None else ():
        chosen, _, root = folder.partition("=")
        name, _, split = chosen.partition("/")
        if name not in get_args(DatasetName) or not root:
            raise ValueError(f"--data: expected <reader>/<split>=<folder>, got {folder!r}")
        data = open_dataset(name, root)  # type: ignore[arg-type]  # one of them, as checked
        yield chosen, map(data.read, data.list_samples(split))


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
    samples: Iterable[DepthSample],
    model: EvaluatedModel,
    protocols: dict[str, ProtocolParams],
    params: EvaluateParams,
) -> Iterator[dict[str, Any]]:
    """Yields the measures under each protocol; images pass one after the other."""
    import pandas as pd

    found: dict[str, list[dict[str, Any]]] = {name: [] for name in protocols}
    for sample in samples:
        if sample.depth is None:
            continue
        maps: dict[Any, Any] = {}
        measured: dict[Any, dict[str, Any]] = {}
        for name, protocol in protocols.items():
            rules = protocol.protocol()
            seen = (protocol.input, protocol.image_crop, rules.is_relative)
            if seen not in maps:
                (maps[seen],) = predicted(model, [sample], protocol, params)
            if (seen, rules) not in measured:
                measured[seen, rules], _, _ = measure_depth(sample, maps[seen], protocol=rules)
            row = measured[seen, rules]
            found[name].append({"source": "one", "protocol": "relative", **row})
    for name, protocol in protocols.items():
        rows = pd.DataFrame(found[name])
        if len(rows) and (rows["num_pixels"] > 0).any():
            yield {"name": name, **_means(rows, protocol, params)}


def _means(
    measured: "pd.DataFrame", protocol: ProtocolParams, params: EvaluateParams
) -> dict[str, Any]:
    pooled = {("relative", "one")} if protocol.averaging == "pixel" else set()
    nothing = measured.iloc[:0].reindex(columns=PAIRS.names)
    shown = ["source", "protocol", "num_pixels", *(name for name in COLUMNS if name in measured)]
    rows = measured[shown].reindex(columns=PER_IMAGE.names)
    metrics = summarise(rows, nothing, num_resamples=params.bootstrap_resamples, pooled=pooled)
    intervals = metrics["intervals"]["one"] if metrics["one"]["num_images"] > 1 else {}
    num_pixels = float(measured["num_pixels"].mean())
    return {**metrics["one"], "num_pixels": num_pixels, "intervals": intervals}


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
    parser.add_argument(
        "checkpoint", type=Path, nargs="+", help="ours, the authors' or of Transformers"
    )
    parser.add_argument("--protocol", action="append", help="of protocols/, repeatable; else all")
    parser.add_argument("--source", action="append", help="of the manifest, repeatable; else all")
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="READER/SPLIT=FOLDER",
        help="a dataset as published, for relative models, repeatable",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run("compare_protocols", main, sys.argv[1:])
