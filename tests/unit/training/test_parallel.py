"""Many devices: what one rank alone can show, and two processes against one."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dav2.models.depth_anything import DepthAnything, ModelConfig
from dav2.training.fit import fit
from dav2.training.parallel import (
    ParallelConfig,
    environment_of,
    rank_of,
    share_of_batch,
    strategy_of,
)
from dav2.training.run import prepare_process

PROJECT = Path(__file__).parents[3]
TORCHRUN = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "TORCHELASTIC_RUN_ID": "none"}
SLURM = {
    "SLURM_NTASKS": "4",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
}
CHANGES = {
    "batch_size": 4,
    "log_every_steps": 1,
    "memory_limit_bytes": 1,
    "optimiser": {"num_steps": 3},
}


@pytest.fixture(autouse=True)
def _lone_process(monkeypatch):
    for name in (*TORCHRUN, *SLURM, "GROUP_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("launcher", "given"), [("torchrun", TORCHRUN), ("slurm", SLURM)])
def test_a_rank_is_what_its_launcher_says(monkeypatch, launcher, given):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    config = ParallelConfig(launcher, num_machines=2, num_devices=2)
    environment = environment_of(config, where="teacher")
    assert (rank_of(environment), environment.local_rank()) == (3, 1)
    with pytest.raises(ValueError, match=rf"expected 4 x 2 processes, got 4 from {launcher}"):
        environment_of(replace(config, num_machines=4), where="teacher")


def test_slurm_must_be_told_the_processes_of_each_machine(monkeypatch):
    for name in ("SLURM_NTASKS", "SLURM_PROCID"):
        monkeypatch.setenv(name, SLURM[name])
    with pytest.raises(ValueError, match="expected `srun --ntasks-per-node`, got --ntasks"):
        environment_of(ParallelConfig("slurm", num_devices=4), where="teacher")


def test_a_rank_of_this_machine_is_what_the_first_one_says(monkeypatch):
    environment = environment_of(ParallelConfig(num_devices=2), where="teacher")
    assert rank_of(environment) == 0
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert rank_of(environment) == 1


@pytest.mark.parametrize(("launcher", "starter"), [("torchrun", "torchrun"), ("slurm", "srun")])
def test_a_process_that_nobody_else_started_is_refused(launcher, starter):
    with pytest.raises(ValueError, match=rf"launcher: expected to be started by {starter}, got"):
        environment_of(ParallelConfig(launcher), where="teacher")


def test_several_machines_need_somebody_who_starts_them():
    with pytest.raises(ValueError, match="expected torchrun or slurm for 2 machines, got local"):
        environment_of(ParallelConfig(num_machines=2), where="teacher")


def test_a_process_of_torchrun_does_not_train_alone(monkeypatch):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="expected torchrun, which started this process, got loc"):
        environment_of(ParallelConfig(), where="teacher")


def test_a_batch_that_devices_cannot_share_is_refused():
    config = ParallelConfig("torchrun", num_machines=2, num_devices=4)
    assert share_of_batch(16, config, where="teacher") == 2
    with pytest.raises(ValueError, match=r"teacher: batch_size: expected a multiple of 8, .* 12$"):
        share_of_batch(12, config, where="teacher")


def test_an_odd_share_of_a_batch_cannot_be_mixed_in_pairs(fit_config, augment):
    parallel = ParallelConfig(num_devices=2)
    mixed = {"augment": augment(cutmix_probability=0.5), "parallel": parallel}
    with pytest.raises(ValueError, match=r"test: batch_size: expected an even share .* got 3 of 6"):
        prepare_process(fit_config(batch_size=6, **mixed))
    assert prepare_process(fit_config(batch_size=4, **mixed)).is_first
    assert prepare_process(fit_config(batch_size=6, parallel=parallel)).is_first
    alone = mixed | {"parallel": ParallelConfig()}
    assert prepare_process(fit_config(batch_size=3, **alone)).is_first


def test_more_gpus_than_there_are_are_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(ValueError, match=r"num_devices: expected 8 CUDA devices, got 2 on this"):
        strategy_of(ParallelConfig(num_devices=8), "cuda", where="teacher")


def test_a_lone_device_has_nothing_to_share():
    for strategy in ("ddp", "fsdp"):
        assert strategy_of(ParallelConfig(strategy=strategy), "cpu", where="teacher") == "auto"


def test_sharded_weights_are_not_compiled(fit_config):
    parallel = ParallelConfig(num_devices=2, strategy="fsdp")
    config = fit_config(compile_blocks=True, parallel=parallel)
    with pytest.raises(ValueError, match=r"test: compile: expected false where .* fsdp, got true"):
        prepare_process(config)


def test_two_processes_train_as_one(discs, fit_config, tmp_path):
    command = [sys.executable, "-m", "tests.fixtures.ranks", str(tmp_path)]
    changes = {**CHANGES, "validation": {"keep_best": True}, "parallel": {"num_devices": 2}}
    ended = subprocess.run(
        [*command, json.dumps(changes)],
        cwd=PROJECT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("test: 100%") == 1
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    samples = discs(7)
    torch.manual_seed(0)
    config = fit_config(batch_size=4, num_steps=3, log_every_steps=1, memory_limit_bytes=1)
    (tmp_path / "alone").mkdir()
    alone = fit(
        DepthAnything(ModelConfig("vit64x4")),
        samples,
        discs(3, first=100),
        config=replace(config, losses=replace(config.losses, trim_fraction=0.0)),
        work=tmp_path / "alone",
    )
    reads = [rank["reads"][step : step + 2] for step in (0, 2, 4) for rank in (first, second)]
    assert [index for read in reads for index in read] == samples.reads[1:]
    for row, expected in zip(first["curves"], alone.curves, strict=True):
        assert row == pytest.approx(expected, rel=1e-4)
    for name in ("curves", "history", "validation"):
        assert first[name] == second[name], name
    assert first["told"] == [1, 2, 3, 3]
    assert second["told"] == []
    assert first["threads"] == second["threads"] == 1
    weights = [torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1)]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    # Adam takes a full step for a gradient that is all rounding: single weights may differ.
    torch.manual_seed(0)
    start = DepthAnything(ModelConfig("vit64x4")).state_dict()
    expected = alone.model.state_dict()
    moved = torch.cat([(expected[name] - start[name]).flatten() for name in start])
    apart = torch.cat([(expected[name] - weights[0][name]).flatten() for name in start])
    assert apart.norm() < 0.01 * moved.norm()
