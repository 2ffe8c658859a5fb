"""Ray's workers that do not start, do not answer or are not fit: what becomes of their shards."""

import itertools
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from dav2.labeling import ray_engine
from dav2.labeling.job import RayOptions
from tests.fixtures.rays import RayError, RayTaskError

NUM = 15


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by two minutes whenever it is read."""
    seconds = itertools.count(0, 120)
    here = SimpleNamespace(monotonic=lambda: float(next(seconds)))
    monkeypatch.setattr(ray_engine, "time", here)  # the engine's alone


def label(photographs, **changes):
    job = photographs.job(check_fraction=0.0)
    records = photographs.label(replace(job, **changes), samples_per_shard=3, engine="ray")
    assert not any(record.set_aside for _, record in records)
    assert sum(record.num_samples for _, record in records) == NUM
    return records


def test_a_worker_that_finds_no_room_gets_no_shards_and_is_named(photographs, ray, clock, caplog):
    photographs.add("wild", NUM)
    ray.hangs = lambda actor: actor.number == 1
    label(photographs)
    assert set(ray.labelled_by) == {0}
    assert ray.killed == []
    assert "waiting for workers 1 (not started for" in caplog.text


def test_a_worker_that_is_silent_for_too_long_is_ended_and_others_get_its_shards(
    photographs, ray, clock, caplog
):
    photographs.add("wild", NUM)
    ray.hangs = lambda actor: actor.number == 1 and len(ray.handed_out) > 1
    label(photographs)
    assert ray.killed == [1]
    assert 1 not in ray.labelled_by
    assert "waiting for workers 1 (silent for" in caplog.text
    assert "worker 1: silent for " in caplog.text
    assert "attempt 1 of 3: its worker died" in caplog.text


def test_nobody_is_ended_before_the_first_shard_is_finished(photographs, ray, clock, caplog):
    photographs.add("wild", NUM)
    looks = itertools.count()
    ray.hangs = lambda actor: len(ray.handed_out) == 2 and next(looks) < 100
    label(photographs)
    assert ray.killed == []
    assert "0 (silent for" in caplog.text
    assert "1 (silent for" in caplog.text


def test_an_answer_that_waits_for_the_driver_is_no_silence(photographs, ray, monkeypatch):
    photographs.add("wild", NUM)
    late_s = [0.0]
    here = SimpleNamespace(monotonic=lambda: time.monotonic() + late_s[0])
    monkeypatch.setattr(ray_engine, "time", here)
    settle = ray_engine.WaitingShards.settle

    def settle_slowly(self, attempt):
        late_s[0] += 1e6 if len(ray.labelled_by) > 1 else 0
        yield from settle(self, attempt)

    monkeypatch.setattr(ray_engine.WaitingShards, "settle", settle_slowly)
    label(photographs)
    assert ray.killed == []


def test_a_worker_that_cannot_start_is_given_up_while_the_others_go_on(photographs, ray, caplog):
    photographs.add("wild", NUM)
    errors = [RuntimeError("CUDA error: uncorrectable ECC error\nmany\nlines")] * 3
    ray.fail_to_start = lambda actor: (
        RayTaskError(errors.pop()) if actor.number != 1 and errors else None
    )
    label(photographs)
    assert ray.num_started == 2 + 2
    assert set(ray.labelled_by) == {1}
    assert "worker 0: given up, the last failure: CUDA error: uncorrectable ECC" in caplog.text
    assert "many" not in caplog.text


def test_a_worker_whose_shards_fail_again_and_again_is_given_up(photographs, ray, monkeypatch):
    photographs.add("wild", NUM)
    monkeypatch.setattr(ray_engine, "find_shard", lambda store, shard: None)
    ray.die = lambda actor, num_answers: actor.number != 1
    label(photographs)
    assert set(ray.labelled_by) == {1}
    assert len(ray.killed) == 3


@pytest.mark.parametrize("num_workers", [1, 2])
def test_the_only_worker_that_labels_is_not_given_up_for_its_shards(
    photographs, ray, monkeypatch, num_workers
):
    photographs.add("wild", NUM)
    monkeypatch.setattr(ray_engine, "find_shard", lambda store, shard: None)
    ray.hangs = lambda actor: actor.number == 1 and num_workers == 2  # without a place
    ray.die = lambda actor, num_answers: actor.number < 5
    label(photographs, ray=RayOptions(None, num_workers))
    assert ray.num_started == 6
    assert set(ray.labelled_by) == {5}


def test_the_run_ends_in_one_line_if_no_worker_can_start(photographs, ray):
    photographs.add("wild", NUM)
    ray.fail_to_start = lambda actor: RayError("The actor died\nmany\nlines")
    with pytest.raises(
        ValueError, match=r"^ray: expected a worker that can label, got none, the last: The actor d"
    ) as error:
        label(photographs)
    assert "many" not in str(error.value)
    assert ray.num_started == 6


def test_a_machine_with_another_teacher_code_or_library_is_refused(photographs, ray, caplog):
    def verify():
        raise ValueError("teacher: expected aaaa as the driver has, got bbbb")

    photographs.add("wild", NUM)
    with pytest.raises(ValueError, match=r"got none, the last: \S+: teacher: expected aaaa as the"):
        label(photographs, verify=verify)
    assert ray.handed_out == []


def test_a_machine_with_a_store_of_its_own_is_refused(photographs, ray, monkeypatch):
    photographs.add("wild", NUM)
    monkeypatch.setattr(ray_engine, "_MARK", ".other")
    check = ray_engine._check_mark

    def check_elsewhere(store, mark):
        check(store / "elsewhere", mark)

    monkeypatch.setattr(ray_engine, "_check_mark", check_elsewhere)
    with pytest.raises(ValueError, match=r"elsewhere: expected the folder that \S+ writes to, got"):
        label(photographs)
    assert list(photographs.store.iterdir()) == []


def test_a_lost_rack_does_not_end_the_run(photographs, ray, monkeypatch):
    photographs.add("wild", 48)
    monkeypatch.setattr(ray_engine, "find_shard", lambda store, shard: None)
    ray.nodes_given = ({"CPU": 8.0}, {"CPU": 8.0})
    lost = []

    def die(actor, num_answers):
        lost.extend([actor.number] if actor.number < 14 and num_answers == 1 else [])
        return actor.number in lost

    ray.die = die
    job = photographs.job(check_fraction=0.0)
    job = replace(job, ray=RayOptions(None, None))
    records = photographs.label(job, samples_per_shard=1, engine="ray")
    assert len(lost) == 14
    assert sum(record.num_samples for _, record in records) == 48
