"""Ablations, run through DVC in a small project, and the tables made of them."""

import shutil
import subprocess
from pathlib import Path

import pytest

from stages.ablation import AblationParams, main, planned, read_ablation
from stages.compare import experiments, measured, table
from stages.compare import main as compare
from stages.params import read_document

PROJECT = Path(__file__).parents[2]
PIPELINE = """
stages:
  evaluate:
    foreach: ${matrix.models}
    do:
      cmd: python evaluate.py ${item}
      params: [train_teacher, train_student]
      metrics: ["reports/evaluation/${item}/metrics.json"]
"""
EVALUATE = """
import json, pathlib, sys
from ruamel.yaml import YAML
params = YAML(typ="safe").load(pathlib.Path("params.yaml"))["train_student"]
weight, seed = params["losses"]["gradient_weight"], params["seed"]
assert weight < 9, "a gate stops this one"
path = pathlib.Path("reports/evaluation", sys.argv[1], "metrics.json")
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text(json.dumps({"set": {"delta1": weight / 10 + seed / 100, "rmse": 7}}))
"""
ABLATION = """
base: ../params.yaml
ablation:
  seeded: [train_student]
  models: [student-*-pseudo]
  measures: ["*/delta1"]
  against: "one *"
variants:
  one:
    train_student: {losses: {gradient_weight: 1.0}}
  two:
    train_student: {losses: {gradient_weight: 2.0}}
  failing:
    train_student: {losses: {gradient_weight: 9.0}}
"""
MODEL, CONTROL = "student-vit64x4-pseudo", "student-vit64x4-synthetic"
AGAINST_A = AblationParams(
    seeded=("train_student",), models=("m",), measures=("s/x",), against="a m"
)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    (tmp_path / "params.yaml").write_bytes((PROJECT / "params.yaml").read_bytes())
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "evaluate.py").write_text(EVALUATE)
    (tmp_path / "ablations").mkdir()
    (tmp_path / "ablations" / "weight.yaml").write_text(ABLATION)
    return tmp_path


@pytest.fixture
def repository(project, initialised):
    shutil.copytree(initialised, project, dirs_exist_ok=True)
    for command in (
        "git config user.email nobody@example.org",
        "git config user.name nobody",
        "git add .",
        "git commit -qm start",
    ):
        subprocess.run(command.split(), check=True, cwd=project)
    return project


def test_runs_are_kept_by_dvc_compared_offline_and_params_are_put_back(repository, capsys):
    before = Path("params.yaml").read_bytes()
    file = Path("ablations/weight.yaml")
    first, rest = ABLATION.split("  two:")
    text = first + rest[rest.index("  failing:") :]
    file.write_text(text.replace("[student-*-pseudo]", "[student-*]"))
    with pytest.raises(SystemExit, match=r"^ablation: weight-failing-s0 has failed$"):
        main([str(file), "--seeds", "1"])
    assert Path("params.yaml").read_bytes() == before
    assert "weight-one-s0" in experiments()
    assert "weight-failing-s0" not in experiments()
    shutil.rmtree("reports")
    found = measured(file, num_seeds=2)
    assert list(found) == [
        (variant, model) for variant in ("one", "failing") for model in (MODEL, CONTROL)
    ]
    assert found["one", MODEL] == {0: {"set/delta1": 0.1, "set/rmse": 7.0}}
    assert found["one", CONTROL] == found["one", MODEL]
    assert found["failing", MODEL] == {}
    capsys.readouterr()
    compare([str(file), "--seeds", "1", "--measure", "set/delta1"])
    assert f"| one | {MODEL} | 0.1 | 0.1 | - | - | - |" in capsys.readouterr().out


def test_each_seed_has_every_variant_and_only_the_seeded_section_another_seed(project):
    runs = list(planned(Path("ablations/weight.yaml"), num_seeds=2))
    assert [run.name for run in runs][2:4] == ["weight-failing-s0", "weight-one-s1"]
    assert runs[0].targets() == [f"evaluate@{MODEL}"]
    seeds = [
        (run.document["train_student"]["seed"], run.document["train_teacher"]["seed"])
        for run in runs
    ]
    assert seeds == [(0, 0)] * 3 + [(1, 0)] * 3
    weights = [run.document["train_student"]["losses"]["gradient_weight"] for run in runs]
    assert weights == [1.0, 2.0, 9.0] * 2


def test_another_base_gives_runs_of_another_name(project):
    (project / "long.yaml").write_text("base: params.yaml\ntrain_student: {num_steps: 77}\n")
    run = next(planned(Path("ablations/weight.yaml"), num_seeds=1, base=Path("long.yaml")))
    assert run.name == "weight-long-one-s0"
    assert run.document["train_student"]["num_steps"] == 77
    assert run.document["train_student"]["losses"]["gradient_weight"] == 1.0


def test_a_dry_run_only_lists(project, caplog):
    caplog.set_level("INFO")
    main(["ablations/weight.yaml", "--seeds", "1", "--dry-run"])
    assert f"weight-two-s0: {MODEL}" in caplog.text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "student-*-pseudo",
            "pupil-*",
            "weight.yaml: one: expected models like pupil-*, got teacher",
        ),
        ("seeded: [train_student]", "seeded: [render]", "ablation.seeded.0: Input should be"),
        (
            "gradient_weight: 9.0",
            "gradient_wait: 9",
            "failing-s0: train_student.losses.gradient_wait",
        ),
        ("variants:", "others:", "weight.yaml: expected an ablation, with variants, got a file"),
    ],
)
def test_an_ablation_that_does_not_fit_is_refused(project, old, new, message):
    file = Path("ablations/weight.yaml")
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(SystemExit) as raised:
        main([str(file)])
    assert message in str(raised.value)


def test_the_shipped_ablations_state_what_they_compare():
    files = sorted((PROJECT / "experiments" / "ablations").glob("*.yaml"))
    assert files
    for file in files:
        ablation = read_ablation(file)
        runs = list(planned(file, num_seeds=1))
        assert len({run.name for run in runs}) == len(read_document(file)["variants"])
        rows = {(run.variant, model): {0: {"s/x": 1.0}} for run in runs for model in run.models}
        looked_at = ablation.model_copy(update={"measures": ("s/x",)})
        assert "s/x" in table(rows, looked_at)


def lines(found, **options):
    return table(found, AGAINST_A, **options).splitlines()


def test_spread_and_difference_are_those_worked_out_by_hand():
    found = {
        ("a", "m"): {seed: {"s/x": value} for seed, value in enumerate((1.0, 2.0, 3.0))},
        ("b", "m"): {seed: {"s/x": value} for seed, value in enumerate((4.0, 4.5, 5.0))},
        ("c", "m"): {seed: {"s/x": value} for seed, value in enumerate((2.0, 2.0, 3.5))},
    }
    assert lines(found) == [
        "**s/x**",
        "",
        "| variant | model | seed 0 | seed 1 | seed 2 | mean | deviation | difference "
        "| beyond spread |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| a | m | 1 | 2 | 3 | 2 | 1 | - | - |",
        "| b | m | 4 | 4.5 | 5 | 4.5 | 0.5 | +2.5 | yes |",
        "| c | m | 2 | 2 | 3.5 | 2.5 | 0.87 | +0.5 | no |",
    ]
    assert lines(found, use_range=True)[5] == "| b | m | 4 | 4.5 | 5 | 4.5 | 1 | +2.5 | yes |"


def test_what_is_missing_is_a_dash():
    found = {
        ("a", "m"): {0: {"s/x": 1.0}, 1: {"s/x": 3.0}},
        ("b", "m"): {1: {"s/x": 2.5}},
        ("c", "m"): {},
    }
    assert lines(found)[5:] == [
        "| b | m | - | 2.5 | 2.5 | - | +0.5 | unknown |",
        "| c | m | - | - | - | - | - | - |",
    ]


def test_each_variant_is_compared_with_its_own_row_of_the_other_model():
    found = {
        ("a", "control"): {0: {"s/x": 1.0}},
        ("a", "student"): {0: {"s/x": 3.0}},
        ("b", "control"): {0: {"s/x": 10.0}},
        ("b", "student"): {0: {"s/x": 11.0}},
    }
    text = table(found, AGAINST_A.model_copy(update={"against": "* control"}))
    assert "| a | student | 3 | 3 | - | +2 | unknown |" in text
    assert "| b | student | 11 | 11 | - | +1 | unknown |" in text


def test_nothing_to_compare_is_said(project):
    with pytest.raises(ValueError, match=r"expected runs with measures like s/x, got none"):
        table({("a", "m"): {}}, AGAINST_A)
    with pytest.raises(ValueError, match="expected a row like 'a m' to compare with, got b m"):
        table({("b", "m"): {0: {"s/x": 1.0}}}, AGAINST_A)
