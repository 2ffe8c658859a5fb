"""What a rebuild leaves on Prefect's pages: the drawn graph, the gates' verdicts, the metrics."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from flows.graph import Stage, mermaid

BLOCKED_VERDICTS = Path(".work/gates")
"""Where gates keep a copy of every verdict: DVC drops the outputs of a stage that fails."""


def publish(
    stages: Mapping[str, Stage],
    states: Mapping[str, str],
    champions: Mapping[str, Any],
    *,
    root: Path,
) -> None:
    """Writes the artifacts of a run that has ended, well or badly.

    Args:
        stages: The graph.
        states: How each stage ended, a key of `flows.graph.COLOURS`.
        champions: As `stages.fetch_champions` writes them.
        root: Folder with `.dvc`.
    """
    create_markdown_artifact(
        key="pipeline",
        markdown=f"```mermaid\n{mermaid(stages, states)}\n```\n\n{_listing(states)}",
        description="The stages of this run and how each ended",
    )
    verdicts = verdict_rows(stages, states, root=root)
    if verdicts:
        create_table_artifact(key="gates", table=verdicts, description="Verdicts of the gates")
    numbers = metric_rows(stages, champions, root=root)
    if numbers:
        create_table_artifact(
            key="metrics",
            table=numbers,
            description="Metrics, as DVC has them, and those of the last champion of each model",
        )


def verdict_rows(
    stages: Mapping[str, Stage], states: Mapping[str, str], *, root: Path
) -> list[dict[str, Any]]:
    """Returns a row for each verdict, and one for each expectation that did not hold.

    Args:
        stages: The graph; gates are the stages whose names begin with `gate_`.
        states: How each stage ended.
        root: Folder with `.dvc`.
    """
    rows = []
    for name, stage in stages.items():
        state = states.get(name, "NotRun")
        if not name.startswith("gate_") or state == "NotRun":
            continue
        places = [BLOCKED_VERDICTS] if state == "Failed" else [Path(out) for out in stage.outputs]
        for verdict in _verdicts([root / place for place in places]):
            if verdict["gate"] in (name, name.removeprefix("gate_")):
                rows += _rows_of(verdict)
    return rows


def metric_rows(
    stages: Mapping[str, Stage], champions: Mapping[str, Any], *, root: Path
) -> list[dict[str, Any]]:
    """Returns a row for each number of each metric file that exists.

    Args:
        stages: The graph; the folder that holds a file names its rows.
        champions: As `stages.fetch_champions` writes them; those of these names stand in the rows.
        root: Folder with `.dvc`.
    """
    files = [root / path for stage in stages.values() for path in stage.metrics]
    return [
        {"of": file.parent.name, "metric": name, "value": value}
        | (_beside(champions.get(file.parent.name), name, value) if champions else {})
        for file in sorted(files)
        if file.is_file()
        for name, value in _numbers(json.loads(file.read_text(encoding="utf-8")))
    ]


def _beside(champion: Mapping[str, Any] | None, name: str, value: float) -> dict[str, Any]:
    """Returns further columns; every row has them, since Prefect shows those of the first row."""
    if champion is None or name not in champion["metrics"]:
        return {"champion": "", "change": "", "champion is": ""}
    best = champion["metrics"][name]
    return {
        "champion": best,
        "change": round(value - best, 6),
        "champion is": champion["version"],
    }


def metrics_of(folder: Path) -> dict[str, dict[str, float]]:
    """Returns the numbers of each model evaluated below a folder, by `<set>.<measure>`."""
    return {
        file.parent.name: dict(_numbers(json.loads(file.read_text(encoding="utf-8"))))
        for file in sorted(folder.glob("*/metrics.json"))
    }


def compared_rows(
    theirs: Mapping[str, Mapping[str, float]],
    ours: Mapping[str, Mapping[str, float]],
    *,
    of: str,
) -> list[dict[str, Any]]:
    """Returns a row for each measure of one model, with that of every other beside it.

    Args:
        theirs: Numbers by model; `of` is one of them.
        ours: The others.
        of: Whose measures.
    """
    return [
        {"measure": measure, of: value}
        | {model: numbers.get(measure, "") for model, numbers in ours.items()}
        for measure, value in theirs[of].items()
    ]


def _listing(states: Mapping[str, str]) -> str:
    lines = [f"| {name} | {state} |" for name, state in states.items()]
    return "\n".join(["| stage | state |", "|---|---|", *lines])


def _verdicts(places: list[Path]) -> list[dict[str, Any]]:
    files = [
        file
        for place in places
        for file in (sorted(place.rglob("*.json")) if place.is_dir() else [place])
        if file.suffix == ".json" and file.is_file()
    ]
    contents = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return [content for content in contents if isinstance(content, dict) and "gate" in content]


def _rows_of(verdict: Mapping[str, Any]) -> list[dict[str, Any]]:
    failed = [entry for entry in verdict["expectations"] if not entry["success"]]
    gate = " ".join(part for part in (verdict["gate"], verdict.get("verdict", "")) if part)
    outcome = "passed" if verdict["success"] else "blocked"
    summary = f"{len(verdict['expectations']) - len(failed)} of {len(verdict['expectations'])} hold"
    return [
        {"gate": gate, "result": outcome, "what": summary, "limit": "", "seen": ""},
        *(
            {
                "gate": gate,
                "result": entry["severity"],
                "what": entry["says"],
                "limit": entry["limit"],
                "seen": entry["seen"],
            }
            for entry in failed
        ),
    ]


def _numbers(content: Any, prefix: str = "") -> list[tuple[str, float]]:
    if isinstance(content, Mapping):
        entries = sorted(content.items())
        return [pair for key, value in entries for pair in _numbers(value, f"{prefix}{key}.")]
    if isinstance(content, bool) or not isinstance(content, int | float):
        return []
    return [(prefix.rstrip("."), float(content))]
