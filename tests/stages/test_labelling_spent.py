"""What was spent outlives the run that spent it."""

from types import SimpleNamespace

import pytest

from dav2.labeling.attempts import Attempt
from dav2.labeling.plan import PlannedShard
from stages import labelling_spent
from stages.labelling_spent import Spent, SpentLog
from tests.fixtures.shard_records import RECORD


@pytest.fixture
def clock(monkeypatch):
    """The seconds that all clocks show."""
    now = SimpleNamespace(s=100.0)
    monkeypatch.setattr(labelling_spent.time, "monotonic", lambda: now.s)
    monkeypatch.setattr(labelling_spent.time, "time_ns", lambda: int(now.s * 1e9))
    return now


def attempt(name, *, worker="0", seconds=4.0, energy_j=None, failure=""):
    shard = PlannedShard(name, "k", tuple(range(20)))
    record = None if failure else RECORD
    return Attempt(
        shard, record=record, failure=failure, worker=worker, seconds=seconds, energy_j=energy_j
    )


def killed_run(path, clock):
    """Two workers finish a shard each within 8 seconds; a third shard fails."""
    log = SpentLog(path)
    clock.s += 4
    log.add(attempt("wild-b0", energy_j=700.0))
    clock.s += 3
    log.add(attempt("wild-b1", worker="1", seconds=7.0, failure="no answer"))
    clock.s += 1
    log.add(attempt("wild-b1", worker="1", seconds=1.0))
    clock.s += 50  # of which nothing is known


def test_what_a_killed_run_and_a_failed_attempt_have_spent_counts(tmp_path, clock):
    killed_run(tmp_path / "spent.jsonl", clock)
    log = SpentLog(tmp_path / "spent.jsonl")
    clock.s += 5
    log.add(attempt("wild-b2", energy_j=300.0))
    clock.s += 1
    assert log.end() == Spent(
        labelling_s=8.0 + 6.0,
        worker_s=2 * 8.0 + 6.0,
        energy_j=1000.0,
        num_images=60,
        num_failures=1,
    )


def test_a_shard_made_twice_is_paid_twice_and_counted_once(tmp_path, clock):
    for _ in range(2):
        log = SpentLog(tmp_path / "spent.jsonl")
        clock.s += 4
        log.add(attempt("wild-b0", energy_j=700.0))
        spent = log.end()
    assert spent == Spent(8.0, 8.0, 1400.0, 20, 0)


@pytest.mark.parametrize("num_bytes", [1, 30, 120])
def test_a_torn_last_line_is_ignored_and_spoils_no_other(tmp_path, clock, num_bytes):
    path = tmp_path / "spent.jsonl"
    killed_run(path, clock)
    path.write_bytes(path.read_bytes()[:-num_bytes] + b'{"run')
    log = SpentLog(path)
    clock.s += 6
    log.add(attempt("wild-b2"))
    assert log.end() == Spent(7.0 + 6.0, 2 * 7.0 + 6.0, 700.0, 40, 1)


def test_a_run_without_attempts_tells_what_others_have_spent(tmp_path, clock):
    assert SpentLog(tmp_path / "spent.jsonl").end() == Spent(0, 0, None, 0, 0)
    killed_run(tmp_path / "spent.jsonl", clock)
    before = (tmp_path / "spent.jsonl").read_bytes()
    assert SpentLog(tmp_path / "spent.jsonl").end() == Spent(8.0, 16.0, 700.0, 40, 1)
    assert (tmp_path / "spent.jsonl").read_bytes() == before


def test_a_file_that_cannot_be_written_costs_the_record_alone(tmp_path, clock, caplog):
    log = SpentLog(tmp_path / "missing" / "spent.jsonl")
    log.add(attempt("wild-b0"))
    assert log.end() == Spent(0, 0, None, 0, 0)
    assert "spent.jsonl: expected to write what was spent, got" in caplog.text
