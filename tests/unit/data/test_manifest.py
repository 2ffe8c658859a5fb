"""Manifests keep every value, the same bytes for the same rows, and unique names."""

import re

import pandas as pd
import pytest

from dav2.data.manifest import (
    MANIFEST_SCHEMA,
    ManifestWriter,
    extra_files,
    marked_name,
    read_manifest,
    sample_name,
    write_manifest,
)


def row(sample_id="photos-a", **changes):
    return {
        **dict.fromkeys(MANIFEST_SCHEMA.names),
        "sample_id": sample_id,
        "source": "photos",
        "dataset": "folder",
        "domain": "mixed",
        "split": "all",
        "scene": "",
        "image": "a.jpg",
        "extra": '["x.csv"]',
        "width": 5,
        "height": 7,
        "decoder": "0123456789abcdef",
        "brightness": 0.1,
        **changes,
    }


def test_rows_come_back_sorted_with_their_values(tmp_path):
    path = tmp_path / "m.parquet"
    frame = pd.DataFrame([row("photos-b", depth="b.png"), row("photos-a", depth_constant=True)])

    write_manifest(frame, path)
    back = read_manifest(path)

    assert back["sample_id"].tolist() == ["photos-a", "photos-b"]
    assert back["width"].tolist() == [5, 5]
    assert back["brightness"].tolist() == [0.1, 0.1]
    assert back["depth"].isna().tolist() == [True, False]
    assert back["reason"].isna().all()
    assert back["depth_constant"][0]
    assert extra_files(back["extra"][0]) == ("x.csv",)


def test_the_same_rows_give_the_same_bytes_in_any_order_and_after_a_round_trip(tmp_path):
    rows = [row("photos-a"), row("photos-b", reason="no"), row("photos-c", width=None)]
    paths = [tmp_path / name for name in ("first", "turned", "again")]

    write_manifest(pd.DataFrame(rows), paths[0])
    write_manifest(pd.DataFrame(rows[::-1])[MANIFEST_SCHEMA.names[::-1]], paths[1])
    write_manifest(read_manifest(paths[0]), paths[2])

    first, *others = [path.read_bytes() for path in paths]
    assert others == [first, first]


def test_parts_make_one_manifest(tmp_path):
    with ManifestWriter(tmp_path / "m.parquet") as writer:
        writer.write([row("photos-a"), row("photos-b")])
        writer.write([])
        writer.write([row("photos-c")])

    assert read_manifest(tmp_path / "m.parquet")["sample_id"].tolist() == [
        "photos-a",
        "photos-b",
        "photos-c",
    ]


def test_a_manifest_without_rows_can_be_read(tmp_path):
    with ManifestWriter(tmp_path / "m.parquet"):
        pass

    assert len(read_manifest(tmp_path / "m.parquet")) == 0


def test_other_columns_and_repeated_samples_are_refused(tmp_path):
    with pytest.raises(ValueError, match="got missing or unknown colour, width"):
        write_manifest(pd.DataFrame([row()]).rename(columns={"width": "colour"}), tmp_path / "m")
    with pytest.raises(ValueError, match="expected each sample once, got photos-a twice"):
        write_manifest(pd.DataFrame([row(), row()]), tmp_path / "m")


def test_other_files_are_no_manifests(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a manifest, got nothing there"):
        read_manifest(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("text")
    with pytest.raises(ValueError, match="expected a Parquet file"):
        read_manifest(tmp_path / "text.parquet")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="expected the manifest's columns, got a"):
        read_manifest(tmp_path / "other.parquet")


def test_names_hold_only_what_a_tar_member_may():
    name = sample_name("drive", "Scene01/15-deg-left/Camera_0/00007")

    assert name == "drive-Scene01_15-deg-left_Camera_0_00007"
    assert sample_name("drive", "ä.JPG") == "drive-__JPG"


def test_marked_names_end_in_a_hash_of_their_own():
    first, second = (marked_name(sample_name("a", name), name) for name in ("a b", "a_b"))

    assert first != second
    assert all(re.fullmatch(r"a-a_b-[0-9a-f]{8}", name) for name in (first, second))


def test_long_names_are_cut_and_stay_apart():
    first, second = (sample_name("photos", "x" * 300 + end) for end in "12")

    assert len(first) == len(second) == 200
    assert first != second


def test_a_source_with_another_name_is_refused():
    with pytest.raises(ValueError, match="'my-photos': expected a name of letters, digits"):
        sample_name("my-photos", "a")
