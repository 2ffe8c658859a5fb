import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.gate_release import main, value_at

MODELS = ["teacher", "student-vits-pseudo", "student-vits-synthetic"]
RULES = [
    {
        "models": ["teacher", "student-*"],
        "measures": ["wild/pair_accuracy"],
        "better": "higher",
        "against": ["constant", "ramp"],
        "margin": 0.05,
        "severity": "critical",
    },
    {
        "models": ["student-*-pseudo"],
        "measures": ["wild/abs_rel"],
        "better": "lower",
        "against": ["control"],
        "margin": 0.0,
        "severity": "warning",
    },
]
METRICS = {
    "teacher": {"wild": {"pair_accuracy": 0.8, "abs_rel": 0.30}},
    "student-vits-pseudo": {"wild": {"pair_accuracy": 0.7, "abs_rel": 0.20}},
    "student-vits-synthetic": {"wild": {"pair_accuracy": 0.7, "abs_rel": 0.25}},
    "trivial-constant": {"wild": {"pair_accuracy": 0.0, "abs_rel": 0.5}},
    "trivial-ramp": {"wild": {"pair_accuracy": 0.5, "abs_rel": 0.4}},
}


class Project:
    def __init__(self):
        self.metrics = json.loads(json.dumps(METRICS))
        self.rules = json.loads(json.dumps(RULES))

    def run(self):
        matrix = {
            "encoders": ["vits"],
            "labels": ["pseudo", "synthetic"],
            "both": [],
            "warm": [],
            "live": [],
            "domains": [],
        }
        document = {"gate_release": {"rules": self.rules}, "matrix": matrix | {"models": MODELS}}
        with Path("params.yaml").open("w") as stream:
            YAML(typ="safe").dump(document, stream)
        for name, metrics in self.metrics.items():
            folder = Path("reports/evaluation") / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "metrics.json").write_text(json.dumps(metrics))
        main(Path("reports/evaluation"), Path("reports/gates/release.json"))
        return json.loads(Path("reports/gates/release.json").read_text())


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Project()


def test_models_better_than_all_rivals_pass(project):
    verdict = project.run()
    assert verdict["success"] is True
    assert verdict["num_warnings"] == 0
    texts = [(found["says"], found["limit"]) for found in verdict["expectations"]]
    assert texts[0] == (
        "teacher beats ramp in wild/pair_accuracy; higher is better.",
        "more than 0.55",
    )
    assert texts[3] == (
        "student-vits-pseudo beats control in wild/abs_rel; lower is better.",
        "less than 0.25",
    )


def test_a_model_no_better_than_a_ramp_fails_and_the_stage_goes_on(project):
    project.metrics["student-vits-pseudo"]["wild"]["pair_accuracy"] = 0.55  # no better by 0.05
    verdict = project.run()
    assert verdict["success"] is False
    (found,) = [entry for entry in verdict["expectations"] if not entry["success"]]
    assert (found["seen"], found["severity"]) == ("0.55", "critical")


def test_a_student_no_better_than_its_control_warns(project):
    project.metrics["student-vits-pseudo"]["wild"]["abs_rel"] = 0.26
    verdict = project.run()
    assert (verdict["success"], verdict["num_warnings"]) == (True, 1)


@pytest.mark.parametrize("lacking", ["teacher", "trivial"])
def test_a_rule_that_cannot_be_applied_fails(project, lacking):
    for name, metrics in project.metrics.items():
        if name.startswith(lacking):
            del metrics["wild"]["pair_accuracy"]
    assert project.run()["success"] is False


def test_the_evaluation_of_a_withdrawn_model_is_removed(project):
    project.metrics["student-vitb-pseudo"] = {}
    project.run()
    assert not Path("reports/evaluation/student-vitb-pseudo").exists()
    assert Path("reports/evaluation/trivial-ramp").exists()


def test_a_rule_about_no_model_is_one_line(project):
    project.rules[0]["models"] = ["studnet-*"]
    with pytest.raises(SystemExit, match=r"gate_release: params.yaml: .*got 'studnet-\*'"):
        project.run()


def test_a_missing_evaluation_is_one_line(project):
    del project.metrics["teacher"]
    with pytest.raises(
        SystemExit, match="expected an evaluation of every model, got none of teach"
    ):
        project.run()


def test_a_path_leads_to_a_number_or_to_nothing():
    assert value_at({"a": {"b": 1}}, "a/b") == 1.0
    assert value_at({"a": {"b": 1}}, "a/b/c") is None
    assert value_at({"a": {"b": [1, 2]}}, "a/b") is None
