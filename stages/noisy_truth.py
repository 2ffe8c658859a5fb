"""Shows what a noisy test set does to a ranking: exact depth, and the same as a sensor has it.

Depth Anything V2 (arXiv:2406.09414, figure 8) holds that noisy labels of test sets can no longer
tell strong models apart. `python -m stages.noisy_truth data/gated/evaluation.parquet MODEL...`
injects the noise of `dav2.training.label_noise` at growing strength into exact depth and prints, in
markdown, each model's measure and rank at each strength, and how the ranking agrees with that on
exact depth. Nothing is written and nothing tracked.

Axes: N images.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from dav2.data.manifest import read_manifest
from dav2.data.open import ManifestReader
from dav2.metrics.bootstrap import bootstrap_interval
from stages.compare_protocols import predicted
from stages.evaluated_model import load_evaluated
from stages.evaluation_measures import measure_depth
from stages.evaluation_params import EvaluateParams
from stages.evaluation_protocols import read_protocol
from stages.params import load
from stages.program import run
from stages.sources import locations

HIGHER_IS_BETTER = ("delta1", "delta2", "delta3", "boundary_f1", "boundary_sharpness")

_NUM_RESAMPLES = 2000

Measured = Mapping[str, Mapping[float, Float64[np.ndarray, " N"]]]
"""Values of images, the same of all models, by model and strength of the noise."""


def main(arguments: Sequence[str]) -> None:
    """Prints a table for each source with depth.

    Args:
        arguments: Of the command line: manifest, models, `--strength`, `--measure`, `--source`.

    Raises:
        ValueError: If the files do not fit, or the protocol is not for the models.
    """
    options = _parse(arguments)
    strengths = [0.0, *(strength for strength in options.strength if strength > 0)]
    manifest = read_manifest(options.manifest)
    for source, rows in manifest.groupby("source"):
        if options.source and source not in options.source:
            continue
        reader = ManifestReader(rows, locations())
        found = measured(reader, options.models, strengths=strengths, measure=options.measure)
        if found:
            sys.stdout.write(table(str(source), found, measure=options.measure))


def measured(
    reader: ManifestReader, models: Sequence[Path], *, strengths: Sequence[float], measure: str
) -> Measured:
    """Returns each model's measure on exact depth and with noise; empty without depth.

    Every model meets the same noise, which follows from the sample's id. Images that a strength
    leaves without a pixel do not count at any.

    Args:
        reader: Of samples of one source.
        models: Relative models.
        strengths: Of the noise; 0 is exact.
        measure: Of `dav2.metrics.depth.depth_errors` or `boundary_f1`.

    Raises:
        ValueError: If a model is metric.
    """
    from dav2.training.label_noise import with_sensor_noise

    params = load("evaluate", EvaluateParams)
    protocol = read_protocol(params.relative)
    loaded = {path.stem: load_evaluated(path) for path in models}
    for name, model in loaded.items():
        if model.domain is not None:
            raise ValueError(f"{name}: expected a model of relative depth, got a metric one")
    values: dict[str, list[list[float]]] = {name: [] for name in loaded}
    for index in range(len(reader)):
        sample = reader.read(index)
        if sample.depth is None:
            continue
        truths = [with_sensor_noise(sample, strength) for strength in strengths]
        for name, model in loaded.items():
            (prediction,) = predicted(model, [sample], protocol, params)
            rows = [measure_depth(t, prediction, protocol=protocol.protocol())[0] for t in truths]
            if all(measure in row for row in rows):
                values[name].append([row[measure] for row in rows])
    return {
        name: dict(zip(strengths, np.array(rows).T, strict=True))
        for name, rows in values.items()
        if rows
    }


def ranks(found: Measured, *, strength: float, measure: str) -> list[str]:
    """Returns the models at one strength, best first; equals by name.

    Args:
        found: Result of `measured`.
        strength: Of the noise.
        measure: Which way is better.
    """
    sign = -1 if measure in HIGHER_IS_BETTER else 1
    return sorted(found, key=lambda name: (sign * np.nanmean(found[name][strength]), name))


def agreement(one: Sequence[str], other: Sequence[str]) -> float:
    """Returns Kendall's tau of two rankings of the same models: 1 the same, -1 turned round.

    Args:
        one: Names, best first.
        other: Likewise.
    """
    place = {name: position for position, name in enumerate(other)}
    pairs = [(a, b) for i, a in enumerate(one) for b in one[i + 1 :]]
    if not pairs:
        return 1.0
    return sum(1 if place[a] < place[b] else -1 for a, b in pairs) / len(pairs)


def table(source: str, found: Measured, *, measure: str) -> str:
    """Returns a table in markdown: models, best on exact depth first, with rank at each strength.

    Means and their differences come with 95 % intervals over images, the latter paired by image.

    Args:
        source: Name of the source.
        found: Result of `measured`.
        measure: What it holds.
    """
    strengths = list(next(iter(found.values())))
    order = {s: ranks(found, strength=s, measure=measure) for s in strengths}
    exact = order[strengths[0]]
    rows = [["model", *(f"noise {s:g}" if s else "exact" for s in strengths)]]
    rows.append(["---"] * len(rows[0]))
    for name in exact:
        cells = [f"{_stated(found[name][s])} ({order[s].index(name) + 1})" for s in strengths]
        rows.append([name, *cells])
    if len(exact) > 1:
        apart = {s: found[order[s][-1]][s] - found[order[s][0]][s] for s in strengths}
        rows.append(["worst less best", *map(_stated, apart.values())])
    rows.append(["Kendall's tau", *(f"{agreement(exact, order[s]):+.2f}" for s in strengths)])
    lines = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([f"**{source}**, {measure} (rank)", "", *lines]) + "\n\n"


def _stated(values: Float64[np.ndarray, " N"]) -> str:
    """Returns the mean of what is defined of images, and its interval."""
    known = values[np.isfinite(values)]
    if not known.size:
        return "none"
    low, high = bootstrap_interval(known, np.ones_like(known), num_resamples=_NUM_RESAMPLES)
    return f"{known.mean():.3f} [{low:.3f}, {high:.3f}]"


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stages.noisy_truth", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("manifest", type=Path, help="of the evaluation sources")
    parser.add_argument("models", type=Path, nargs="+", help="relative models")
    parser.add_argument("--strength", type=float, nargs="+", default=[0.5, 1.0, 2.0, 4.0])
    parser.add_argument("--measure", default="abs_rel_inverse")
    parser.add_argument("--source", action="append", help="of the manifest, repeatable; else all")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run("noisy_truth", main, sys.argv[1:])
