"""Writes what the report shows beside its page, from facts of runs: latency, and the champions.

The page holds nothing that varies by run. A file beside it does, and the page shows what that holds
where it exists; git and DVC know nothing of it. It is a page too, which the report opens in a frame
and which sends what it holds: of a script that is missing browsers log an error, of a frame not.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dav2.data.files import written_whole
from stages.champions import standings
from stages.report_results import Model
from stages.report_tables import cost_chart
from stages.report_template import render
from stages.tracking import FACTS, RUNS

BESIDE = Path(".work/report_facts.html")

logger = logging.getLogger(__name__)


def write_beside(models: Sequence[Model], evaluation: Path, *, source: str | None) -> None:
    """Writes `.work/report_facts.html`: parts of the page by the name of their place, as HTML.

    It takes the facts of runs from `run_facts.js`, which every stage writes anew.

    Where it cannot be written or made, an error is logged: the page stands without it.

    Args:
        models: As the page shows them.
        evaluation: Folder with a folder a model.
        source: Evaluation source of the chart; None: no chart.
    """
    try:
        parts = {"champion": _champions(evaluation), "latency": _latency(models, source)}
        with written_whole(BESIDE) as path:
            content = {"facts": FACTS.name, "parts": parts}
            path.write_text(render("report_facts.html.jinja", content), encoding="utf-8")
    except (OSError, ValueError) as error:
        logger.error("%s: expected to write what stands beside the page, got %s", BESIDE, error)


def latencies_ms(models: Sequence[Model]) -> dict[str, float]:
    """Returns what predicting one image took when each model was last evaluated here, by name."""
    runs = {entry["stage"]: entry for entry in _runs()}
    key = "prediction_seconds_per_image"
    return {
        model.name: 1000 * float(entry[key])
        for model in models
        if (entry := runs.get(f"evaluate@{model.name}", {})).get(key)
    }


def _runs() -> list[dict[str, Any]]:
    """Returns the lines of `.work/runs.jsonl`, oldest first; one that a kill tore is left out."""
    found = []
    for line in RUNS.read_bytes().splitlines() if RUNS.is_file() else ():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and "stage" in entry:
            found.append(entry)
    return found


def _champions(evaluation: Path) -> str:
    found = standings(evaluation)
    return render("champion.html.jinja", {"standings": found}) if found else ""


def _latency(models: Sequence[Model], source: str | None) -> str:
    if source is None:
        return ""
    return cost_chart(models, source, latencies_ms(models), title="milliseconds per image")
