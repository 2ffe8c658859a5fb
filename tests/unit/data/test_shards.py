"""Shards: deterministic tars, an index of byte spans, and refusal of damaged or hostile ones."""

import io
import json
import pickle
import tarfile

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import s3fs
import webdataset
from webdataset.tariterators import group_by_keys, tar_file_expander

from dav2.data.images import decode_image, encode_jpeg
from dav2.data.shards import INDEX_SCHEMA, ShardReader, ShardWriter, read_index, write_index
from dav2.labeling.codec import EncodedLabel, decode_label, encode_label
from tests.fixtures.s3_server import environment, s3_client, s3_server

LONG_ID = "wild-" + "x" * 195
SHORT = EncodedLabel(b"2", 0.0, 0.0, "png16")


def make_sample(seed, *, label_shape=(14, 28)):
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (16, 30, 3), dtype=np.uint8)
    label = random.random(label_shape, dtype=np.float32) * 7 - 2
    return image, label


def describe(name, encoded, **changes):
    content = {
        "sample_id": name,
        "codec": encoded.codec,
        "min": encoded.minimum,
        "max": encoded.maximum,
        **changes,
    }
    return json.dumps(content).encode()


def index_row(sample_id, label, spans, *, shard="wild-b.tar"):
    return {
        "sample_id": sample_id,
        "source": "wild",
        "shard": shard,
        **spans,
        "image_width": 30,
        "image_height": 16,
        "width": label.shape[1],
        "height": label.shape[0],
        "label_min": float(label.min()),
        "label_max": float(label.max()),
        "label_p01": 0.0,
        "label_p50": 1.0,
        "label_p99": 2.0,
        "zero_fraction": 0.0,
        "degenerate": False,
        "ramp_correlation": 0.5,
        "flip_inconsistency": None,
        "scale_inconsistency": None,
    }


def write_folder(folder, sample_ids, *, packed_as="png16", **changes):
    (folder / "shards").mkdir(parents=True)
    rows = []
    with ShardWriter(folder / "shards" / "wild-b.tar") as writer:
        for seed, sample_id in enumerate(sample_ids):
            image, label = make_sample(seed)
            encoded = encode_label(label, packed_as)
            spans = writer.add(
                sample_id,
                jpeg=encode_jpeg(image, quality=95),
                label=encoded,
                description=describe(sample_id, encoded, **changes),
            )
            rows.append(index_row(sample_id, label, spans))
    write_index(pd.DataFrame(rows), folder / "manifest.parquet")
    return folder


def change_index(folder, **columns):
    rows = pq.read_table(folder / "manifest.parquet").to_pandas()
    for name, value in columns.items():
        rows[name] = value
    write_index(rows, folder / "manifest.parquet")


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


def test_refuses_an_index_that_is_missing_or_no_parquet(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected the index of a folder of shards"):
        read_index(tmp_path / "manifest.parquet")
    (tmp_path / "manifest.parquet").write_bytes(b"PAR1 but not really PAR1")
    with pytest.raises(ValueError, match="expected Parquet"):
        read_index(tmp_path / "manifest.parquet")


def test_refuses_an_index_of_other_columns(tmp_path):
    pq.write_table(INDEX_SCHEMA.empty_table().drop(["width"]), tmp_path / "manifest.parquet")
    with pytest.raises(ValueError, match="expected the columns"):
        read_index(tmp_path / "manifest.parquet")


def test_refuses_an_index_that_lists_a_sample_twice(tmp_path):
    folder = write_folder(tmp_path, ["wild-a"])
    table = pq.read_table(folder / "manifest.parquet")
    pq.write_table(table.take([0, 0]), folder / "manifest.parquet")
    with pytest.raises(ValueError, match="expected each sample once, got some twice"):
        ShardReader(folder)


@pytest.mark.parametrize("shard", ["../wild-b.tar", "/etc/passwd", "wild-b", ".tar", "a/b.tar"])
def test_refuses_a_shard_name_that_leads_elsewhere(tmp_path, shard):
    folder = write_folder(tmp_path, ["wild-a"])
    change_index(folder, shard=shard)
    with pytest.raises(ValueError, match=r"expected names as shard-01\.tar"):
        ShardReader(folder)


def test_names_a_shard_that_is_missing(tmp_path):
    folder = write_folder(tmp_path, ["wild-a"])
    change_index(folder, shard="gone.tar")
    with pytest.raises(FileNotFoundError, match=r"expected the shard gone\.tar"):
        ShardReader(folder)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("jpg_offset", -512),
        ("jpg_offset", 0),
        ("jpg_offset", 513),
        ("jpg_offset", 2**62),
        ("depth_bytes", -1),
        ("depth_bytes", 2**40),
        ("depth_bytes", 200 * 1024**2),
        ("json_bytes", 65537),
    ],
)
def test_refuses_spans_outside_the_shard(tmp_path, column, value):
    folder = write_folder(tmp_path, ["wild-a"])
    change_index(folder, **{column: value})
    with pytest.raises(ValueError, match="expected spans inside their shards, got"):
        ShardReader(folder)


def test_refuses_a_span_that_leads_to_another_member(tmp_path):
    folder = write_folder(tmp_path, ["wild-a", "wild-b"])
    rows = read_index(folder / "manifest.parquet")
    change_index(folder, jpg_offset=rows["jpg_offset"].to_numpy()[::-1])
    with pytest.raises(ValueError, match=r"expected the regular member wild-a\.jpg"):
        ShardReader(folder).read(0)


def test_refuses_a_span_without_a_header_before_it(tmp_path):
    folder = write_folder(tmp_path, ["wild-a"])
    rows = read_index(folder / "manifest.parquet")
    change_index(folder, jpg_offset=rows["jpg_offset"] + 512, jpg_bytes=rows["jpg_bytes"] - 512)
    with pytest.raises(ValueError, match=r"expected a tar member wild-a\.jpg"):
        ShardReader(folder).read(0)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.GNUTYPE_SPARSE])
def test_refuses_links_and_sparse_members(tmp_path, kind):
    folder = write_folder(tmp_path, ["wild-a"])
    row = read_index(folder / "manifest.parquet").iloc[0]
    header = tarfile.TarInfo("wild-a.jpg")
    header.size, header.type, header.linkname = int(row.jpg_bytes), kind, "/etc/passwd"
    with (folder / "shards" / "wild-b.tar").open("r+b") as tar:
        tar.seek(row.jpg_offset - 512)
        tar.write(header.tobuf(tarfile.GNU_FORMAT)[:512])
    with pytest.raises(ValueError, match=r"expected (the regular|a tar) member wild-a\.jpg"):
        ShardReader(folder).read(0)


def test_refuses_a_shard_cut_short_after_opening(tmp_path):
    folder = write_folder(tmp_path, ["wild-a"])
    reader = ShardReader(folder)
    with (folder / "shards" / "wild-b.tar").open("r+b") as tar:
        tar.truncate(600)
    with pytest.raises(ValueError, match="ends within the archive of 600 bytes"):
        reader.read(0)


@pytest.mark.parametrize(
    "changes",
    [
        {"min": None},
        {"min": "low"},
        {"max": float("nan")},
        {"max": 1e300},
        {"max": 10**400},
        {"sample_id": "wild-z"},
    ],
)
def test_refuses_json_that_does_not_describe_the_label(tmp_path, changes):
    folder = write_folder(tmp_path, ["wild-a"], **changes)
    with pytest.raises(ValueError, match=r"wild-a: expected (a label's )?JSON"):
        ShardReader(folder).read(0)


@pytest.mark.parametrize("codec", ["jpeg", None, ["png16"], {}])
def test_refuses_a_label_of_an_unknown_codec(tmp_path, codec):
    folder = write_folder(tmp_path, ["wild-a"], codec=codec)
    message = "wild-a: expected a codec of png16, htj2k16, htj2k12, got"
    with pytest.raises(ValueError, match=message) as caught:
        ShardReader(folder).read(0)
    assert "\n" not in str(caught.value)


def test_refuses_a_label_of_another_codec_than_its_json_says(tmp_path):
    folder = write_folder(tmp_path, ["wild-a"], packed_as="htj2k12", codec="png16")
    with pytest.raises(ValueError, match=r"expected the regular member wild-a\.depth\.png"):
        ShardReader(folder).read(0)
    folder = write_folder(tmp_path / "bits", ["wild-a"], packed_as="htj2k16", codec="htj2k12")
    with pytest.raises(ValueError, match="wild-a: label: expected codes of at most 4095"):
        ShardReader(folder).read(0)


@pytest.mark.parametrize(("codec", "num_steps"), [("htj2k16", 65535), ("htj2k12", 4095)])
def test_reads_every_codec_under_its_own_suffix(tmp_path, codec, num_steps):
    folder = write_folder(tmp_path, ["wild-a", LONG_ID], packed_as=codec)
    with tarfile.open(folder / "shards" / "wild-b.tar") as tar:
        assert tar.getnames()[1] == "wild-a.depth.j2c"
    reader = ShardReader(folder)
    for index in (1, 0):
        _, label = make_sample(index)
        np.testing.assert_allclose(
            reader.read(index).relative_depth,
            label,
            atol=np.ptp(label) / 2 / num_steps + 1e-6,
            rtol=0,
        )


def test_refuses_a_reversed_range_of_values(tmp_path):
    folder = write_folder(tmp_path, ["wild-a"], min=2.0, max=1.0)
    with pytest.raises(ValueError, match="wild-a: label: expected minimum <= maximum"):
        ShardReader(folder).read(0)


def test_refuses_a_picture_of_another_size_than_the_index_says(tmp_path):
    folder = write_folder(tmp_path, ["wild-a"])
    change_index(folder, height=28)
    with pytest.raises(ValueError, match="expected image and label of heights and widths"):
        ShardReader(folder).read(0)


def test_damaged_bytes_at_any_place_are_refused_or_give_the_indexed_size(tmp_path):
    folder = write_folder(tmp_path, ["wild-a"])
    shard = folder / "shards" / "wild-b.tar"
    whole = shard.read_bytes()
    reasons = []
    for place in range(0, 5 * 1024, 37):
        shard.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            sample = ShardReader(folder).read(0)
        except ValueError as error:
            reasons.append(str(error))
        else:
            assert sample.image.shape == (16, 30, 3)
            assert sample.relative_depth.shape == (14, 28)
    assert len(reasons) > 20
    assert not any("\n" in reason for reason in reasons)
