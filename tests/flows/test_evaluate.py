"""The flow fetches a registered version, has it measured and lays its numbers beside ours."""

import json
from pathlib import Path

import pytest

from flows.evaluate import MANIFEST, OURS, RESULTS, main

# What the stages do as far as the flow sees it.
FETCH = """
import pathlib, sys
version, output = sys.argv[1:]
if "@" not in version or version.startswith("unknown"):
    sys.exit(f"fetch_weights: {version}: expected a registered model, got none")
pathlib.Path(output).write_text(version)
"""
EVALUATE = """
import json, os, pathlib, sys
name, manifest, checkpoint, output = sys.argv[1:]
with open("calls.log", "a") as log:
    log.write(f"{checkpoint} {os.environ.get('CUDA_VISIBLE_DEVICES')}\\n")
if not pathlib.Path(checkpoint).exists():
    sys.exit(f"evaluate: {checkpoint}: expected a checkpoint, got nothing there")
pathlib.Path(output).mkdir(parents=True)
metrics = {"model": name, "wild": {"delta1": 0.5, "abs_rel": 0.3}}
(pathlib.Path(output) / "metrics.json").write_text(json.dumps(metrics))
"""


@pytest.fixture
def project(tmp_path, monkeypatch, prefect_server):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "fetch_weights.py").write_text(FETCH)
    (tmp_path / "stages" / "evaluate.py").write_text(EVALUATE)
    MANIFEST.parent.mkdir(parents=True)
    MANIFEST.touch()
    (OURS / "student").mkdir(parents=True)
    (OURS / "student" / "metrics.json").write_text('{"wild": {"delta1": 0.6}}')
    return tmp_path


def test_a_registered_version_is_fetched_measured_and_shown_beside_ours(project, capsys):
    assert main(["old", "depth-relative-vits@previous", "--gpu", "1"]) == 0
    assert Path("calls.log").read_text() == f"{RESULTS}/old.safetensors 1\n"
    assert capsys.readouterr().out == f"{RESULTS}/old: 2 measures\n"
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        artifacts = client.read_artifacts()
    (table,) = [json.loads(a.data) for a in artifacts if a.key == "evaluation"]
    assert table == [
        {"measure": "wild.abs_rel", "old": 0.3, "student": ""},
        {"measure": "wild.delta1", "old": 0.5, "student": 0.6},
    ]


def test_a_file_of_others_is_measured_as_it_is(project):
    Path("released@2.pth").touch()  # a path, whatever its name
    assert main(["released", "released@2.pth"]) == 0
    assert Path("calls.log").read_text() == "released@2.pth None\n"


@pytest.mark.parametrize(
    ("checkpoint", "why"),
    [
        ("unknown@champion", "unknown@champion: expected a registered model, got none"),
        ("nothing.pth", "nothing.pth: expected a checkpoint, got nothing there"),
    ],
)
def test_what_the_stage_says_is_what_the_run_fails_with(project, checkpoint, why, capsys):
    assert main(["old", checkpoint]) == 1
    assert why in capsys.readouterr().out


def test_without_evaluation_sets_the_run_fails_with_one_line(project, capsys):
    MANIFEST.unlink()
    assert main(["old", "old.pth"]) == 1
    assert f"{MANIFEST}: expected evaluation sets, got none" in capsys.readouterr().out
