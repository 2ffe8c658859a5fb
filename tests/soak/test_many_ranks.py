"""Several processes train one model: as one would, resumed, and none waits for a lost one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from dav2.data.files import sha256_of
from dav2.models.depth_anything import DepthAnything, ModelConfig
from tests.fixtures.training import TrainingProject

pytestmark = pytest.mark.soak

PROJECT = Path(__file__).parents[2]
RANKS = "tests.fixtures.ranks"
LONG = {"batch_size": 4, "log_every_steps": 1, "memory_limit_bytes": 1, "checkpoint_every_steps": 1}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m"]


def start(folder, changes, *, program=None, environment=None, **parallel):
    folder.mkdir(exist_ok=True)
    parallel = {"num_devices": 2, **parallel}
    by_torchrun = parallel.get("launcher") == "torchrun"
    program = program or (TORCHRUN if by_torchrun else [sys.executable, "-m"])
    return subprocess.Popen(
        [*program, RANKS, str(folder), json.dumps({**LONG, **changes, "parallel": parallel})],
        cwd=PROJECT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process, status=0):
    _, shown = process.communicate(timeout=200)
    assert process.returncode == status, shown
    return shown


def results(folder, rank=0):
    weights = torch.load(folder / f"rank{rank}.pt")
    return weights, json.loads((folder / f"rank{rank}.json").read_text())


def is_alive(session):
    """Whether a process of the session that `start` opened is left."""
    try:
        os.killpg(session, 0)
    except ProcessLookupError:
        return False
    return True


def test_ranks_agree_with_one_process_and_with_torchrun(tmp_path):
    # Adam takes a full step for a gradient that is all rounding: of small steps, rounding stays.
    slow = {"optimiser": {"num_steps": 12, "encoder_lr": 1e-5, "decoder_lr": 2e-5}}
    for name, given in {
        "one": {"num_devices": 1},
        "two": {},
        "four": {"num_devices": 4},
        "torchrun": {"launcher": "torchrun"},
    }.items():
        finish(start(tmp_path / name, slow, **given))
    weights, expected = results(tmp_path / "one")
    torch.manual_seed(0)
    begin = DepthAnything(ModelConfig("vit64x4")).state_dict()
    moved = torch.cat([(weights[name] - begin[name]).flatten() for name in begin]).norm()
    for name, num_ranks in (("two", 2), ("four", 4)):
        found = [results(tmp_path / name, rank) for rank in range(num_ranks)]
        for row, other in zip(found[0][1]["curves"], expected["curves"], strict=True):
            assert row["loss"] == pytest.approx(other["loss"], rel=1e-4)
        share = 4 // num_ranks
        reads = [
            index
            for step in range(12)
            for _, rank in found
            for index in rank["reads"][step * share : (step + 1) * share]
        ]
        assert reads == expected["reads"]
        apart = [(weights[key] - found[0][0][key]).flatten() for key in begin]
        assert torch.cat(apart).norm() < 0.05 * moved
        for other, _ in found[1:]:
            assert all(torch.equal(other[key], found[0][0][key]) for key in begin)
    one, other = (results(tmp_path / name)[0] for name in ("two", "torchrun"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_ranks_agree_on_all_that_v1_adds(tmp_path):
    changes = {
        "batch_size": 8,
        "optimiser": {"num_steps": 8, "encoder_lr": 1e-5, "decoder_lr": 2e-5},
        "losses": {"feature_weight": 1.0, "trim_fraction": 0.1},
        "augment": {"cutmix_probability": 0.5},
    }
    for name, num_devices in (("one", 1), ("two", 2), ("four", 4)):
        finish(start(tmp_path / name, changes, num_devices=num_devices))
    _, expected = results(tmp_path / "one")
    for name in ("two", "four"):
        _, found = results(tmp_path / name)
        for row, other in zip(found["curves"], expected["curves"], strict=True):
            assert row == pytest.approx(other, rel=1e-4, abs=1e-6), name
    assert expected["curves"][-1]["features"] > 0


def test_ranks_killed_together_go_on_as_if_they_had_not(tmp_path):
    changes = {"optimiser": {"num_steps": 60}, "log_every_steps": 7, "checkpoint_every_steps": 5}
    finish(start(tmp_path / "whole", changes))
    process = start(tmp_path / "killed", changes)
    while not (tmp_path / "killed" / "progress.pt").exists() and process.poll() is None:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert "goes on after step" in finish(start(tmp_path / "killed", changes))
    for rank in (0, 1):
        (weights, found), (expected, told) = (
            results(tmp_path / name, rank) for name in ("killed", "whole")
        )
        assert all(torch.equal(weights[name], expected[name]) for name in weights)
        assert found["curves"] == told["curves"]
        assert found["history"] == told["history"]


@pytest.mark.parametrize("launcher", ["local", "torchrun"])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_fails_ends_all_and_keeps_the_last_state(tmp_path, rank, launcher):
    process = start(
        tmp_path, {"optimiser": {"num_steps": 4000}, "fails": [rank, 21]}, launcher=launcher
    )
    begin = time.monotonic()
    _, shown = process.communicate(timeout=100)
    assert process.returncode not in (0, None)
    where = f"ranks (rank {rank})" if rank else "ranks"
    assert f"{where}: disc-" in shown
    state = torch.load(tmp_path / "progress.pt", weights_only=True)
    assert state["step"] == 10, shown
    while is_alive(process.pid):
        assert time.monotonic() - begin < 120
        time.sleep(0.1)


def test_no_rank_outlives_a_killed_first_one(tmp_path):
    process = start(tmp_path, {"optimiser": {"num_steps": 100_000}})
    while not (tmp_path / "progress.pt").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    begin = time.monotonic()
    while is_alive(process.pid):
        process.poll()
        assert time.monotonic() - begin < 15
        time.sleep(0.1)


@pytest.mark.parametrize("launcher", ["local", "torchrun"])
def test_a_stage_of_two_ranks_writes_its_outputs_once(tmp_path, launcher):
    project = TrainingProject(tmp_path)
    for package in ("dav2", "stages"):
        (tmp_path / package).symlink_to(PROJECT / package)
    section = project.params["train_teacher"]
    section["parallel"] = {**section["parallel"], "num_devices": 2, "launcher": launcher}
    project.write_params()
    program = TORCHRUN if launcher == "torchrun" else [sys.executable, "-m"]
    ended = subprocess.run(
        [*program, "stages.train_teacher", "manifest.parquet", "model.safetensors", "reports"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("teacher: 100%") == 1
    runs = [json.loads(line) for line in (tmp_path / ".work/runs.jsonl").read_text().splitlines()]
    assert [(run["stage"], run["status"]) for run in runs] == [("train_teacher", "FINISHED")]
    assert len(sha256_of(tmp_path / "model.safetensors")) == 64
    assert (tmp_path / "reports" / "validation.json").is_file()
