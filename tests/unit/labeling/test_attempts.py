"""What waits, what goes alone and what is given up."""

import pandas as pd
import pytest

from dav2.labeling.attempts import Attempt, WaitingShards
from dav2.labeling.plan import PlannedShard
from dav2.labeling.store import find_shard
from tests.fixtures.shard_records import RECORD

MANIFEST = pd.DataFrame({"sample_id": ["a", "b"], "source": "wild", "image": ["a.jpg", "b.jpg"]})


def shard(number):
    return PlannedShard(name=f"wild-b{number}", key=f"{number:016}", rows=(0, 1))


def waiting(count, tmp_path):
    return WaitingShards(map(shard, range(count)), store=tmp_path, manifest=MANIFEST)


def fail(shards, number):
    return list(shards.settle(Attempt(shard(number), record=None, failure="no answer")))


def test_shards_are_handed_out_in_order_and_back(tmp_path):
    shards = waiting(5, tmp_path)
    assert shards.take(2) == [shard(0), shard(1)]
    taken = shards.take(2)
    shards.give_back(taken)
    assert len(shards) == 3
    assert shards.take(9) == [shard(2), shard(3), shard(4)]
    assert shards.take(9) == []


def test_what_failed_waits_behind_the_others_and_goes_alone(tmp_path):
    shards = waiting(4, tmp_path)
    assert shards.take(1) == [shard(0)]
    assert fail(shards, 0) == []
    assert shards.take(9) == [shard(1), shard(2), shard(3)]
    shards.give_back([shard(3)])
    assert shards.take(9) == [shard(3)]
    assert shards.take(9) == [shard(0)]


def test_the_third_failure_sets_a_shard_aside_with_all_its_samples(tmp_path):
    shards = waiting(1, tmp_path)
    assert fail(shards, 0) == []
    assert fail(shards, 0) == []
    (last,) = fail(shards, 0)
    assert last.record.set_aside == "no answer"
    assert (last.record.num_refused, last.record.unread) == (2, ["a", "b"])
    assert find_shard(tmp_path, shard(0)) is None  # the next run tries again


def test_every_attempt_is_told_at_once_and_those_that_fail_too(tmp_path):
    told = []
    shards = WaitingShards([shard(0)], store=tmp_path, manifest=MANIFEST, on_attempt=told.append)
    fail(shards, 0)
    assert [attempt.failure for attempt in told] == ["no answer"]
    (last,) = shards.settle(Attempt(shard(0), record=RECORD, failure=""))
    assert [attempt.record for attempt in told] == [None, RECORD]
    assert last is told[1]


def test_ten_shards_that_fail_at_once_in_a_row_stop_and_a_success_starts_anew(tmp_path):
    shards = waiting(30, tmp_path)
    for number in range(9):
        fail(shards, number)
    list(shards.settle(Attempt(shard(9), record=RECORD, failure="")))
    for number in range(10, 19):
        fail(shards, number)
    fail(shards, 0)  # a second attempt says nothing about the others
    with pytest.raises(ValueError, match="got 10 in a row that failed, the last: no answer"):
        fail(shards, 19)
