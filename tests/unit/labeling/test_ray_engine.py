"""The driver of Ray's workers, with Ray replaced by workers that live and die in this process.

Real Ray takes many seconds to start: `make soak` kills it.
"""

import os
import shutil
import socket
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from dav2.labeling import ray_engine
from dav2.labeling.engine import label_shards
from dav2.labeling.job import RayOptions
from dav2.labeling.plan import plan_shards
from tests.fixtures.rays import RayError

NUM = 15


def contents(store):
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for path in store.rglob("*")
        if path.suffix in {".tar", ".parquet"}
    }


@pytest.fixture
def expected(photographs, tmp_path):
    """What the engine `inline` makes of the same photographs."""
    photographs.add("wild", NUM)
    (tmp_path / "inline").mkdir()
    job = photographs.job(store=tmp_path / "inline", check_fraction=0.0)
    photographs.label(job, samples_per_shard=3)
    photographs.teacher.batch_sizes.clear()
    return contents(tmp_path / "inline")


def label(photographs, **changes):
    job = photographs.job(check_fraction=0.0)
    job = replace(job, **changes)
    return photographs.label(job, samples_per_shard=3, engine="ray")


def test_workers_give_the_bytes_of_one_process_and_hand_out_fewer_towards_the_end(
    photographs, ray, expected
):
    label(photographs, ray=RayOptions(None, 1))
    assert contents(photographs.store) == expected
    assert photographs.num_seen() == NUM
    sizes = [len(names) for names in ray.handed_out]
    assert sizes[0] > 1
    assert sizes[-1] == 1
    assert sum(sizes) == len(expected) / 3  # tar, index and quarantine of each, once


def test_attempts_carry_their_worker_and_the_places_of_the_plan(photographs, ray, expected):
    job = photographs.job(check_fraction=0.0)
    shards = plan_shards(job.manifest, samples_per_shard=3, recipe=job.recipe)
    num_samples = []
    attempts = list(label_shards("ray", shards, job, on_samples=num_samples.append))
    assert {attempt.shard for attempt in attempts} == set(shards)
    assert {attempt.worker for attempt in attempts} == {"0", "1"}
    assert all(attempt.seconds > 0 for attempt in attempts)
    assert sum(num_samples) == NUM


def test_a_worker_that_dies_costs_no_more_than_the_shard_it_had(photographs, ray, expected):
    deaths = iter([True, False, True])
    ray.die = lambda actor, num_answers: next(deaths, False)
    label(photographs)
    assert contents(photographs.store) == expected
    # It had committed before it died, so nothing is labelled twice but what it read ahead.
    assert NUM <= photographs.num_seen() <= NUM + 2 * 4 * 3
    assert ray.num_started == 2 + 2


def test_what_a_dead_worker_had_not_committed_is_labelled_by_another(
    photographs, ray, expected, monkeypatch, caplog
):
    lost = iter([True])
    find = ray_engine.find_shard
    monkeypatch.setattr(
        ray_engine,
        "find_shard",
        lambda store, shard: None if next(lost, False) else find(store, shard),
    )
    ray.die = lambda actor, num_answers: ray.num_started == 2
    label(photographs)
    assert contents(photographs.store) == expected
    assert "attempt 1 of 3: its worker died" in caplog.text
    assert "worker 0: The actor died." in caplog.text or "worker 1: The actor died." in caplog.text


def test_a_shard_that_kills_three_workers_is_set_aside(photographs, ray, expected):
    bad = []

    def die(actor, num_answers):
        names = ray.handed_out[-1]
        bad.extend([names[0]] if not bad else [])
        if names[0] != bad[0]:
            return False
        (committed,) = photographs.store.glob(f"{names[0]}-*")
        shutil.rmtree(committed)  # it died before
        return True

    ray.wait = lambda streams, **_: ([streams[-1]], [])
    ray.die = die
    records = label(photographs)
    shards = [shard for shard, record in records if record.set_aside]
    assert [shard.name for shard in shards] == bad
    assert sum(record.num_samples for _, record in records) == NUM - len(shards[0].rows)


def test_a_worker_whose_shard_failed_is_started_anew(photographs, ray, expected):
    answer, failures = photographs.teacher.forward, iter([RuntimeError("device-side assert")])

    def fail(images):
        if (error := next(failures, None)) is not None:
            raise error
        return answer(images)

    photographs.teacher.forward = fail
    label(photographs)
    assert contents(photographs.store) == expected
    assert ray.num_started == 2 + 1


def test_a_store_that_cannot_be_written_stops_the_run(photographs, ray, expected, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_bytes(b"")
    with pytest.raises(OSError, match="blocked"):
        label(photographs, store=blocked)


def test_more_workers_than_there_is_room_for_are_refused(photographs, ray, expected):
    ray.nodes_given = ({"CPU": 1.0},)
    with pytest.raises(
        ValueError, match="expected room for 2 workers of 1 CPU each, got a cluster for 1"
    ):
        label(photographs)
    with pytest.raises(ValueError, match=r"expected room for 1 workers of 1 GPU each, .* for 0"):
        label(photographs, device=torch.device("cuda"), ray=RayOptions(None, None))


def test_as_many_workers_as_the_machines_of_the_cluster_have_room_for(photographs, ray, expected):
    ray.nodes_given = ({"CPU": 5.0}, {"CPU": 3.0}, {"CPU": 1.0, "GPU": 1.0})
    label(photographs, num_threads=2, ray=RayOptions(None, None))
    assert ray.num_started == 3
    assert ray.options == {"num_cpus": 2}


def test_a_driver_outside_the_cluster_hands_out_one_shard_at_a_time(photographs, ray, expected):
    outside = RayOptions("ray://head:10001", 2)
    ray.die = lambda actor, num_answers: actor.number == 0
    label(photographs, ray=outside)
    assert contents(photographs.store) == expected
    assert {len(shards) for shards in ray.handed_out} == {1}
    assert ray.killed == [0]


@pytest.mark.parametrize("address", ["ray://head", "head", "local", ":6379", "http://head:80"])
def test_what_is_no_address_of_a_head_is_refused(photographs, address):
    photographs.add("wild", 3)
    with pytest.raises(ValueError, match="expected the host:port of a cluster's head, from outsid"):
        label(photographs, ray=RayOptions(address, None))


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nobody_listens_is_one_line(photographs, scheme):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    photographs.add("wild", 3)
    with pytest.raises(ConnectionError, match=f"a cluster at {scheme}{address}, got .*refused"):
        label(photographs, ray=RayOptions(f"{scheme}{address}", None))


@pytest.mark.parametrize("kind", [ConnectionError, ImportError])  # the latter without grpcio
def test_a_cluster_that_does_not_answer_is_one_line(photographs, monkeypatch, kind):
    def init(**options):
        raise kind("no answer from\nhead")

    photographs.add("wild", 3)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ConnectionError, match=rf"a cluster at {address}, got no answer from$"):
            label(photographs, ray=RayOptions(address, None))
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


@pytest.mark.parametrize("client", ["", "ray://"])
def test_workers_of_a_driver_outside_are_told_where_to_import_from(
    photographs, monkeypatch, client
):
    given = {}

    def init(**options):
        given.update(options)
        raise RuntimeError("enough")

    photographs.add("wild", 3)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"{client}127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ConnectionError, match="got enough"):
            label(photographs, ray=RayOptions(address, None))
    expected = {"env_vars": {"PYTHONPATH": str(Path.cwd())}} if client else None
    assert given.get("runtime_env") == expected


@pytest.mark.parametrize("num_failures", [1, 2, 3])
def test_a_head_that_fails_to_serve_a_driver_from_outside_is_asked_thrice(
    photographs, monkeypatch, caplog, num_failures
):
    class ConnectedError(Exception):
        pass

    failures = [ConnectionAbortedError("Initialization failure\nTraceback")] * num_failures

    def init(**options):
        raise failures.pop() if failures else ConnectedError

    photographs.add("wild", 3)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    with socket.create_server(("127.0.0.1", 0)) as server:
        outside = RayOptions(f"ray://127.0.0.1:{server.getsockname()[1]}", None)
        expected = ConnectedError if num_failures < 3 else ConnectionError
        with pytest.raises(expected):
            label(photographs, ray=outside)
    assert caplog.text.count("Initialization failure; trying again") == min(num_failures, 2)
    assert not failures


def test_a_head_that_is_lost_is_one_line(photographs, monkeypatch):
    def nodes():
        raise RayError("The head is\nlost.")

    exceptions = SimpleNamespace(RayError=RayError)
    made = SimpleNamespace(
        init=lambda **_: None, shutdown=lambda: None, nodes=nodes, exceptions=exceptions
    )
    photographs.add("wild", 3)
    monkeypatch.setitem(sys.modules, "ray", made)
    with pytest.raises(ConnectionError, match=r"expected the cluster to answer, got The head is$"):
        label(photographs, ray=RayOptions("auto", None))
