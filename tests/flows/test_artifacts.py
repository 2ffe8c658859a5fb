import json
from pathlib import Path

from flows.artifacts import BLOCKED_VERDICTS, compared_rows, metric_rows, metrics_of, verdict_rows
from flows.graph import Stage

HOLDS = {"says": "enough", "severity": "critical", "limit": "9", "seen": "9", "success": True}
FAILS = {"says": "bright", "severity": "critical", "limit": "1", "seen": "0", "success": False}


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def verdict(gate: str, *expectations: dict) -> dict:
    success = all(entry["success"] for entry in expectations)
    return {"gate": gate, "verdict": "v", "success": success, "expectations": list(expectations)}


STAGES = {
    "gate_data": Stage("gate_data", "", (), ("gated.parquet", "gates/data")),
    "gate_labels": Stage("gate_labels", "", ("gate_data",), ("gates/labels.json",)),
    "gate_release": Stage("gate_release", "", ("gate_labels",), ("gates/release.json",)),
}


def test_a_gate_that_passed_is_shown_from_its_outputs(tmp_path: Path):
    write(tmp_path / "gates" / "data" / "labelled.json", verdict("data", HOLDS))
    write(tmp_path / "gates" / "data" / "other.json", {"no": "verdict"})
    (tmp_path / "gated.parquet").write_bytes(b"rows")
    rows = verdict_rows(STAGES, {"gate_data": "UpToDate"}, root=tmp_path)
    assert rows == [
        {"gate": "data v", "result": "passed", "what": "1 of 1 hold", "limit": "", "seen": ""}
    ]


def test_a_gate_that_blocked_is_shown_from_the_copy_and_others_are_not(tmp_path: Path):
    write(tmp_path / BLOCKED_VERDICTS / "labels.json", verdict("labels", HOLDS, FAILS))
    write(tmp_path / BLOCKED_VERDICTS / "teacher.json", verdict("teacher", FAILS))
    states = {"gate_labels": "Failed", "gate_release": "NotRun"}
    rows = verdict_rows(STAGES, states, root=tmp_path)
    assert [row["result"] for row in rows] == ["blocked", "critical"]
    assert rows[0]["what"] == "1 of 2 hold"
    assert rows[1] == {
        "gate": "labels v",
        "result": "critical",
        "what": "bright",
        "limit": "1",
        "seen": "0",
    }


def test_metrics_become_a_row_a_number_and_missing_files_none(tmp_path: Path):
    stages = {
        name: Stage(name, "", (), (), metrics=(f"evaluation/{name}/metrics.json",))
        for name in ("teacher", "student")
    }
    content = {"wild": {"delta1": 0.5, "num": 3}, "passed": True, "note": "text", "none": None}
    write(tmp_path / "evaluation" / "teacher" / "metrics.json", content)
    assert metric_rows(stages, {}, root=tmp_path) == [
        {"of": "teacher", "metric": "wild.delta1", "value": 0.5},
        {"of": "teacher", "metric": "wild.num", "value": 3.0},
    ]


def test_metrics_stand_beside_those_of_the_last_champion_of_their_model(tmp_path: Path):
    stages = {
        name: Stage(name, "", (), (), metrics=(f"evaluation/{name}/metrics.json",))
        for name in ("teacher", "student")
    }
    for name in stages:
        write(tmp_path / "evaluation" / name / "metrics.json", {"wild": {"delta1": 0.5, "n": 3}})
    champion = {"version": "depth-relative-vits/4", "metrics": {"wild.delta1": 0.625}}
    rows = metric_rows(stages, {"student": champion}, root=tmp_path)
    assert rows[0] == {
        "of": "student",
        "metric": "wild.delta1",
        "value": 0.5,
        "champion": 0.625,
        "change": -0.125,
        "champion is": "depth-relative-vits/4",
    }
    none = {"champion": "", "change": "", "champion is": ""}
    assert rows[1:] == [
        {"of": "student", "metric": "wild.n", "value": 3.0, **none},
        {"of": "teacher", "metric": "wild.delta1", "value": 0.5, **none},
        {"of": "teacher", "metric": "wild.n", "value": 3.0, **none},
    ]


def test_a_foreign_model_stands_beside_all_of_ours(tmp_path: Path):
    write(
        tmp_path / "theirs" / "other" / "metrics.json",
        {"wild": {"delta1": 0.5}, "da2k": {"all": 1}},
    )
    write(tmp_path / "ours" / "student" / "metrics.json", {"wild": {"delta1": 0.75}})
    rows = compared_rows(metrics_of(tmp_path / "theirs"), metrics_of(tmp_path / "ours"), of="other")
    assert rows == [
        {"measure": "da2k.all", "other": 1.0, "student": ""},
        {"measure": "wild.delta1", "other": 0.5, "student": 0.75},
    ]
