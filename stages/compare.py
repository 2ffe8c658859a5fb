"""Makes the table of an ablation: seeds, means, spreads and differences side by side.

`python -m stages.compare experiments/ablations/x.yaml` reads the experiments that
`python -m stages.ablation` has kept, from git and DVC's cache, without any server.
"""

import argparse
import math
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from stages.ablation import AblationParams, planned, read_ablation

Row = tuple[str, str]
"""Variant and model."""
Measured = dict[Row, dict[int, dict[str, float]]]
"""For each row and seed, the measures by path."""


def main(arguments: list[str]) -> None:
    """Prints the table as markdown.

    Args:
        arguments: Of the command line: the file, `--seeds`, `--base`, `--spread`, `--measure`.

    Raises:
        SystemExit: With one line, if files do not fit or there is nothing to compare.
    """
    options = _parse(arguments)
    try:
        ablation = read_ablation(options.file)
        if options.measure:
            ablation = ablation.model_copy(update={"measures": tuple(options.measure)})
        found = measured(options.file, num_seeds=options.seeds, base=options.base)
        sys.stdout.write(table(found, ablation, use_range=options.spread == "range"))
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from None


def measured(path: Path, *, num_seeds: int, base: Path | None = None) -> Measured:
    """Returns what the runs of an ablation have measured, as far as they are there.

    Args:
        path: File of the ablation.
        num_seeds: Seeds to look for.
        base: As it was given to the ablation.
    """
    revisions = experiments()
    found: Measured = {}
    for run in planned(path, num_seeds=num_seeds, base=base):
        metrics = _metrics(revisions[run.name]) if run.name in revisions else {}
        for model in run.models:
            seeds = found.setdefault((run.variant, model), {})
            if model in metrics:
                seeds[run.seed] = metrics[model]
    return found


def experiments() -> dict[str, str]:
    """Returns the commit of each experiment that DVC keeps, by name; of equal names the newest."""
    command = ["git", "for-each-ref", "--sort=committerdate", "--format=%(refname) %(objectname)"]
    text = subprocess.run([*command, "refs/exps"], check=True, capture_output=True, text=True)
    pairs = (line.split(" ") for line in text.stdout.splitlines())
    return {name.rpartition("/")[2]: revision for name, revision in pairs}


def table(found: Measured, ablation: AblationParams, *, use_range: bool = False) -> str:
    """Returns a markdown table for each measure.

    The spread is the standard deviation over seeds, or the range. A difference of means is beyond
    it if it is larger than the spreads of both rows; over a few seeds that is a hint, not a test.

    Args:
        found: From `measured`.
        ablation: What to compare with what.
        use_range: Largest less smallest instead of the standard deviation.

    Raises:
        ValueError: If nothing was measured, or no row is there to compare with.
    """
    seeds = sorted({seed for runs in found.values() for seed in runs})
    paths = {path for runs in found.values() for values in runs.values() for path in values}
    chosen = [
        path
        for like in ablation.measures
        for path in sorted(paths)
        if fnmatchcase(path, like) and not path.startswith("intervals/")
    ]
    if not chosen:
        raise ValueError(
            f"compare: expected runs with measures like {', '.join(ablation.measures)}, got none: "
            "has `python -m stages.ablation` run?"
        )
    head = ["variant", "model", *(f"seed {seed}" for seed in seeds)]
    head += ["mean", "range" if use_range else "deviation", "difference", "beyond spread"]
    parts = []
    for path in dict.fromkeys(chosen):
        values = {
            row: {seed: numbers[path] for seed, numbers in runs.items() if path in numbers}
            for row, runs in found.items()
        }
        rows = [_row(row, values, ablation.against, seeds, use_range) for row in values]
        lines = [head, ["---"] * len(head), *rows]
        parts.append("\n".join([f"**{path}**", "", *(f"| {' | '.join(line)} |" for line in lines)]))
    return "\n\n".join(parts) + "\n"


def _row(
    row: Row,
    values: Mapping[Row, Mapping[int, float]],
    against: str,
    seeds: Sequence[int],
    use_range: bool,
) -> list[str]:
    """Returns one row's cells."""
    own = values[row]
    cells = [*row, *(f"{own[seed]:.4g}" if seed in own else "-" for seed in seeds)]
    if not own:
        return [*cells, "-", "-", "-", "-"]
    mean, spread = statistics.fmean(own.values()), _spread(own, use_range)
    cells += [f"{mean:.4g}", "-" if math.isnan(spread) else f"{spread:.2g}"]
    base = _base_of(row, values, against)
    if base == row or not values[base]:
        return [*cells, "-", "-"]
    difference = mean - statistics.fmean(values[base].values())
    spreads = (spread, _spread(values[base], use_range))
    beyond = "yes" if abs(difference) > max(spreads) else "no"
    return [*cells, f"{difference:+.4g}", "unknown" if math.isnan(sum(spreads)) else beyond]


def _base_of(row: Row, values: Mapping[Row, Mapping[int, float]], against: str) -> Row:
    fitting = [other for other in values if fnmatchcase(" ".join(other), against)]
    if not fitting:
        rows = ", ".join(" ".join(other) for other in values)
        raise ValueError(f"compare: expected a row like {against!r} to compare with, got {rows}")
    return next((other for other in fitting if other[0] == row[0]), fitting[0])


def _spread(values: Mapping[int, float], use_range: bool) -> float:
    """Returns the range or the standard deviation over seeds; NaN of a single one."""
    numbers = list(values.values())
    if len(numbers) < 2:
        return math.nan
    return max(numbers) - min(numbers) if use_range else statistics.stdev(numbers)


def _metrics(revision: str) -> dict[str, dict[str, float]]:
    """Returns the measures of each model that an experiment evaluated, by path."""
    from dvc.repo import Repo

    from stages.evaluation_summary import flat

    with Repo() as repo:
        shown = repo.metrics.show(revs=[revision])
    files = shown.get(revision, {}).get("data", {})
    return {
        Path(name).parent.name: flat(entry["data"])
        for name, entry in files.items()
        if "data" in entry
    }


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stages.compare", description=__doc__)
    parser.add_argument("file", type=Path, help="file of experiments/ablations")
    parser.add_argument("--seeds", type=int, default=3, help="seeds to look for (3)")
    parser.add_argument("--base", type=Path, help="as it was given to stages.ablation")
    parser.add_argument("--spread", choices=["deviation", "range"], default="deviation")
    parser.add_argument("--measure", action="append", help="in place of the file's, repeatable")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
