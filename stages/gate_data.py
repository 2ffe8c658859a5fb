"""Lets only good samples of the sources named in params.yaml pass, as one manifest a role."""

import logging
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from dav2.data.duplicates import Hashes, nearest, parse_hashes
from dav2.data.files import write_json, written_whole
from dav2.data.manifest import read_manifest, write_manifest
from stages.gate_data_checks import (
    SourceTable,
    count_check,
    depth_checks,
    image_checks,
    role_checks,
    source_checks,
)
from stages.gate_data_params import GateDataParams
from stages.gates import Check, record, validate
from stages.params import load
from stages.program import run
from stages.sources import ROLES, Role, SourceParams, load_sources
from stages.tracking import recorded
from stages.withdrawn import remove_withdrawn

_TRAINING: tuple[Role, ...] = ("labelled", "unlabelled", "metric_indoor", "metric_outdoor")


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
        checks += role_checks(params, role)
        if names := [name for name, source in sources.items() if role in source.roles]:
            tables[f"{role} sources"] = _source_table(names, rows, quarantined)
            checks += source_checks(params, role)
        for split, fewest in params.min_samples[role].splits.items():
            tables[f"{role} {split}"] = tables[role][rows["split"] == split]
            checks.append(count_check(role, f"{role} {split}", fewest, f"of split {split} "))
    for table, rows in _source_tables(sources, manifests):
        tables[table.name] = _with_facts(rows, params.maps_of(table.source).edge_slack)
        checks += image_checks(params, table)
        checks += depth_checks(params, table) if table.has_depth else ()
    return roles, tables, checks


def _source_tables(
    sources: Mapping[str, SourceParams], manifests: Mapping[str, pd.DataFrame]
) -> Iterator[tuple[SourceTable, pd.DataFrame]]:
    """Yields each source's rows, apart where its roles take other splits."""
    for name, source in sources.items():
        served = [role for role in ROLES if role in source.roles]
        for splits in dict.fromkeys(source.roles[role] for role in served):
            roles = tuple(role for role in served if source.roles[role] == splits)
            rows = manifests[name][manifests[name]["split"].isin(splits)]
            has_depth = bool(rows["depth"].notna().any())
            title = f"{name} ({', '.join(splits)})"
            yield SourceTable(title, roles, name, source.domain, has_depth), rows


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
    included (it chooses which weights are kept); for another role the rows of the split `val` from
    all others. Images are compared by their own bytes: one photograph has the
    same hash whichever reader lists it, with or without depth.
    """
    judged = role == "evaluation"
    seen = training if judged else rows[rows["split"] != "val"]
    held_out = pd.Series(judged, rows.index) | (rows["split"] == "val")
    return rows.assign(
        looks_like_another=rows["nearest_bits"].notna(),
        image_in_training=held_out & rows["image_hash"].isin(seen["image_hash"]),
        look_in_training=held_out & _looks_like(rows, seen),
        scene_in_training=held_out & _scenes(rows).isin(_scenes(seen)),
    )


def _looks_like(rows: pd.DataFrame, others: pd.DataFrame) -> "pd.Series[bool]":
    """Returns which images look like one of another scene; rows without a hash look like none."""
    compared = pd.concat([rows, others]).dropna(subset="perceptual_hash")
    groups, _ = pd.factorize(_scenes(compared))
    values = parse_hashes(compared["perceptual_hash"].tolist())
    count = int(rows["perceptual_hash"].notna().sum())
    _, place = nearest(
        Hashes(values[:count], groups[:count]), Hashes(values[count:], groups[count:])
    )
    alike = pd.Series(False, rows.index)
    alike[compared.index[:count][place >= 0]] = True
    return alike


def _with_facts(rows: pd.DataFrame, edge_slack: float) -> pd.DataFrame:
    """Returns one source's rows with what its checks compare; null where it cannot be told."""
    sizes = rows["width"].astype("string") + " x " + rows["height"].astype("string")
    agreement, moved = rows["edge_agreement"], rows["edge_agreement_moved"]
    return rows.assign(
        short_side_px=rows[["width", "height"]].min(axis=1),
        has_common_size=sizes == (sizes.mode().iloc[0] if len(sizes) else ""),
        aligned=(agreement >= moved - edge_slack).astype(object).where(agreement.notna(), None),
        shows_sky=(rows["sky_fraction"] > 0)
        .astype(object)
        .where(rows["sky_fraction"].notna(), None),
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
