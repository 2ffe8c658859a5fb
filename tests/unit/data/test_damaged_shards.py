"""Damaged and hostile shards and indices are refused."""

import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest

from dav2.data.shards import INDEX_SCHEMA, ShardReader, read_index
from tests.fixtures.shard_folders import LONG_ID, change_index, make_sample, write_folder


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
