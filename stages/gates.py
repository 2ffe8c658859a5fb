"""Runs the expectations of a gate in Great Expectations and turns the results into verdicts."""

import logging
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from dav2.data.files import write_json

FOUND = Path(".work/gates")
"""Where every verdict is copied to: DVC drops the outputs of a stage that fails."""
DATA_DOCS = Path(".work/data_docs")
CONTEXTS = Path(".work/gx")
NUM_OFFENDING = 5

logger = logging.getLogger(__name__)
# On import it reports what it registers, then every run and every page.
logging.getLogger("great_expectations").setLevel(logging.ERROR)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold."""

    says: str
    """What must hold, as a sentence."""
    table: str
    """Which table it is about."""
    expectation: Any
    """An expectation of Great Expectations; its severity `critical` blocks, `warning` reports."""
    verdicts: tuple[str, ...] = ("",)
    """Which verdicts it belongs to; one without a name for a gate that gives one."""


def validate(
    gate: str, tables: Mapping[str, pd.DataFrame], checks: Sequence[Check]
) -> dict[str, dict[str, Any]]:
    """Evaluates all checks in one go and leaves browsable Data Docs.

    The Data Docs lie in `.work/data_docs/<gate>` and open without a network.

    Args:
        gate: Name of the gate.
        tables: What the checks are about; a column `sample_id` names the rows.
        checks: What must hold.

    Returns:
        A verdict for each name in `Check.verdicts`: `gate`, `verdict`, `success` (False if a
        critical expectation failed), `num_warnings` and `expectations`, in the order of the checks.
        Nothing in it varies from run to run.
    """
    results = _results(gate, tables, checks)
    names = dict.fromkeys(name for check in checks for name in check.verdicts)
    verdicts = {}
    for name in names:
        findings = [
            _finding(check, result)
            for check, result in zip(checks, results, strict=True)
            if name in check.verdicts
        ]
        failed = [finding["severity"] for finding in findings if not finding["success"]]
        verdicts[name] = {
            "gate": gate,
            "verdict": name,
            "success": "critical" not in failed,
            "num_warnings": failed.count("warning"),
            "expectations": findings,
        }
    return verdicts


def record(gate: str, verdicts: Mapping[str, dict[str, Any]]) -> bool:
    """Keeps verdicts in `.work/gates` and logs what failed; returns whether all let the data pass.

    Args:
        gate: Name of the gate; a verdict's file is `<gate>.json` or `<gate>/<verdict>.json`.
        verdicts: As `validate` returns them.
    """
    for name, verdict in verdicts.items():
        write_json(verdict, FOUND / (f"{gate}/{name}.json" if name else f"{gate}.json"))
    for verdict in verdicts.values():
        for finding in verdict["expectations"]:
            if not finding["success"]:
                level = logging.ERROR if finding["severity"] == "critical" else logging.WARNING
                logger.log(level, "%s", _failure_text(gate, verdict["verdict"], finding))
    passed = all(verdict["success"] for verdict in verdicts.values())
    num_warnings = sum(verdict["num_warnings"] for verdict in verdicts.values())
    num_checks = sum(len(verdict["expectations"]) for verdict in verdicts.values())
    logger.log(
        logging.INFO if passed else logging.ERROR,
        "gate %s %s: %d expectations, %d warnings; details: %s",
        gate,
        "passed" if passed else "FAILED",
        num_checks,
        num_warnings,
        DATA_DOCS / gate / "index.html",
    )
    return passed


def _results(gate: str, tables: Mapping[str, pd.DataFrame], checks: Sequence[Check]) -> list[Any]:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx

    shutil.rmtree(CONTEXTS / gate, ignore_errors=True)
    shutil.rmtree(DATA_DOCS / gate, ignore_errors=True)
    (CONTEXTS / gate).mkdir(parents=True)
    context = gx.get_context(mode="file", project_root_dir=str(CONTEXTS / gate))
    context.variables.progress_bars = {"globally": False}
    site = {
        "class_name": "SiteBuilder",
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "store_backend": {
            "class_name": "TupleFilesystemStoreBackend",
            "base_directory": str((DATA_DOCS / gate).resolve()),
        },
    }
    context.add_data_docs_site(site_name="offline", site_config=site)
    context.delete_data_docs_site("local_site")
    frames = context.data_sources.add_or_update_pandas("tables")
    results: list[Any] = [None] * len(checks)
    for table, frame in tables.items():
        suite = gx.ExpectationSuite(table)
        for index, check in enumerate(checks):
            if check.table == table:
                check.expectation.meta = {"check": index}
                check.expectation.notes = check.says
                suite.add_expectation(check.expectation)
        batch = frames.add_dataframe_asset(table).add_batch_definition_whole_dataframe("all")
        definition = gx.ValidationDefinition(
            name=table, data=batch, suite=context.suites.add(suite)
        )
        run = context.validation_definitions.add(definition).run(
            batch_parameters={"dataframe": frame},
            result_format={
                "result_format": "COMPLETE",
                "unexpected_index_column_names": ["sample_id"],
            },
        )
        for result in run.results:
            results[result.expectation_config.meta["check"]] = result
    context.build_data_docs(site_names=["offline"])
    _take_offline(DATA_DOCS / gate)
    return results


def _take_offline(site: Path) -> None:
    """Removes from Data Docs whatever would be fetched, the vendor's logo with its beacon too."""
    for page in sorted(site.rglob("*.html")):
        text = page.read_text(encoding="utf-8")
        text = re.sub(r"<script\b.*?</script>", "", text, flags=re.DOTALL)
        text = re.sub(r"<(link|img)\b[^>]*https?://[^>]*>", "", text)
        text = re.sub(r"url\(['\"]?https?://[^)]*\)", "none", text)
        text = re.sub(r"\bhref=\"https?://[^\"]*\"", "", text)
        page.write_text(text.replace("</head>", f"{_STYLE}</head>", 1), encoding="utf-8")


def _finding(check: Check, result: Any) -> dict[str, Any]:
    """Returns what a person and a report need of one result, without times and ids of runs."""
    configuration = result.expectation_config
    values = {key: configuration.kwargs.get(key) for key in ("min_value", "max_value", "mostly")}
    seen, observed, offending = _seen(result)
    return {
        "says": check.says,
        "table": check.table,
        "column": configuration.kwargs.get("column"),
        "expectation": configuration.type,
        "severity": configuration.severity.value,
        "limit": _limit(configuration.type, configuration.kwargs),
        "bounds": {key: value for key, value in values.items() if value is not None},
        "seen": seen,
        "observed": observed,
        "offending": offending,
        "success": bool(result.success),
    }


def _seen(result: Any) -> tuple[str, float | None, list[dict[str, Any]]]:
    """Returns what was seen as text and as a number, and the first samples that offend."""
    values = result.result
    if "observed_value" in values:
        observed = _rounded(values["observed_value"])
        return ("nothing" if observed is None else f"{observed:g}"), observed, []
    if "unexpected_count" not in values:
        messages = sorted(
            problem["exception_message"] for problem in result.exception_info.values()
        )
        return f"could not be evaluated: {messages[0].splitlines()[0]}", None, []
    failing, measured = (
        values["unexpected_count"],
        values["element_count"] - values["missing_count"],
    )
    column = result.expectation_config.kwargs["column"]
    offending = [
        {"sample_id": str(row["sample_id"]), "value": _rounded(row.get(column))}
        for row in values["unexpected_index_list"]
    ]
    offending.sort(key=lambda entry: str(entry["sample_id"]))
    share = failing / measured if measured else 0.0
    text = f"{failing} of {measured} rows fail" + (f" ({share:.2%})" if failing else "")
    return text, _rounded(share), offending[:NUM_OFFENDING]


def _limit(kind: str, kwargs: Mapping[str, Any]) -> str:
    lower, upper = kwargs.get("min_value"), kwargs.get("max_value")
    if "value_set" in kwargs:
        text = " or ".join(str(value).lower() for value in kwargs["value_set"])
    elif kind.endswith("to_be_unique"):
        text = "no value twice"
    elif lower is not None and upper is not None:
        text = f"{lower:g} to {upper:g}"
    elif lower is not None:
        text = f"{'more than' if kwargs.get('strict_min') else 'at least'} {lower:g}"
    elif upper is not None:
        text = f"{'less than' if kwargs.get('strict_max') else 'at most'} {upper:g}"
    else:
        text = kind.removeprefix("expect_").replace("_", " ")
    mostly = kwargs.get("mostly", 1.0)
    return text if mostly == 1.0 else f"{text} in at least {mostly:.4g} of the rows"


def _rounded(value: Any) -> Any:
    """Returns a plain value that JSON holds: numbers with six digits, null for NaN."""
    if hasattr(value, "item"):
        value = value.item()  # of NumPy
    if value is None or isinstance(value, bool | int | str):
        return value
    return None if pd.isna(value) else float(f"{value:.6g}")


def _failure_text(gate: str, verdict: str, finding: Mapping[str, Any]) -> str:
    name = f"gate {gate} ({verdict})" if verdict else f"gate {gate}"
    lines = [
        f"{name}: {finding['severity']}: {finding['says']}",
        f"  limit: {finding['limit']}",
        f"  seen:  {finding['seen']}",
    ]
    if finding["offending"]:
        pairs = (f"{entry['sample_id']} ({entry['value']})" for entry in finding["offending"])
        lines.append(f"  first: {', '.join(pairs)}")
    return "\n".join(lines)


_STYLE = """<style>
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 0 auto; padding: 1rem }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 }
th, td { border: 1px solid #8886; padding: .3rem .6rem; text-align: left; vertical-align: top }
nav ul, .breadcrumb { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .8rem }
.badge { background: #8883; border-radius: .3rem; padding: 0 .3rem }
.fa-check-circle::before { content: "holds"; color: #1a7f4b }
.fa-times::before { content: "fails"; color: #b3261e }
.fa-exclamation-triangle::before { content: "error"; color: #b3261e }
footer { display: none }
</style>
"""
