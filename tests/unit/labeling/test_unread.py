"""A shard is made again for a photograph that can be read again, and for no other."""

import pytest

from dav2.labeling import unread
from dav2.labeling.unread import readable_again


@pytest.fixture
def incomplete(photographs):
    """Twelve photographs in shards, two of them gone when they were labelled; their bytes."""
    photographs.add("wild", 12)
    manifest = photographs.manifest()
    gone = {path: path.read_bytes() for path in sorted((photographs.folder / "wild").iterdir())[:2]}
    for path in gone:
        path.unlink()
    job = photographs.job(manifest, check_fraction=0.0)
    return job, gone, photographs.label(job)


def num_relabelled(photographs, job):
    photographs.teacher.batch_sizes.clear()
    finished = photographs.label(job)
    return photographs.num_seen(), sum(record.num_samples for _, record in finished)


def test_what_cannot_be_read_still_costs_nothing(photographs, incomplete):
    job, _, finished = incomplete
    assert sorted(name for _, record in finished for name in record.unread) == [
        "wild-000",
        "wild-001",
    ]
    assert num_relabelled(photographs, job) == (0, 10)


def test_a_changed_file_counts_as_unread_and_costs_nothing(photographs, incomplete):
    job, gone, _ = incomplete
    for path in gone:
        path.write_bytes(b"another")
    assert num_relabelled(photographs, job) == (0, 10)


def test_the_shard_of_a_photograph_that_is_back_is_made_again_and_no_other(photographs, incomplete):
    job, gone, finished = incomplete
    path, data = next(iter(gone.items()))
    path.write_bytes(data)
    (shard,) = [shard for shard, record in finished if "wild-000" in record.unread]
    assert readable_again(job, finished) == {shard.name}
    num_seen, num_samples = num_relabelled(photographs, job)
    assert num_seen <= len(shard.rows)
    assert num_samples == 11


def test_a_shard_whose_other_photographs_went_keeps_its_labels(photographs, incomplete):
    job, gone, finished = incomplete
    path, data = next(iter(gone.items()))
    (shard,) = [shard for shard, record in finished if "wild-000" in record.unread]
    assert len(shard.rows) > 2
    for row in shard.rows:
        (photographs.folder / "wild" / job.manifest["image"][row]).unlink(missing_ok=True)
    path.write_bytes(data)
    assert num_relabelled(photographs, job) == (1, 10)


def test_a_source_that_does_not_answer_is_left_alone(photographs, monkeypatch, caplog):
    photographs.add("wild", 30).add("more", 2)
    manifest = photographs.manifest()
    kept = {path: path.read_bytes() for path in photographs.folder.glob("*/*.jpg")}
    for path in kept:
        path.unlink()
    job = photographs.job(manifest, num_workers=1)
    finished = photographs.label(job)
    for path, data in kept.items():
        path.write_bytes(data)
    read, asked = unread.ManifestReader.read_ingested, []

    def fail(reader, index):
        asked.append(reader._rows["source"][index])
        if asked[-1] == "wild":
            raise OSError("no answer")
        return read(reader, index)

    monkeypatch.setattr(unread.ManifestReader, "read_ingested", fail)
    assert {name.partition("-")[0] for name in readable_again(job, finished)} == {"more"}
    assert asked.count("wild") == 10
    assert caplog.text.count("wild: no answer: left alone until the next run") == 1


def test_complete_shards_open_no_source(photographs):
    photographs.add("wild", 3)
    job = photographs.job()
    finished = photographs.label(job)
    for path in (photographs.folder / "wild").iterdir():
        path.unlink()
    assert readable_again(job, finished) == set()
