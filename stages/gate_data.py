"""Lets only good samples of the sources named in params.yaml pass, as one manifest a role."""

import logging
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from dav2.data.files import write_json, written_whole
from dav2.data.manifest import read_manifest, write_manifest
from stages.gates import Check, record, validate
from stages.params import Params, load
from stages.program import run
from stages.sources import ROLES, Role, SourceParams, load_sources
from stages.tracking import recorded
from stages.withdrawn import remove_withdrawn

Fraction = Annotated[float, Field(ge=0, le=1)]

_TRAINING: tuple[Role, ...] = ("labelled", "unlabelled", "metric_indoor", "metric_outdoor")


class DepthLimits(Params):
    """Metres between which a domain's depth lies."""

    min_m: PositiveFloat
    """Of the 1st percentile of an image's measured depth without sky."""
    max_m: PositiveFloat
    """Of the 99th percentile."""


class CountLimits(Params):
    """Fewest samples of a role."""

    total: NonNegativeInt
    """Over all splits; 0 allows a role without samples."""
    splits: dict[str, PositiveInt]
    """For single splits."""


class GateDataParams(Params):
    """What data must be like before anything is trained on it."""

    min_samples: dict[Role, CountLimits]
    min_side_px: PositiveInt
    """Of the shorter side of an image."""
    brightness: tuple[Fraction, Fraction]
    """Of the mean luma, 0 black to 1 white."""
    min_contrast: Annotated[float, Field(ge=0)]
    """Of the standard deviation of luma."""
    min_valid_fraction: Fraction
    """Share of a depth map's pixels that must be measured."""
    depth: dict[Literal["indoor", "outdoor", "mixed"], DepthLimits]
    mostly: Annotated[float, Field(gt=0, le=1)]
    """Share of a role's samples that must keep each limit on size, brightness and depth."""
    max_quarantined_fraction: Fraction
    """Share of a source's samples in quarantine above which the gate warns."""
    shared_scenes: Literal["critical", "warning"]
    """What a scene both in a training and in a held-out split means."""


def main(ingest: Path, synthetic: Path, gated: Path, verdicts: Path, labelled: Path) -> None:
    """Checks all sources together and writes one gated manifest and one verdict a role.

    Folders of `ingest` whose source is no longer in params.yaml are deleted first: DVC depends on
    the whole folder, and a withdrawn source must leave no row and no other hash than a fresh clone.
    Nothing is written when a critical expectation fails, except the copies in `.work/gates`.

    Args:
        ingest: Folder with one folder of manifest and quarantine a source.
        synthetic: Folder to write: `manifest.parquet` of role `labelled`.
        gated: Folder to write the other roles' manifests to, `<role>.parquet` each.
        verdicts: Folder to write: `<role>.json` for each other role.
        labelled: File to write: the verdict of role `labelled`, on which the control students
            depend as the others do on that of the labels.

    Raises:
        SystemExit: With a line, if the parameters do not fit or a source was not ingested; with
            status 1 after the failures were logged, if a critical expectation fails.
    """
    try:
        with recorded("gate_data"):
            _gate(load("gate_data", GateDataParams), ingest, synthetic, gated, verdicts, labelled)
    except (ValueError, OSError) as error:
        raise SystemExit(f"gate_data: {error}") from None


def _gate(
    params: GateDataParams,
    ingest: Path,
    synthetic: Path,
    gated: Path,
    verdicts: Path,
    labelled: Path,
) -> None:
    remove_withdrawn(ingest, set(load_sources()))
    roles, tables, checks = gather(ingest, params)
    found = validate("data", tables, checks)
    if not record("data", found):
        raise SystemExit(1)
    with written_whole(synthetic) as folder:
        folder.mkdir()
        write_manifest(roles["labelled"], folder / "manifest.parquet")
    for role in ROLES[1:]:
        with written_whole(gated / f"{role}.parquet") as path:
            write_manifest(roles[role], path)
    with written_whole(verdicts) as folder:
        folder.mkdir()
        for role in ROLES[1:]:
            write_json(found[role], folder / f"{role}.json")
    write_json(found["labelled"], labelled)


def gather(
    ingest: Path, params: GateDataParams
) -> tuple[dict[Role, pd.DataFrame], dict[str, pd.DataFrame], list[Check]]:
    """Returns the rows of every role, the tables that the gate looks at, and what must hold.

    Args:
        ingest: Folder with one folder of manifest and quarantine a source.
        params: The limits.

    Raises:
        FileNotFoundError: If a source was not ingested.
    """
    sources = load_sources()
    manifests = {
        name: read_manifest(ingest / name / "manifest.parquet") for name in sorted(sources)
    }
    refused = {name: len(read_manifest(ingest / name / "quarantine.parquet")) for name in manifests}
    quarantined = {
        name: refused[name] / max(1, refused[name] + len(rows)) for name, rows in manifests.items()
    }
    roles = {role: _rows_of(role, sources, manifests) for role in ROLES}
    training = pd.concat(_filled([roles[role] for role in _TRAINING]))
    tables: dict[str, pd.DataFrame] = {}
    checks: list[Check] = []
    for role, rows in roles.items():
        tables[role] = _with_leaks(role, rows, training)
        checks += _row_checks(params, role)
        if names := [name for name, source in sources.items() if role in source.roles]:
            tables[f"{role} sources"] = _source_table(names, rows, quarantined)
            checks += _source_checks(params, role)
        for split, fewest in params.min_samples[role].splits.items():
            tables[f"{role} {split}"] = tables[role][rows["split"] == split]
            checks.append(_count_check(role, f"{role} {split}", fewest, f"of split {split} "))
        for domain, limits in params.depth.items() if role != "unlabelled" else ():
            inside = [name for name, source in sources.items() if source.domain == domain]
            chosen = rows["source"].isin(inside)
            if chosen.any():
                tables[f"{role} {domain}"] = tables[role][chosen]
                checks += _depth_checks(params, role, domain, limits)
    return roles, tables, checks


def _rows_of(
    role: Role, sources: Mapping[str, SourceParams], manifests: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """Returns the rows of the splits that serve a role, of all sources; maybe none."""
    return pd.concat(
        _filled(
            [
                rows[rows["split"].isin(sources[name].roles.get(role, ()))]
                for name, rows in manifests.items()
            ]
        ),
        ignore_index=True,
    )


def _filled(parts: list[pd.DataFrame]) -> list[pd.DataFrame]:
    """Returns the tables that have rows, or one without: empty ones would decide column types."""
    return [part for part in parts if len(part)] or parts[:1]


def _with_leaks(role: Role, rows: pd.DataFrame, training: pd.DataFrame) -> pd.DataFrame:
    """Returns rows with columns that tell whether a held-out one was seen in training.

    Held out are, for the role `evaluation`, all rows from every row of any other role, validation
    included (it chooses which weights are kept); for another role the rows of other splits than
    `train` from those of `train`. Images are compared by their own bytes: one photograph has the
    same hash whichever reader lists it, with or without depth.
    """
    judged = role == "evaluation"
    seen = training if judged else rows[rows["split"] == "train"]
    held_out = pd.Series(judged, rows.index) | (rows["split"] != "train")
    return rows.assign(
        short_side_px=rows[["width", "height"]].min(axis=1),
        image_in_training=held_out & rows["image_hash"].isin(seen["image_hash"]),
        scene_in_training=held_out & _scenes(rows).isin(_scenes(seen)),
    )


def _row_checks(params: GateDataParams, role: Role) -> Iterator[Check]:
    import great_expectations.expectations as gxe

    in_set, unique = gxe.ExpectColumnValuesToBeInSet, gxe.ExpectColumnValuesToBeUnique
    yield _count_check(role, role, params.min_samples[role].total, "")
    for says, expectation in (
        (
            "Every sample has an id of its own.",
            unique(column="sample_id", severity="critical"),
        ),
        (
            "No two samples hold the same bytes.",
            unique(column="content_hash", severity="warning"),
        ),
        (
            "No sample held out for judging holds the image bytes of a training sample.",
            in_set(column="image_in_training", value_set=[False], severity="critical"),
        ),
        (
            "No scene held out for judging is trained on.",
            in_set(column="scene_in_training", value_set=[False], severity=params.shared_scenes),
        ),
    ):
        yield Check(says, role, expectation, verdict=role)
    lower, upper = params.brightness
    for says, column, least, most, severity in (
        ("Images are large (shorter side).", "short_side_px", params.min_side_px, None, "critical"),
        ("Images are neither black nor white.", "brightness", lower, upper, "warning"),
        ("Images show something.", "contrast", params.min_contrast, None, "warning"),
    ):
        expectation = gxe.ExpectColumnValuesToBeBetween(
            column=column, min_value=least, max_value=most, mostly=params.mostly, severity=severity
        )
        yield Check(says, role, expectation, verdict=role)


def _depth_checks(
    params: GateDataParams, role: Role, domain: str, limits: DepthLimits
) -> Iterator[Check]:
    import great_expectations.expectations as gxe

    between, in_set = gxe.ExpectColumnValuesToBeBetween, gxe.ExpectColumnValuesToBeInSet
    rule: dict[str, Any] = {"mostly": params.mostly, "severity": "critical"}
    for says, expectation in (
        (
            f"Most pixels of {domain} depth maps are measured.",
            between(column="valid_fraction", min_value=params.min_valid_fraction, **rule),
        ),
        (
            f"No {domain} depth map is flat.",
            in_set(column="depth_constant", value_set=[False], **rule),
        ),
        (
            f"Near {domain} depth is in metres (1st percentile).",
            between(column="depth_p01_m", min_value=limits.min_m, **rule),
        ),
        (
            f"Far {domain} depth is in metres (99th percentile).",
            between(column="depth_p99_m", max_value=limits.max_m, **rule),
        ),
    ):
        yield Check(says, f"{role} {domain}", expectation, verdict=role)


def _source_checks(params: GateDataParams, role: Role) -> Iterator[Check]:
    import great_expectations.expectations as gxe

    table = f"{role} sources"
    yield Check(
        "Every source named for the role gives samples.",
        table,
        gxe.ExpectColumnValuesToBeBetween(column="samples", min_value=1, severity="critical"),
        verdict=role,
    )
    yield Check(
        "Few samples of each source are in quarantine.",
        table,
        gxe.ExpectColumnValuesToBeBetween(
            column="quarantined_fraction",
            max_value=params.max_quarantined_fraction,
            severity="warning",
        ),
        verdict=role,
    )


def _count_check(role: Role, table: str, fewest: int, which: str) -> Check:
    import great_expectations.expectations as gxe

    expectation = gxe.ExpectTableRowCountToBeBetween(min_value=fewest, severity="critical")
    return Check(
        f"There are enough samples {which}for this role.", table, expectation, verdict=role
    )


def _source_table(
    names: list[str], rows: pd.DataFrame, quarantined: Mapping[str, float]
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "sample_id": names,
            "samples": [int((rows["source"] == name).sum()) for name in names],
            "quarantined_fraction": [quarantined[name] for name in names],
        }
    )


def _scenes(rows: pd.DataFrame) -> "pd.Series[str]":
    return rows["source"] + "/" + rows["scene"]


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run("gate_data", main, *(Path(argument) for argument in sys.argv[1:]))
