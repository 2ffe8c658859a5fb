"""Stops a teacher that is too weak before it labels anything."""

import json
import logging
import sys
from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import Field, PositiveFloat

from dav2.data.files import write_json
from stages.gates import Check, record, validate
from stages.params import Params, load
from stages.program import run
from stages.tracking import recorded

Share = Annotated[float, Field(ge=0, le=1)]


class GateTeacherParams(Params):
    """What the teacher must reach on its validation split."""

    min_delta1: Share
    """Share of pixels within a factor of 1.25 after alignment."""
    max_abs_rel_inverse: PositiveFloat
    """Mean relative error of inverse depth after alignment."""
    min_pair_accuracy: Share
    """Share of point pairs in right order; half is chance."""


def main(validation: Path, verdict: Path) -> None:
    """Judges the teacher's last validation and writes the verdict.

    Args:
        validation: `validation.json` of the training; its `final` holds the measures.
        verdict: File to write; not written if a critical expectation fails.

    Raises:
        SystemExit: With a line, if the parameters or the file do not fit; with status 1 after the
            failures were logged, if the teacher is too weak.
    """
    try:
        with recorded("gate_teacher"):
            params = load("gate_teacher", GateTeacherParams)
            found = validate("teacher", {"teacher": _table(validation)}, _checks(params))
            if not record("teacher", found):
                raise SystemExit(1)
            write_json(found[""], verdict)
    except (ValueError, OSError) as error:
        raise SystemExit(f"gate_teacher: {error}") from None


def _table(validation: Path) -> pd.DataFrame:
    """Returns the measures as one row."""
    content = json.loads(validation.read_bytes())
    measures = content.get("final")
    if not isinstance(measures, dict):
        raise ValueError(f"{validation}: expected measures under 'final', got {measures!r}")
    return pd.DataFrame([{"sample_id": "teacher", **measures}])


def _checks(params: GateTeacherParams) -> list[Check]:
    import great_expectations.expectations as gxe

    between = gxe.ExpectColumnMeanToBeBetween
    return [
        Check(says, "teacher", expectation)
        for says, expectation in (
            (
                "Most pixels are within a factor of 1.25 (delta1).",
                between(column="delta1", min_value=params.min_delta1, severity="critical"),
            ),
            (
                "Inverse depth is near the truth (AbsRel).",
                between(
                    column="abs_rel_inverse",
                    max_value=params.max_abs_rel_inverse,
                    severity="critical",
                ),
            ),
            (
                "Pairs of points are ordered better than by chance.",
                between(
                    column="pair_accuracy",
                    min_value=params.min_pair_accuracy,
                    severity="critical",
                ),
            ),
        )
    ]


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run("gate_teacher", main, *(Path(argument) for argument in sys.argv[1:]))
