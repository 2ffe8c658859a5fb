"""Prints what every evaluation on this machine has measured, and compares models by image.

`python -m stages.leaderboard` prints a table in markdown for each source, best model first;
`wide` one table over sources; `add` takes in an evaluation that DVC restored from its cache;
`compare` two folders of evaluations, by paired differences over images. Models share a table only
if they met the same samples under the same protocol.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from dav2.data.manifest import read_manifest
from stages.evaluation_differences import differences, read_result
from stages.evaluation_params import EvaluateParams
from stages.leaderboard_rows import Cost, leaderboard_path, read_leaderboard, record
from stages.params import load
from stages.program import run

LOWER_IS_BETTER = (
    *("abs_rel", "abs_rel_inverse", "sq_rel", "rmse", "rmse_log", "rmse_inverse", "log10"),
    *("silog", "normal_mean_deg", "normal_median_deg", "planarity", "abs_rel_tom"),
    *("abs_rel_other", "whdr", "inconsistency_flip", "inconsistency_crop"),
    "inconsistency_resolution",
)
SHOWN = {
    "relative": ("abs_rel", "abs_rel_inverse", "delta1", "boundary_f1", "pair_accuracy"),
    "metric": ("abs_rel", "delta1", "rmse", "silog"),
}
"""Measures of a table, the first of which sorts it; of other kinds all."""

_ONE_TABLE = ["kind", "source", "manifest_digest", "protocol_digest"]


def main(arguments: Sequence[str]) -> None:
    """Does what the command line asks for.

    Args:
        arguments: Of the command line.

    Raises:
        ValueError: If files do not fit, or what is asked for was not measured.
    """
    options = _parse(arguments)
    path = options.file or leaderboard_path()
    match options.command:
        case "add":
            sys.stdout.write(f"{_add(options, path)} rows\n")
        case "compare":
            found = differences(options.one, options.other)
            sys.stdout.write(_markdown(_difference_rows(found)))
        case "wide":
            sys.stdout.write(wide_table(_rows(path), options.columns))
        case _:
            sys.stdout.write(tables(_rows(path), sort=options.sort, source=options.source))


def tables(rows: pd.DataFrame, *, sort: str | None = None, source: str | None = None) -> str:
    """Returns a table for each source, kind, set of samples and protocol.

    Args:
        rows: Of the leaderboard.
        sort: Measure by which models are sorted, and which is shown; None: the first shown.
        source: Shown alone; None: all.

    Raises:
        ValueError: If no such measure or source was evaluated.
    """
    if source is not None:
        rows = rows[rows["source"] == source]
    if sort is not None:
        _check_measure(sort, rows)
    parts = []
    for _, group in rows.groupby(_ONE_TABLE):
        entries = _entries(group)
        about = entries[0]
        measured = {entry["measure"] for entry in entries}
        shown = list(SHOWN.get(about["kind"], sorted(measured - {"all", "balanced"})))
        if about["kind"] == "da2k":
            shown = ["all", "balanced", *shown]
        if sort is not None:
            shown = [sort, *(measure for measure in shown if measure != sort)]
        shown = [measure for measure in shown if measure in measured]
        if not shown or (sort is not None and shown[0] != sort):
            continue
        head = f"**{about['source']}**, {about['kind']}: protocol {about['protocol']}, "
        head += f"{about['num_images']} images (samples {about['manifest_digest']})"
        parts.append(f"{head}\n\n{_markdown(_lines(entries, shown))}")
    if not parts:
        raise ValueError("leaderboard: expected an evaluation, got none of these")
    return "\n".join(parts)


def wide_table(rows: pd.DataFrame, columns: Sequence[str]) -> str:
    """Returns one table of models by `<kind>/<source>/<measure>`; the first column sorts it.

    Raises:
        ValueError: If a column would mix samples or protocols, or was never measured.
    """
    entries = _entries(rows)
    cells: dict[str, dict[str, dict[str, Any]]] = {}
    for column in columns:
        chosen = [entry for entry in entries if _address(entry) == column]
        if not chosen:
            known = ", ".join(sorted({_address(entry) for entry in entries}))
            raise ValueError(f"leaderboard: expected one of {known}, got {column!r}")
        said = sorted(
            {
                f"samples {entry['manifest_digest']} under {entry['protocol']} "
                f"({entry['protocol_digest']})"
                for entry in chosen
            }
        )
        if len(said) > 1:
            raise ValueError(
                f"{column}: expected one set of samples and one protocol in a column, "
                f"got {'; '.join(said)}"
            )
        cells[column] = {entry["model_digest"]: entry for entry in chosen}
    names = {entry["model_digest"]: entry["model"] for entry in entries}
    first = cells[columns[0]]
    lines = [["model", *columns]]
    for digest in _best_first(first, columns[0]) + sorted(set(names) - set(first)):
        found = [_cell(own[digest]) if digest in own else "" for own in cells.values()]
        if any(found):
            lines.append([f"{names[digest]} ({digest[:6]})", *found])
    return _markdown(lines)


def _difference_rows(found: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    lines = [["source", "measure", "images", "one", "other", "one less other", "better"]]
    for row in found:
        better = "not told apart"
        if row["low"] > 0 or row["high"] < 0:
            better = "one" if (row["high"] < 0) == _ascending(row["measure"]) else "other"
            better = "" if row["measure"] == "log_bias" else better
        ends = f"{row['difference']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"
        means = (f"{row['one']:.4f}", f"{row['other']:.4f}")
        name = f"{row['kind']}/{row['source']}"
        lines.append([name, row["measure"], f"{row['num_images']}", *means, ends, better])
    return lines


def _lines(entries: Sequence[Mapping[str, Any]], shown: Sequence[str]) -> list[list[str]]:
    """Returns the rows of one table, its head first."""
    by_model: dict[str, dict[str, Mapping[str, Any]]] = {}
    for entry in entries:
        by_model.setdefault(entry["model_digest"], {})[entry["measure"]] = entry
    first = {digest: own[shown[0]] for digest, own in by_model.items() if shown[0] in own}
    lines = [["model", *shown, "parameters", "ms an image", "peak MB", "device"]]
    for digest in _best_first(first, shown[0]) + sorted(set(by_model) - set(first)):
        own = by_model[digest]
        about = next(iter(own.values()))
        cells = [_cell(own[name]) if name in own else "" for name in shown]
        cost = [
            "" if pd.isna(about["parameters"]) else f"{about['parameters'] / 1e6:.1f} M",
            "" if pd.isna(about["predict_s"]) else f"{1e3 * about['predict_s']:.1f}",
            "" if pd.isna(about["peak_mb"]) else f"{about['peak_mb']:.0f}",
            "" if pd.isna(about["device"]) else about["device"],
        ]
        lines.append([f"{about['model']} ({digest[:6]})", *cells, *cost])
    return lines


def _best_first(entries: Mapping[str, Mapping[str, Any]], measure: str) -> list[str]:
    sign = 1 if _ascending(measure) else -1
    return sorted(entries, key=lambda digest: (sign * entries[digest]["value"], digest))


def _address(entry: Mapping[str, Any]) -> str:
    return f"{entry['kind']}/{entry['source']}/{entry['measure']}"


def _cell(entry: Mapping[str, Any]) -> str:
    ends = "" if pd.isna(entry["low"]) else f" [{entry['low']:.3f}, {entry['high']:.3f}]"
    return f"{entry['value']:.4f}{ends}"


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    head, *rest = lines
    rows = [head, ["---"] * len(head), *rest]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _ascending(measure: str) -> bool:
    return measure.rpartition("/")[2] in LOWER_IS_BETTER


def _check_measure(name: str, rows: pd.DataFrame) -> None:
    known = sorted(set(rows["measure"]))
    if name not in known:
        raise ValueError(f"leaderboard: expected a measure of {', '.join(known)}, got {name!r}")


def _entries(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]


def _rows(path: Path) -> pd.DataFrame:
    rows = read_leaderboard(path)
    if not len(rows):
        raise ValueError(f"{path}: expected evaluations, got none: `python -m stages.evaluate`")
    return rows


def _add(options: argparse.Namespace, path: Path) -> int:
    return record(
        options.name,
        options.checkpoint,
        manifest=read_manifest(options.manifest),
        metrics=read_result(options.folder / "metrics.json"),
        params=load("evaluate", EvaluateParams),
        cost=Cost(**read_result(options.folder / "metrics.json").get("model", {})),
        path=path,
    )


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stages.leaderboard", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--file", type=Path, help="leaderboard of another project")
    parser.add_argument("--sort", help="measure to sort by, as abs_rel")
    parser.add_argument("--source", help="shown alone")
    commands = parser.add_subparsers(dest="command")
    wide = commands.add_parser("wide", help="one table over sources")
    wide.add_argument("columns", nargs="+", help="<kind>/<source>/<measure>")
    add = commands.add_parser("add", help="take in an evaluation that is there already")
    add.add_argument("name", help="of the model")
    for name, says in (
        ("manifest", "that it was evaluated on"),
        ("checkpoint", "the model"),
        ("folder", "of the evaluation"),
    ):
        add.add_argument(name, type=Path, help=says)
    compare = commands.add_parser("compare", help="two evaluations, image by image")
    compare.add_argument("one", type=Path, help="folder of an evaluation")
    compare.add_argument("other", type=Path, help="folder of another")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run("leaderboard", main, sys.argv[1:])
