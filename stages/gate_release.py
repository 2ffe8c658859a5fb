"""Judges the models against trivial baselines and their controls; never stops the run."""

import json
import logging
import sys
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import pandas as pd
from pydantic import Field

from dav2.data.files import write_json
from stages.gates import Check, record, validate
from stages.matrix import MatrixParams
from stages.params import Params, load
from stages.program import run
from stages.tracking import recorded
from stages.withdrawn import remove_withdrawn

Rival = Literal["constant", "ramp", "row_mean", "pixel_mean", "control"]


class Rule(Params):
    """One thing a released model must be better at than others."""

    models: Annotated[tuple[str, ...], Field(min_length=1)]
    """Which models, as shell patterns: `student-*-pseudo`."""
    measures: Annotated[tuple[str, ...], Field(min_length=1)]
    """Paths into `metrics.json`: `wild_eval/pair_accuracy`."""
    better: Literal["higher", "lower"]
    against: Annotated[tuple[Rival, ...], Field(min_length=1)]
    """Trivial baselines; `control` is the student of synthetic images of the same encoder."""
    margin: float
    """By how much it must be better than the best of them."""
    severity: Literal["critical", "warning"]


class GateReleaseParams(Params):
    """What decides whether models may be promoted."""

    rules: Annotated[tuple[Rule, ...], Field(min_length=1)]


def main(evaluation: Path, verdict: Path) -> None:
    """Writes the verdict on all models of params.yaml; a failed one is a result, not an error.

    Folders of `evaluation` whose model is no longer in params.yaml are deleted first: DVC depends
    on the whole folder.

    Args:
        evaluation: Folder with `<model>/metrics.json` of models and of trivial baselines.
        verdict: File to write.

    Raises:
        SystemExit: With a line, if the parameters do not fit or an evaluation is missing.
    """
    try:
        with recorded("gate_release"):
            params = load("gate_release", GateReleaseParams)
            models = load("matrix", MatrixParams).models
            trivial = {f"trivial-{rival}" for rival in get_args(Rival) if rival != "control"}
            remove_withdrawn(evaluation, {*models, *trivial})
            metrics = {
                folder.name: json.loads((folder / "metrics.json").read_bytes())
                for folder in sorted(evaluation.iterdir())
                if folder.is_dir() and not folder.name.startswith(".")
            }
            missing = sorted(set(models) - set(metrics))
            if missing:
                raise FileNotFoundError(
                    f"{evaluation}: expected an evaluation of every model, got none of {missing[0]}"
                )
            table, checks = comparisons(params, models, metrics)
            found = validate("release", {"models": table}, checks)
            record("release", found)
            write_json(found[""], verdict)
    except (ValueError, OSError) as error:
        raise SystemExit(f"gate_release: {error}") from None


def comparisons(
    params: GateReleaseParams, models: tuple[str, ...], metrics: Mapping[str, Any]
) -> tuple[pd.DataFrame, list[Check]]:
    """Returns one row with every measure that a rule names, and what must hold of it.

    A measure that a model or all of its rivals lack fails its rule: a policy that cannot be applied
    must not pass.

    Args:
        params: The rules.
        models: Names of the models judged.
        metrics: Content of `metrics.json`, of models and trivial baselines, by name.

    Raises:
        ValueError: If a rule speaks of no model.
    """
    import great_expectations.expectations as gxe

    row: dict[str, Any] = {"sample_id": "models"}
    checks = []
    for rule in params.rules:
        for name in _chosen(rule, models):
            for measure in rule.measures:
                rivals = {rival: _rival(name, rival) for rival in rule.against}
                known = {r: value_at(metrics.get(f, {}), measure) for r, f in rivals.items()}
                best, limit = _best(known, rule)
                column = f"{name} {measure} against {' '.join(rule.against)}"
                row[column] = value_at(metrics[name], measure) if best else None
                side = "min_value" if rule.better == "higher" else "max_value"
                strictly = "strict_min" if rule.better == "higher" else "strict_max"
                expectation = gxe.ExpectColumnMeanToBeBetween(
                    column=column, severity=rule.severity, **{side: limit, strictly: True}
                )
                rival = best.replace("_", " ") or "its rivals"
                says = f"{name} beats {rival} in {measure}; {rule.better} is better."
                checks.append(Check(says, "models", expectation))
    return pd.DataFrame([row]).astype(dict.fromkeys(list(row)[1:], float)), checks


def value_at(metrics: Mapping[str, Any], measure: str) -> float | None:
    """Returns the number at a path (`wild_eval/delta1`) of `metrics.json` or None."""
    value: Any = metrics
    for key in measure.split("/"):
        value = value.get(key) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) else None


def _chosen(rule: Rule, models: tuple[str, ...]) -> list[str]:
    for pattern in rule.models:
        if not any(fnmatchcase(name, pattern) for name in models):
            raise ValueError(
                f"params.yaml: gate_release: expected rules for models of the matrix, "
                f"got {pattern!r}, which is none of {', '.join(models)}"
            )
    return [name for name in models if any(fnmatchcase(name, entry) for entry in rule.models)]


def _rival(model: str, rival: Rival) -> str:
    """Returns the name of a rival's evaluation; none for the control of what has none."""
    if rival != "control":
        return f"trivial-{rival}"
    return model.replace("-pseudo", "-synthetic") if "-pseudo" in model else ""


def _best(known: Mapping[Rival, float | None], rule: Rule) -> tuple[str, float]:
    """Returns the name of the best rival and the limit that follows; no name without a value."""
    values = {name: value for name, value in known.items() if value is not None}
    if not values:
        return "", 0.0
    sign = 1 if rule.better == "higher" else -1
    name = max(values, key=lambda rival: sign * values[rival])
    return name, round(values[name] + sign * rule.margin, 6)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run("gate_release", main, *(Path(argument) for argument in sys.argv[1:]))
