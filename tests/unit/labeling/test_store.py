"""A shard exists completely or not at all, whatever call fails and whenever the process dies."""

import json
import os
import shutil
from pathlib import Path

import pytest

from dav2.data.files import sha256_of
from dav2.data.shards import ShardReader, ShardWriter, read_index
from dav2.labeling.plan import plan_shards
from dav2.labeling.store import (
    RefusedSample,
    commit_shard,
    find_shard,
    held_alone,
    read_refused,
)


class Killed(BaseException):
    """Stands for the death of the process: nothing in the program catches it."""


class Faults:
    """Fails the k-th call that changes the disk: before it, or after it has half happened."""

    def __init__(self, monkeypatch, *, fail_at, error):
        self.calls = 0
        self.fail_at = fail_at
        self.error = error
        for owner, name in (
            (os, "fsync"),
            (os, "link"),
            (Path, "rename"),
            (Path, "mkdir"),
            (Path, "write_text"),
            (ShardWriter, "_write"),
        ):
            monkeypatch.setattr(owner, name, self.failing(getattr(owner, name)))

    def failing(self, function):
        def call(*arguments, **options):
            self.calls += 1
            if self.calls == self.fail_at:
                if isinstance(arguments[-1], bytes):  # a torn write
                    function(*arguments[:-1], arguments[-1][: len(arguments[-1]) // 2])
                raise self.error
            return function(*arguments, **options)

        return call


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def check_history(photographs, manifest, output):
    """Every sample once among labels and refused ones; checksums, counts and members agree."""
    index = read_index(output / "manifest.parquet")
    finished = photographs.label(photographs.job(manifest))
    refused = read_refused(photographs.store, [shard for shard, _ in finished])
    listed = [*index["sample_id"], *refused["sample_id"].to_pylist()]
    assert sorted(listed) == sorted(manifest["sample_id"])
    records = json.loads((output / "shards.json").read_bytes())
    assert {f"{name}.tar" for name in records} == set(index["shard"])
    for name, record in records.items():
        assert sha256_of(output / "shards" / f"{name}.tar") == record["sha256"]
        assert (index["shard"] == f"{name}.tar").sum() == record["num_samples"]
    reader = ShardReader(output)
    assert [reader.read(i).sample_id for i in range(len(reader))] == index["sample_id"].tolist()


@pytest.mark.parametrize("error", [Killed(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("step", [19, pytest.param(9, marks=pytest.mark.slow)])
def test_a_failure_at_any_call_leaves_no_trace_in_the_result(
    photographs, tmp_path, monkeypatch, error, step
):
    photographs.add("wild", 9)
    manifest = photographs.manifest()
    manifest.loc[4, "content_hash"] = "0" * 64  # one photograph is always refused
    job = photographs.job(manifest)
    photographs.label(job, tmp_path / "expected")
    expected = tree(tmp_path / "expected")
    fail_at, num_failures = 1, 0
    while True:
        shutil.rmtree(photographs.store)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        photographs.store.mkdir()
        with monkeypatch.context() as patch:
            faults = Faults(patch, fail_at=fail_at, error=error)
            try:
                photographs.label(job, tmp_path / "out")
            except type(error):
                num_failures += 1
        is_untouched = faults.calls < fail_at
        photographs.label(job, tmp_path / "out")
        assert tree(tmp_path / "out") == expected, f"after failing call {fail_at}"
        if is_untouched:
            break
        fail_at += step
    assert num_failures > 50 / step
    check_history(photographs, manifest, tmp_path / "out")


def test_a_failed_shard_leaves_the_committed_ones_and_nothing_half_written(
    photographs, tmp_path, monkeypatch
):
    photographs.add("wild", 9)
    job = photographs.job()
    with monkeypatch.context() as patch:
        Faults(patch, fail_at=30, error=OSError(28, "No space left on device"))
        with pytest.raises(OSError, match="No space left"):
            photographs.label(job, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert {path.name for path in photographs.store.iterdir()} == {
        path.parent.name for path in photographs.store.glob("*/record.json")
    }


@pytest.mark.parametrize("name", ["shard.tar", "index.parquet", "quarantine.parquet"])
def test_a_shard_whose_bytes_changed_is_made_again(photographs, tmp_path, caplog, name):
    photographs.add("wild", 3)
    job = photographs.job()
    photographs.label(job, tmp_path / "out")
    expected = tree(tmp_path / "out")
    (changed,) = photographs.store.glob(f"*/{name}")
    whole = changed.read_bytes()
    changed.unlink()  # the published tar is the same file
    changed.write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
    photographs.label(job, tmp_path / "out")
    assert f"{name}: expected the checksum of its record, got another" in caplog.text
    assert tree(tmp_path / "out") == expected


@pytest.mark.parametrize("name", ["index.parquet", "quarantine.parquet"])
def test_a_table_that_is_damaged_unnoticed_is_named(photographs, tmp_path, name):
    photographs.add("wild", 3)
    ((shard, _),) = photographs.label(photographs.job())
    (table,) = photographs.store.glob(f"*/{name}")
    status = table.stat()
    table.write_bytes(bytes(status.st_size))
    os.utime(table, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(ValueError, match=f"{shard.key}/{name}: expected a whole Parquet file, got"):
        photographs.label(photographs.job(), tmp_path / "out")


def test_a_shard_is_not_replaced_by_one_with_fewer_labels(photographs, caplog):
    photographs.add("wild", 3)
    job = photographs.job()
    ((shard, record),) = photographs.label(job)
    refused = [
        RefusedSample(f"wild-{number:03}", "wild", "a.jpg", "gone", is_lasting=False)
        for number in range(3)
    ]
    before = tree(photographs.store)
    assert commit_shard(job.store, shard, refused, set_aside="no answer") == record
    assert tree(photographs.store) == before
    assert "expected at least the 3 labels that are there, got 0: those stay" in caplog.text
    (tar,) = photographs.store.glob("*/shard.tar")
    tar.write_bytes(b"damaged")
    assert commit_shard(job.store, shard, refused, set_aside="no answer").num_samples == 0
    assert commit_shard(job.store, shard, refused, set_aside="").num_samples == 0


@pytest.mark.parametrize("content", ["", "{", "[]", '{"key": "x"}', '{"sha256": 3}'])
def test_a_shard_with_a_damaged_record_is_made_again(photographs, tmp_path, content):
    photographs.add("wild", 3)
    job = photographs.job()
    photographs.label(job, tmp_path / "out")
    expected = tree(tmp_path / "out")
    (record,) = photographs.store.glob("*/record.json")
    record.write_text(content)
    photographs.label(job, tmp_path / "out")
    assert tree(tmp_path / "out") == expected


def test_published_shards_take_no_room_of_their_own(photographs, tmp_path):
    photographs.add("wild", 3)
    photographs.label(photographs.job(), tmp_path / "out")
    (tar,) = photographs.store.glob("*/shard.tar")
    (published,) = (tmp_path / "out" / "shards").iterdir()
    assert published.samefile(tar)


def test_shards_are_copied_where_links_are_not_possible(photographs, tmp_path, monkeypatch, caplog):
    def refuse(source, target):
        raise OSError(18, "Invalid cross-device link")

    photographs.add("wild", 3)
    monkeypatch.setattr(os, "link", refuse)
    photographs.label(photographs.job(), tmp_path / "out")
    (tar,) = photographs.store.glob("*/shard.tar")
    (published,) = (tmp_path / "out" / "shards").iterdir()
    assert published.read_bytes() == tar.read_bytes()
    assert not published.samefile(tar)
    assert caplog.text.count("with hard links, got another: 0.0 GB copied") == 1


def test_a_shard_without_a_single_label_is_kept_but_not_published(photographs, tmp_path):
    photographs.add("wild", 2)
    job = photographs.job(max_aspect_ratio=1.0)
    ((shard, record),) = photographs.label(job, tmp_path / "out")
    assert (record.num_samples, record.num_refused) == (0, 2)
    assert find_shard(job.store, shard) == record
    assert list((tmp_path / "out" / "shards").iterdir()) == []
    assert len(ShardReader(tmp_path / "out")) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_bytes())
    assert summary["coverage"] == 0
    assert summary["statistics"]["label_range"] is None


def test_a_sample_that_is_lost_or_doubled_is_noticed(photographs, tmp_path):
    photographs.add("wild", 2)
    manifest = photographs.manifest()
    job = photographs.job(manifest)
    shards = plan_shards(manifest, samples_per_shard=9, recipe=job.recipe)
    commit_shard(job.store, shards[0], [])
    with pytest.raises(ValueError, match="expected each sample once among labels and refused"):
        photographs.label(job, tmp_path / "out", samples_per_shard=9)
    assert not (tmp_path / "out").exists()


def test_one_process_at_a_time(tmp_path):
    with (
        held_alone(tmp_path / "work" / "lock", tmp_path / "out"),
        pytest.raises(ValueError, match="lock: expected one process at a time, got a second"),
        held_alone(tmp_path / "work" / "lock", tmp_path / "out"),
    ):
        pass
    with held_alone(tmp_path / "work" / "lock", tmp_path / "out"):
        assert (tmp_path / "work" / "lock").exists()


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / ".out.x1y2.part" / "out").mkdir(parents=True)
    (tmp_path / "store" / ".wild-b-00.z.part").mkdir(parents=True)
    (tmp_path / "store" / "wild-b-01").mkdir()
    (tmp_path / ".other.x1y2.part").mkdir()
    with held_alone(tmp_path / "lock", tmp_path / "out", tmp_path / "store"):
        pass
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    assert left == [".other.x1y2.part", "lock", "store", "store/wild-b-01"]


def test_a_shard_of_the_same_size_and_time_is_not_read_again_and_a_copied_one_is(
    photographs, tmp_path, monkeypatch
):
    photographs.add("wild", 3)
    job = photographs.job()
    ((shard, record),) = photographs.label(job)
    tar = photographs.store / f"{shard.name}-{shard.key}" / "shard.tar"
    hashed = []
    monkeypatch.setattr(
        "dav2.labeling.store.sha256_of", lambda path: hashed.append(path) or sha256_of(path)
    )
    assert find_shard(photographs.store, shard) == record
    assert hashed == []
    os.utime(tar, ns=(0, 0))
    assert find_shard(photographs.store, shard) == record
    assert hashed == [tar]
