"""Shards: deterministic tars, and an index of byte spans."""

import io
import json
import pickle
import tarfile

import numpy as np
import pandas as pd
import pytest
import s3fs
import webdataset
from webdataset.tariterators import group_by_keys, tar_file_expander

from dav2.data.images import decode_image, encode_jpeg
from dav2.data.shards import ShardReader, ShardWriter, read_index, write_index
from dav2.labeling.codec import decode_label
from tests.fixtures.s3_server import environment, s3_client, s3_server
from tests.fixtures.shard_folders import (
    LONG_ID,
    SHORT,
    change_index,
    make_sample,
    write_folder,
)


def test_reads_at_any_index_what_was_written(tmp_path):
    reader = ShardReader(write_folder(tmp_path, ["wild-a", "wild-b", LONG_ID]))
    assert len(reader) == 3
    for index in (2, 0, 1):
        image, label = make_sample(index)
        sample = reader.read(index)
        assert sample.sample_id == ["wild-a", "wild-b", LONG_ID][index]
        np.testing.assert_array_equal(sample.image, decode_image(encode_jpeg(image, quality=95)))
        np.testing.assert_allclose(
            sample.relative_depth, label, atol=np.ptp(label) / 131070 + 1e-6, rtol=0
        )
        assert sample.relative_depth.dtype == np.float32


def test_same_samples_give_the_same_bytes_without_time_or_owner(tmp_path):
    first = write_folder(tmp_path / "one", ["wild-a", LONG_ID])
    second = write_folder(tmp_path / "two", ["wild-a", LONG_ID])
    for name in ("shards/wild-b.tar", "manifest.parquet"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    with tarfile.open(first / "shards" / "wild-b.tar") as tar:
        for member in tar:
            assert (member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "")


def test_is_a_plain_tar_that_other_tools_stream_in_webdataset_order(tmp_path):
    folder = write_folder(tmp_path, ["wild-a", LONG_ID])
    with tarfile.open(folder / "shards" / "wild-b.tar", mode="r|") as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}
    assert list(members) == [
        f"{sample_id}{suffix}"
        for sample_id in ("wild-a", LONG_ID)
        for suffix in (".jpg", ".depth.png", ".json")
    ]
    assert json.loads(members[f"{LONG_ID}.json"])["sample_id"] == LONG_ID


def test_spans_lead_to_the_members_bytes(tmp_path):
    folder = write_folder(tmp_path, ["wild-a", LONG_ID])
    data = (folder / "shards" / "wild-b.tar").read_bytes()
    rows = read_index(folder / "manifest.parquet")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for row in rows.itertuples():
            start, size = row.jpg_offset, row.jpg_bytes
            expected = tar.extractfile(f"{row.sample_id}.jpg").read()
            assert data[start : start + size] == expected


def test_the_webdataset_library_streams_a_folder(tmp_path):
    folder = write_folder(tmp_path, ["wild-a", LONG_ID])
    streamed = webdataset.WebDataset(
        str(folder / "shards" / "wild-b.tar"), shardshuffle=False, empty_check=False
    )
    check_streamed(list(streamed), ShardReader(folder))


def test_shards_in_a_bucket_are_read_in_ranges_and_streamed(tmp_path, monkeypatch):
    folder = write_folder(tmp_path, ["wild-a", LONG_ID])
    local = ShardReader(folder)
    with s3_server() as (gate, endpoint):
        for name, value in environment(endpoint).items():
            monkeypatch.setenv(name, value)
        client = s3_client(endpoint)
        client.create_bucket(Bucket="team")
        for file in ("manifest.parquet", "shards/wild-b.tar"):
            client.upload_file(str(folder / file), "team", f"pseudo/{file}")
        reader = ShardReader("s3://team/pseudo")
        assert reader.sample_ids == local.sample_ids
        gate.asked.clear()
        for index in (1, 0):
            there, here = reader.read(index), local.read(index)
            np.testing.assert_array_equal(there.image, here.image)
            np.testing.assert_array_equal(there.relative_depth, here.relative_depth)
        ranges = [path for kind, path in gate.asked if kind == "GET"]
        assert len(ranges) == 2  # one request a sample, with the range that its index says
        assert all(path.startswith("/team/pseudo/shards/wild-b.tar#") for path in ranges)
        check_streamed(streamed_from_s3("team/pseudo/shards/wild-b.tar"), local)


def streamed_from_s3(path):
    """Streams a shard with webdataset from what s3fs opens, as docs/labels.md says."""
    with s3fs.S3FileSystem().open(path) as stream:
        files = tar_file_expander([{"url": path, "stream": stream}])
        return list(group_by_keys(files))


def check_streamed(samples, reader):
    assert [sample["__key__"] for sample in samples] == list(reader.sample_ids)
    for index, sample in enumerate(samples):
        np.testing.assert_array_equal(decode_image(sample["jpg"]), reader.read(index).image)
        described = json.loads(sample["json"])
        label = decode_label(
            sample["depth.png"],
            described["codec"],
            minimum=described["min"],
            maximum=described["max"],
        )
        np.testing.assert_array_equal(label, reader.read(index).relative_depth)


def test_refuses_members_that_lie_far_apart(tmp_path):
    folder = write_folder(tmp_path, ["wild-a"])
    with (folder / "shards" / "wild-b.tar").open("r+b") as tar:
        tar.truncate(10_000_000)
    change_index(folder, json_offset=512 * 10_000)
    with pytest.raises(ValueError, match="expected its members side by side, within"):
        ShardReader(folder).read(0)


def test_a_copy_in_another_process_reads_on_its_own(tmp_path):
    reader = ShardReader(write_folder(tmp_path, ["wild-a"]))
    reader.read(0)
    copy = pickle.loads(pickle.dumps(reader))
    del reader
    assert copy.read(0).sample_id == "wild-a"


def test_refuses_a_place_that_the_index_does_not_have(tmp_path):
    reader = ShardReader(write_folder(tmp_path, ["wild-a"]))
    with pytest.raises(IndexError, match="expected an index below 1, got 1"):
        reader.read(1)
    with pytest.raises(IndexError, match="expected an index below 1, got -1"):
        reader.read(-1)


@pytest.mark.parametrize("sample_id", ["../escape", "a.b", "", "/root", "x" * 201, "ü", "a\n"])
def test_refuses_sample_ids_that_could_lead_elsewhere(tmp_path, sample_id):
    with (
        ShardWriter(tmp_path / "x.tar") as writer,
        pytest.raises(ValueError, match="expected 1 to 200 of A-Z"),
    ):
        writer.add(sample_id, jpeg=b"", label=SHORT, description=b"")


def test_refuses_the_same_sample_twice(tmp_path):
    with ShardWriter(tmp_path / "x.tar") as writer:
        writer.add("a", jpeg=b"1", label=SHORT, description=b"3")
        with pytest.raises(ValueError, match="expected each sample once, got it twice"):
            writer.add("a", jpeg=b"1", label=SHORT, description=b"3")


def test_refuses_a_member_that_no_reader_would_accept(tmp_path):
    with (
        ShardWriter(tmp_path / "x.tar") as writer,
        pytest.raises(ValueError, match="expected at most 65536 bytes of json, got 65537"),
    ):
        writer.add("a", jpeg=b"", label=SHORT, description=bytes(65537))


def test_a_failed_block_leaves_no_end_of_archive(tmp_path):
    def write_and_fail():
        with ShardWriter(tmp_path / "x.tar") as writer:
            writer.add("a", jpeg=b"1", label=SHORT, description=b"3")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_and_fail()
    assert (tmp_path / "x.tar").stat().st_size == 3 * 1024


def test_index_refuses_missing_and_repeated_rows(tmp_path):
    rows = read_index(write_folder(tmp_path, ["wild-a"]) / "manifest.parquet")
    with pytest.raises(ValueError, match="expected the columns"):
        write_index(rows.drop(columns="width"), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="expected each sample once, got 'wild-a' twice"):
        write_index(pd.concat([rows, rows]), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="expected rows of the index"):
        write_index(rows.assign(width="wide"), tmp_path / "x.parquet")
