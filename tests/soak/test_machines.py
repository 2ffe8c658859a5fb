"""Two machines, played by two launches on this one, train as two devices of one machine do."""

import socket
import sys

import pytest
import torch

from tests.soak.test_many_ranks import finish, results, start

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

CHANGES = {"optimiser": {"num_steps": 8}}
MACHINES = {"num_machines": 2, "num_devices": 1}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def torchrun(machine, port):
    """An agent of one machine, as `docs/training.md` starts it."""
    program = [
        sys.executable,
        *("-m", "torch.distributed.run"),
        *("--nnodes", "2", "--node-rank", str(machine), "--nproc-per-node", "1"),
        *("--master-addr", "127.0.0.1", "--master-port", str(port), "-m"),
    ]
    return {"launcher": "torchrun", "program": program}


def slurm(machine, port):
    """What `srun --nodes 2 --ntasks-per-node 1` tells a task."""
    environment = {
        "SLURM_JOB_NAME": "training",
        "SLURM_JOB_ID": "4711",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_NNODES": "2",
        "SLURM_PROCID": str(machine),
        "SLURM_NODEID": str(machine),
        "SLURM_LOCALID": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    return {"launcher": "slurm", "environment": environment}


@pytest.mark.parametrize("launched", [torchrun, slurm])
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_machines_agree_with_two_devices_and_write_once(tmp_path, launched, strategy):
    finish(start(tmp_path / "one machine", CHANGES, strategy=strategy))
    port = free_port()
    machines = [
        start(tmp_path / "two", CHANGES, strategy=strategy, **MACHINES, **launched(machine, port))
        for machine in (0, 1)
    ]
    for machine in machines:
        finish(machine)
    for rank in (0, 1):
        found, told = results(tmp_path / "two", rank)
        expected, wanted = results(tmp_path / "one machine", rank)
        assert all(torch.equal(found[name], expected[name]) for name in found)
        assert told == wanted
    assert results(tmp_path / "two", 1)[1]["told"] == []
