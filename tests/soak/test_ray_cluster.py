"""Labelling joins a Ray cluster of two machines that others have started, and may lose one."""

import os
import re
import secrets
import socket
import subprocess
import sys
import time
import uuid
from contextlib import ExitStack

import pytest

from dav2.labeling.ray_session import ENVIRONMENT
from tests.fixtures.killed_labellings import (
    MARK,
    SLOW_PROGRAM,
    begin,
    check_nothing_is_left,
    check_whole,
    committed,
    end_all,
    finish,
)
from tests.fixtures.labelling import PROGRAM, Project

pytest.importorskip("ray")
pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

NUM_PHOTOGRAPHS = 120
# Two of Ray's nodes with a core each on this machine, until the input ends. `ray start` would put
# a second node on an address that other machines reach.
CLUSTER = """
import sys
import ray
from ray.cluster_utils import Cluster

SIZE = {"num_cpus": 1, "object_store_memory": 80_000_000}
# The server for clients asks the agent, so it must know its port from the beginning.
PORTS = dict(zip(["ray_client_server_port", "runtime_env_agent_port"], map(int, sys.argv[1:])))
HEAD = {"include_dashboard": False, **PORTS}
cluster = Cluster(initialize_head=True, head_node_args={**SIZE, **HEAD})
second = cluster.add_node(**SIZE)
print(cluster.address, flush=True)
for order in sys.stdin:
    match order.strip():
        case "lose":
            cluster.remove_node(second, allow_graceful=False)
        case "hold":
            ray.init(address=cluster.address, configure_logging=False, log_to_driver=False)
            holder = ray.remote(num_cpus=1)(type("Holder", (), {"is_there": lambda self: True}))
            held = holder.remote()
            ray.get(held.is_there.remote())
    print("done", flush=True)
cluster.shutdown()
"""
# The log names who has not started after two seconds, not five minutes.
LOOK_OFTEN = """
import dav2.labeling.ray_engine
dav2.labeling.ray_engine._LOOK_S = 2.0
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The project, labelled once by the engine `inline`."""
    made = Project(tmp_path_factory.mktemp("cluster"))
    made.add_photographs("wild", NUM_PHOTOGRAPHS)
    made.params |= {"samples_per_shard": 4, "check_fraction": 0.0}
    made.write()
    finish(made.start())
    made.expected = made.tree()
    made.params |= {"engine": "ray"}
    made.write()
    return made


class Cluster:
    def __init__(self):
        with ExitStack() as stack:
            probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in "12"]
            ports = [str(probe.getsockname()[1]) for probe in probes]
        self.outside = f"ray://127.0.0.1:{ports[0]}"
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLUSTER, *ports],
            env={**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "0"},  # docs/scale.md
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.address = self.process.stdout.readline().strip()

    def order(self, what):
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"


@pytest.fixture
def cluster(project, monkeypatch):
    value = uuid.uuid4().hex
    for name, text in {**ENVIRONMENT, "RAY_AUTH_TOKEN": secrets.token_hex(32), MARK: value}.items():
        monkeypatch.setenv(name, text)
    made = Cluster()
    assert made.address.startswith("127.0.0.1:")
    monkeypatch.setenv("RAY_ADDRESS", made.address)
    begin(project)
    yield made
    made.process.communicate(timeout=60)
    try:
        check_nothing_is_left(value, "the cluster", after_s=20.0)
    finally:
        end_all(value)


def wait_for_shards(number, project, process):
    while len(committed(project)) < number:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def test_a_worker_on_each_node_gives_the_bytes_of_inline(project, cluster):
    shown = finish(project.start(SLOW_PROGRAM + PROGRAM))
    assert re.search(r"\d\+[\d.]+/s, 0 failures", shown), "both have labelled"
    check_whole(project, NUM_PHOTOGRAPHS, "two nodes")


def test_a_driver_outside_the_cluster_gives_the_bytes_of_inline(project, cluster, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", cluster.outside)
    shown = finish(project.start(SLOW_PROGRAM + PROGRAM))
    assert re.search(r"\d\+[\d.]+/s, 0 failures", shown), "both have labelled"
    check_whole(project, NUM_PHOTOGRAPHS, "from outside")


def test_a_node_that_is_lost_costs_no_shard_and_its_worker_is_named(project, cluster):
    process = project.start(LOOK_OFTEN + SLOW_PROGRAM + PROGRAM)
    wait_for_shards(8, project, process)
    before = committed(project)
    cluster.order("lose")
    shown = finish(process)
    assert re.search(r"waiting for workers [01] \(not started for", shown)
    assert before.items() <= committed(project).items()
    check_whole(project, NUM_PHOTOGRAPHS, "a lost node")


def test_a_core_that_another_job_holds_delays_nothing(project, cluster):
    cluster.order("hold")
    shown = finish(project.start(LOOK_OFTEN + SLOW_PROGRAM + PROGRAM))
    assert re.search(r"waiting for workers [01] \(not started for", shown)
    check_whole(project, NUM_PHOTOGRAPHS, "a core held")
