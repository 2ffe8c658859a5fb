import logging
import shutil
from pathlib import Path

import pytest

from flows.graph import Stage, read_graph
from flows.sessions import Sessions
from flows.stage_runs import run_stage, stages_left

LOG = logging.getLogger("flows.test")


def run(stage: Stage, root: Path, **options) -> str:
    return run_stage(stage, Sessions(), root=root, log=LOG, **options)


def test_tells_apart_run_unchanged_and_restored(project: Path):
    left = read_graph()["left"]
    assert run(left, project) == "Completed"
    assert run(left, project) == "UpToDate"
    (project / "source.txt").write_text("2")
    assert run(left, project) == "Completed"
    (project / "source.txt").write_text("1")
    assert run(left, project) == "Restored"
    assert (project / "left.txt").read_text() == "left1"


def test_a_failure_names_the_stage_and_what_it_said_last(project: Path, caplog):
    (project / "left.order").write_text("fail")
    with (
        caplog.at_level(logging.INFO, logger=LOG.name),
        pytest.raises(RuntimeError, match="left: expected exit status 0, got 255") as failure,
    ):
        run(read_graph()["left"], project)
    assert "left: expected luck, got none" in str(failure.value)
    assert "left: expected luck, got none" in caplog.text


def test_a_stage_sees_its_device_and_the_python_that_runs_this(
    tmp_path: Path, monkeypatch, initialised: Path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    shutil.copytree(initialised, tmp_path, dirs_exist_ok=True)
    text = 'import os, sys; open("seen", "w").write(os.environ["CUDA_VISIBLE_DEVICES"])'
    (tmp_path / "see.py").write_text(text + "; import ruamel.yaml")  # of our environment alone
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  see:\n    cmd: python see.py\n    outs: [seen]\n"
    )
    assert run(Stage("see", "", (), ()), tmp_path, device="1,2") == "Completed"
    assert (tmp_path / "seen").read_text() == "1,2"


@pytest.mark.slow
def test_knows_what_a_plain_repro_would_still_run(project: Path):
    stages = read_graph()
    for stage in stages.values():
        run(stage, project)
    assert stages_left(Sessions(), root=project, log=LOG) == []
    (project / "numbers" / "metrics.json").unlink()
    assert stages_left(Sessions(), root=project, log=LOG) == ["report"]


def test_a_broken_pipeline_is_told(project: Path):
    (project / "dvc.yaml").write_text("stages: nonsense")
    with pytest.raises(RuntimeError, match="dvc repro --dry: expected exit status 0, got 255"):
        stages_left(Sessions(), root=project, log=LOG)
