"""SA-1B's layout, in tars and unpacked."""

import pytest

from dav2.data.sa1b import Sa1b
from tests.fixtures.photographs import jpeg, listed, write, write_tar


def test_reads_tars_in_place_and_folders_of_the_release(tmp_path):
    write_tar(
        tmp_path / "sa_000000.tar",
        {"./sa_1.jpg": jpeg(), "./sa_1.json": b"{}", "./sa_20.jpg": jpeg((6, 10), 90)},
    )
    write(tmp_path / "sa_000001" / "sa_3.jpg", jpeg())
    write(tmp_path / "sa_4.jpg", jpeg())
    write(tmp_path / "sa_4.json", b"{}")
    reader = Sa1b(tmp_path)

    assert listed(reader, "all") == [
        ("sa_1", "sa_000000"),
        ("sa_20", "sa_000000"),
        ("sa_4", ""),
        ("sa_3", "sa_000001"),
    ]
    sample = reader.read(list(reader.list_samples("all"))[1])
    assert sample.image.shape == (6, 10, 3)
    assert (sample.image == 90).all()
    assert sample.dataset == "sa1b"
    assert sample.depth is None


def test_a_set_both_packed_and_unpacked_repeats_its_ids(tmp_path):
    write_tar(tmp_path / "sa_000000.tar", {"sa_1.jpg": b"x"})
    write(tmp_path / "sa_000000" / "sa_1.jpg")

    ids = [name for name, _ in listed(Sa1b(tmp_path), "all")]

    assert ids == ["sa_1", "sa_1"]  # which ingest refuses


def test_other_names_and_splits_are_refused(tmp_path):
    write_tar(tmp_path / "sa_000000.tar", {"preview.jpg": b"x"})

    with pytest.raises(ValueError, match=r"preview\.jpg: expected photographs as sa_N\.jpg"):
        listed(Sa1b(tmp_path), "all")
    with pytest.raises(ValueError, match="expected split 'all', got 'train'"):
        Sa1b(tmp_path).list_samples("train")
