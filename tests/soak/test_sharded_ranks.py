"""Two processes that hold a share of the weights each (FSDP) train as one process does."""

import json
import os
import signal
import time

import pytest
import torch

from dav2.models.depth_anything import DepthAnything, ModelConfig
from tests.soak.test_many_ranks import finish, results, start

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

SHARDED = {"num_devices": 2, "strategy": "fsdp"}
# Adam takes a full step for a gradient that is all rounding: of small steps, rounding stays.
SLOW = {"num_steps": 6, "encoder_lr": 1e-5, "decoder_lr": 2e-5}
CHANGES = {"optimiser": SLOW, "accumulate": 2, "validation": {"keep_best": True}}


def weights_of(folder, rank=0):
    return results(folder, rank)[0]


def test_ranks_with_a_share_each_agree_with_one_process_and_with_whole_copies(tmp_path):
    for name, parallel in (
        ("one", {"num_devices": 1}),
        ("ddp", {"num_devices": 2}),
        ("fsdp", SHARDED),
    ):
        finish(start(tmp_path / name, CHANGES, **parallel))
    twice = {**CHANGES, "checkpoint_activations": True}
    finish(start(tmp_path / "twice", twice, **SHARDED))
    torch.manual_seed(0)
    begin = DepthAnything(ModelConfig("vit64x4")).state_dict()
    weights, expected = results(tmp_path / "one")
    moved = torch.cat([(weights[name] - begin[name]).flatten() for name in begin]).norm()
    found, other = results(tmp_path / "fsdp"), results(tmp_path / "fsdp", 1)
    for name in ("curves", "history", "validation"):
        assert found[1][name] == other[1][name], name
    assert (found[1]["told"] != [], other[1]["told"]) == (True, [])
    assert all(torch.equal(found[0][name], other[0][name]) for name in begin)
    for row, wanted in zip(found[1]["curves"], expected["curves"], strict=True):
        assert row == pytest.approx(wanted, rel=1e-4)
    for name in ("one", "ddp", "twice"):
        of_name = weights_of(tmp_path / name)
        apart = [(of_name[key] - found[0][key]).flatten() for key in begin]
        assert torch.cat(apart).norm() < 0.05 * moved, name
    whole, shared = (
        torch.load(tmp_path / name / "progress.pt", weights_only=True) for name in ("one", "fsdp")
    )
    assert whole["module"].keys() == shared["module"].keys()
    for index, entry in whole["optimiser"]["state"].items():
        shapes = {name: value.shape for name, value in entry.items()}
        found_shapes = {
            name: value.shape for name, value in shared["optimiser"]["state"][index].items()
        }
        assert found_shapes == shapes


def test_ranks_with_a_share_each_agree_within_the_noise_of_bfloat16(tmp_path):
    half = {**CHANGES, "precision": "bfloat16"}
    for name, changes, parallel in (
        ("whole", CHANGES, {"num_devices": 1}),
        ("half", half, {"num_devices": 1}),
        ("fsdp", half, SHARDED),
    ):
        finish(start(tmp_path / name, changes, **parallel))
    exact, alone, shared = (
        [row["loss"] for row in results(tmp_path / name)[1]["curves"]]
        for name in ("whole", "half", "fsdp")
    )
    assert alone != exact
    assert shared == pytest.approx(alone, rel=2e-2)


def test_ranks_with_a_share_each_go_on_after_a_kill_as_if_it_had_not_been(tmp_path):
    changes = {"optimiser": {"num_steps": 20}, "log_every_steps": 7, "checkpoint_every_steps": 5}
    finish(start(tmp_path / "whole", changes, **SHARDED))
    process = start(tmp_path / "killed", changes, **SHARDED)
    while not (tmp_path / "killed" / "progress.pt").exists() and process.poll() is None:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert "goes on after step" in finish(start(tmp_path / "killed", changes, **SHARDED))
    for rank in (0, 1):
        (weights, found), (expected, told) = (
            results(tmp_path / name, rank) for name in ("killed", "whole")
        )
        assert all(torch.equal(weights[name], expected[name]) for name in weights)
        for name in ("curves", "history"):
            assert json.dumps(found[name]) == json.dumps(told[name])
