"""Stops labels that are missing, degenerate or drifting before a student learns them."""

import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64
from pydantic import NonNegativeInt, PositiveInt

from dav2.data.files import write_json
from stages.gates import Check, record, validate
from stages.label_limits import LabelLimitsParams, Share
from stages.params import Params, load
from stages.program import run
from stages.tracking import recorded

_DRIFTING = ("median_place", "ramp_correlation", "zero_fraction")
_INCONSISTENCIES = ("flip_inconsistency", "scale_inconsistency")
_NUM_EARLIER = 10_000  # of labels: more tell no more, and there may be millions
# Two samples of n and m numbers of one distribution are farther apart than this times
# sqrt(1 / n + 1 / m) once in a thousand times (Smirnov's limit: sqrt(-ln(0.001 / 2) / 2)).
_CHANCE = 1.95


class GateLabelsParams(Params):
    """What pseudo-labels must be like."""

    min_labels: PositiveInt
    min_coverage: Share
    """Share of a source's photographs that got a label; one may lack it in a source of any size,
    if others have theirs."""
    labels: LabelLimitsParams
    """Of single labels; the first shards of a labelling must keep them too."""
    max_drift: Share
    """Largest Kolmogorov-Smirnov distance between a source's labels and all other sources'."""
    max_shards_set_aside: NonNegativeInt
    """Shards that failed three times and so have no label; labelling again tries them again."""
    max_shard_drift: Share
    """The same between a shard's labels and those of its source's earlier shards, less what chance
    gives once in a thousand times."""


def main(labels: Path, verdict: Path) -> None:
    """Judges a folder of labels and writes the verdict.

    Args:
        labels: Folder with `manifest.parquet`, `quarantine.parquet` and `summary.json`.
        verdict: File to write; not written if a critical expectation fails.

    Raises:
        SystemExit: With a line, if the parameters or files do not fit; with status 1 after the
            failures were logged, if a critical expectation fails.
    """
    try:
        with recorded("gate_labels"):
            params = load("gate_labels", GateLabelsParams)
            rows = _with_place(pd.read_parquet(labels / "manifest.parquet"))
            refused = pd.read_parquet(labels / "quarantine.parquet")
            tables = {
                "labels": rows,
                "sources": source_table(rows, refused),
                "shards": shard_table(rows),
                "labelling": _labelling_table(labels / "summary.json"),
            }
            checks = [*_checks(params, rows), _set_aside_check(params)]
            found = validate("labels", tables, checks)
            if not record("labels", found):
                raise SystemExit(1)
            write_json(found[""], verdict)
    except (ValueError, OSError) as error:
        raise SystemExit(f"gate_labels: {error}") from None


def source_table(rows: pd.DataFrame, refused: pd.DataFrame) -> pd.DataFrame:
    """Returns one row a source: `judged_coverage`, `drift` and the means of both inconsistencies.

    Judged coverage is the share of photographs with a label; null where just one lacks it and
    others do not, which is allowed.
    Drift is the largest Kolmogorov-Smirnov distance, over statistics that do not depend on a
    label's scale, between the source and all others together; null with one source.

    Args:
        rows: Labelled samples, with `median_place`.
        refused: Samples without a label.
    """
    entries = []
    for name in sorted({*rows["source"], *refused["source"]}):
        own, others = rows[rows["source"] == name], rows[rows["source"] != name]
        num_refused = int((refused["source"] == name).sum())
        let_off = len(own) > 0 and num_refused == 1
        both = len(own) and len(others)
        entries.append(
            {
                "sample_id": name,
                "judged_coverage": np.nan if let_off else len(own) / (len(own) + num_refused),
                **{name: own[name].mean() for name in _INCONSISTENCIES},
                "drift": max(distance(own[c], others[c]) for c in _DRIFTING) if both else np.nan,
            }
        )
    return pd.DataFrame(entries)


def shard_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns one row a shard: its name as `sample_id`, and `shard_drift`.

    A shard holds whatever photographs of its source have hashed ids that begin alike, so its labels
    should differ from those of the source's other shards by chance alone. Drift is the largest
    Kolmogorov-Smirnov distance, over statistics that do not depend on a label's scale, from the
    shards before it by name (without those that drift, and of the others the first 10,000 labels),
    less what chance gives once in a thousand times, and at least 0. Null for a first shard.

    Args:
        rows: Labelled samples, with `median_place`.
    """
    entries = []
    for _, own in rows.groupby("source", sort=True):
        earlier = own.iloc[:0]
        for name, shard in own.groupby("shard", sort=True):
            drift = 0.0
            if len(earlier):
                largest = max(distance(shard[c], earlier[c]) for c in _DRIFTING)
                drift = max(0.0, largest - _CHANCE * (1 / len(shard) + 1 / len(earlier)) ** 0.5)
            is_first = earlier.empty
            entries.append({"sample_id": str(name), "shard_drift": np.nan if is_first else drift})
            if drift == 0 and len(earlier) < _NUM_EARLIER:
                earlier = pd.concat([earlier, shard])[:_NUM_EARLIER]
    return pd.DataFrame(entries, columns=["sample_id", "shard_drift"])


def distance(one: "pd.Series[float]", other: "pd.Series[float]") -> float:
    """Returns the Kolmogorov-Smirnov distance of two samples of numbers, 0 to 1."""
    places = np.unique(np.concatenate([one, other]))
    return float(np.abs(_share_up_to(places, one) - _share_up_to(places, other)).max())


def _share_up_to(places: Float64[np.ndarray, "N"], values: "pd.Series[float]") -> Any:
    return np.searchsorted(np.sort(values.to_numpy()), places, side="right") / len(values)


def _with_place(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns rows with `median_place`: where the median lies between a label's ends, 0 to 1."""
    span = (rows["label_max"] - rows["label_min"]).replace(0.0, np.nan)
    return rows.assign(median_place=((rows["label_p50"] - rows["label_min"]) / span).fillna(0.0))


def _labelling_table(summary: Path) -> pd.DataFrame:
    num_set_aside = json.loads(summary.read_bytes())["num_shards_set_aside"]
    return pd.DataFrame({"sample_id": ["all shards"], "num_set_aside": [num_set_aside]})


def _set_aside_check(params: GateLabelsParams) -> Check:
    import great_expectations.expectations as gxe

    few = gxe.ExpectColumnValuesToBeBetween(
        column="num_set_aside", max_value=params.max_shards_set_aside, severity="critical"
    )
    return Check("Hardly a shard was set aside after three failures.", "labelling", few)


def _checks(params: GateLabelsParams, rows: pd.DataFrame) -> list[Check]:
    import great_expectations.expectations as gxe

    limits = params.labels
    between, in_set = gxe.ExpectColumnValuesToBeBetween, gxe.ExpectColumnValuesToBeInSet
    enough = gxe.ExpectTableRowCountToBeBetween(min_value=params.min_labels, severity="critical")
    flat = in_set(
        column="degenerate",
        value_set=[False],
        mostly=1 - limits.max_degenerate_fraction,
        severity="critical",
    )
    zero = between(
        column="zero_fraction",
        max_value=limits.max_zero_fraction,
        mostly=limits.mostly,
        severity="critical",
    )
    ramp = between(
        column="ramp_correlation",
        max_value=limits.max_ramp_correlation,
        mostly=limits.mostly,
        severity="warning",
    )
    ramp_text = "Labels say more than that lower is closer (correlation with the row)."
    return [
        Check("There are enough labels.", "labels", enough),
        Check("Labels are not flat.", "labels", flat),
        Check("Labels are not mostly zero.", "labels", zero),
        Check(ramp_text, "labels", ramp),
        *_source_checks(params),
        *_consistency_checks(params.labels, rows),
    ]


def _source_checks(params: GateLabelsParams) -> list[Check]:
    import great_expectations.expectations as gxe

    between = gxe.ExpectColumnValuesToBeBetween
    coverage = between(column="judged_coverage", min_value=params.min_coverage, severity="critical")
    drift = between(column="drift", max_value=params.max_drift, severity="warning")
    shard_drift = between(
        column="shard_drift", max_value=params.max_shard_drift, severity="warning"
    )
    return [
        Check("Nearly every photograph of each source got a label.", "sources", coverage),
        Check("Labels of one source are like those of the others.", "sources", drift),
        Check("Labels of one shard are like those of the shards before it.", "shards", shard_drift),
    ]


def _consistency_checks(limits: LabelLimitsParams, rows: pd.DataFrame) -> list[Check]:
    """Returns the checks of what was measured; the expectations fail on columns of nothing."""
    import great_expectations.expectations as gxe

    largest = {
        "flip_inconsistency": limits.max_flip_inconsistency,
        "scale_inconsistency": limits.max_scale_inconsistency,
    }
    sentences = {
        "flip_inconsistency": "A mirrored image gets a mirrored label.",
        "scale_inconsistency": "An image of another resolution gets the same label.",
    }
    return [
        Check(
            sentences[name],
            "sources",
            gxe.ExpectColumnValuesToBeBetween(
                column=name, max_value=largest[name], severity="warning"
            ),
        )
        for name in _INCONSISTENCIES
        if rows[name].notna().any()
    ]


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run("gate_labels", main, *(Path(argument) for argument in sys.argv[1:]))
