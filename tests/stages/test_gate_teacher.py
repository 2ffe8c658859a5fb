import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.gate_teacher import main

LIMITS = {"min_delta1": 0.4, "max_abs_rel_inverse": 0.5, "min_pair_accuracy": 0.7}
GOOD = {"step": 100.0, "delta1": 0.5, "abs_rel": 0.3, "abs_rel_inverse": 0.3, "pair_accuracy": 0.9}


@pytest.fixture
def judge(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Path("params.yaml").open("w") as stream:
        YAML(typ="safe").dump({"gate_teacher": LIMITS}, stream)

    def run(content):
        Path("validation.json").write_text(json.dumps(content))
        main(Path("validation.json"), Path("reports/gates/teacher.json"))

    return run


def test_a_good_teacher_passes_and_the_verdict_says_why(judge):
    judge({"final": GOOD, "history": []})
    verdict = json.loads(Path("reports/gates/teacher.json").read_text())
    assert verdict["success"] is True
    assert [found["observed"] for found in verdict["expectations"]] == [0.5, 0.3, 0.9]
    assert [found["limit"] for found in verdict["expectations"]] == [
        "at least 0.4",
        "at most 0.5",
        "at least 0.7",
    ]


@pytest.mark.parametrize(
    ("measure", "value"), [("delta1", 0.39), ("abs_rel_inverse", 0.51), ("pair_accuracy", 0.69)]
)
def test_a_weak_teacher_is_stopped(judge, measure, value, caplog):
    with pytest.raises(SystemExit, match="1"):
        judge({"final": GOOD | {measure: value}})
    assert f"seen:  {value}" in caplog.text
    assert not Path("reports/gates/teacher.json").exists()
    assert json.loads(Path(".work/gates/teacher.json").read_text())["success"] is False


def test_a_training_that_became_nan_is_stopped(judge):
    with pytest.raises(SystemExit, match="1"):
        judge({"final": GOOD | {"delta1": None}})


def test_a_file_without_measures_is_one_line(judge):
    with pytest.raises(SystemExit, match=r"gate_teacher: validation.json: expected measures under"):
        judge({"history": []})
