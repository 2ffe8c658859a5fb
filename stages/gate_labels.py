"""Stops labels that are missing, degenerate or drifting before a student learns them."""

import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from jaxtyping import Float64
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from dav2.data.files import write_json
from stages.gates import Check, record, validate
from stages.params import Params, load
from stages.program import run
from stages.tracking import recorded

Share = Annotated[float, Field(ge=0, le=1)]

_DRIFTING = ("median_place", "ramp_correlation", "zero_fraction")


class GateLabelsParams(Params):
    """What pseudo-labels must be like."""

    min_labels: PositiveInt
    min_coverage: Share
    """Share of a source's photographs that got a label; one may lack it in a source of any size,
    if others have theirs."""
    max_degenerate_fraction: Share
    """Share of labels that are flat, so that no loss could learn from them."""
    max_zero_fraction: Share
    """Largest share of pixels that are exactly 0 in a label (a dead or saturated head)."""
    max_ramp_correlation: Annotated[float, Field(ge=0, le=1)]
    """Largest correlation of a label with the row number: above it says only "lower is closer"."""
    mostly: Annotated[float, Field(gt=0, le=1)]
    """Share of labels that must keep the two limits above."""
    max_flip_inconsistency: PositiveFloat
    """Mean change of a label, as a share of its range, when its image is mirrored."""
    max_drift: Share
    """Largest Kolmogorov-Smirnov distance between a source's labels and all other sources'."""
    max_shards_set_aside: NonNegativeInt
    """Shards that failed three times and so have no label; labelling again tries them again."""


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
                "shards": _shard_table(labels / "summary.json"),
            }
            checks = [*_checks(params, rows), _shard_check(params)]
            found = validate("labels", tables, checks)
            if not record("labels", found):
                raise SystemExit(1)
            write_json(found[""], verdict)
    except (ValueError, OSError) as error:
        raise SystemExit(f"gate_labels: {error}") from None


def source_table(rows: pd.DataFrame, refused: pd.DataFrame) -> pd.DataFrame:
    """Returns one row a source: `judged_coverage`, `flip_inconsistency` (mean) and `drift`.

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
                "flip_inconsistency": own["flip_inconsistency"].mean(),
                "drift": max(distance(own[c], others[c]) for c in _DRIFTING) if both else np.nan,
            }
        )
    return pd.DataFrame(entries)


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


def _shard_table(summary: Path) -> pd.DataFrame:
    num_set_aside = json.loads(summary.read_bytes())["num_shards_set_aside"]
    return pd.DataFrame({"sample_id": ["all shards"], "num_set_aside": [num_set_aside]})


def _shard_check(params: GateLabelsParams) -> Check:
    import great_expectations.expectations as gxe

    few = gxe.ExpectColumnValuesToBeBetween(
        column="num_set_aside", max_value=params.max_shards_set_aside, severity="critical"
    )
    return Check("Hardly a shard was set aside after three failures.", "shards", few)


def _checks(params: GateLabelsParams, rows: pd.DataFrame) -> list[Check]:
    import great_expectations.expectations as gxe

    between, in_set = gxe.ExpectColumnValuesToBeBetween, gxe.ExpectColumnValuesToBeInSet
    enough = gxe.ExpectTableRowCountToBeBetween(min_value=params.min_labels, severity="critical")
    flat = in_set(
        column="degenerate",
        value_set=[False],
        mostly=1 - params.max_degenerate_fraction,
        severity="critical",
    )
    zero = between(
        column="zero_fraction",
        max_value=params.max_zero_fraction,
        mostly=params.mostly,
        severity="critical",
    )
    ramp = between(
        column="ramp_correlation",
        max_value=params.max_ramp_correlation,
        mostly=params.mostly,
        severity="warning",
    )
    ramp_text = "Labels say more than that lower is closer (correlation with the row)."
    return [
        Check("There are enough labels.", "labels", enough),
        Check("Labels are not flat.", "labels", flat),
        Check("Labels are not mostly zero.", "labels", zero),
        Check(ramp_text, "labels", ramp),
        *_source_checks(params, has_flips=bool(rows["flip_inconsistency"].notna().any())),
    ]


def _source_checks(params: GateLabelsParams, *, has_flips: bool) -> list[Check]:
    import great_expectations.expectations as gxe

    between = gxe.ExpectColumnValuesToBeBetween
    coverage = between(column="judged_coverage", min_value=params.min_coverage, severity="critical")
    drift = between(column="drift", max_value=params.max_drift, severity="warning")
    flip = between(
        column="flip_inconsistency", max_value=params.max_flip_inconsistency, severity="warning"
    )
    checks = [
        Check("Nearly every photograph of each source got a label.", "sources", coverage),
        Check("Labels of one source are like those of the others.", "sources", drift),
        Check("A mirrored image gets a mirrored label.", "sources", flip),
    ]
    return checks if has_flips else checks[:2]


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run("gate_labels", main, *(Path(argument) for argument in sys.argv[1:]))
