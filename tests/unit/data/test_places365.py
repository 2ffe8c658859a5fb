"""Places365 in the easy format and as originally published."""

import pytest

from dav2.data.places365 import Places365
from tests.fixtures.photographs import jpeg, listed, write, write_tar


def test_the_easy_format_has_a_folder_for_each_class(tmp_path):
    easy = tmp_path / "places365_standard"
    write(easy / "train" / "airfield" / "00000001.jpg", jpeg((6, 10), 90))
    write(easy / "train" / "apartment_building-outdoor" / "00000001.jpg", jpeg())
    write(easy / "val" / "airfield" / "Places365_val_00000435.jpg", jpeg())
    write(easy / "train.txt")
    reader = Places365(tmp_path)

    assert listed(reader, "train") == [
        ("train/airfield/00000001", "airfield"),
        ("train/apartment_building-outdoor/00000001", "apartment_building-outdoor"),
    ]
    assert listed(reader, "val") == [("val/airfield/Places365_val_00000435", "airfield")]
    sample = reader.read(next(reader.list_samples("train")))
    assert sample.image.shape == (6, 10, 3)
    assert (sample.image == 90).all()
    assert sample.dataset == "places365"


def test_the_original_tars_are_read_in_place(tmp_path):
    write_tar(
        tmp_path / "train_256_places365standard.tar",
        {"data_256/a/airfield/00000001.jpg": b"", "data_256/a/arena/hockey/00000002.jpg": b""},
    )
    write_tar(tmp_path / "val_256.tar", {"val_256/Places365_val_00000001.jpg": b""})
    write(tmp_path / "test_large" / "Places365_test_00000001.jpg")
    reader = Places365(tmp_path)

    assert listed(reader, "train") == [
        ("data_256/a/airfield/00000001", "a/airfield"),
        ("data_256/a/arena/hockey/00000002", "a/arena/hockey"),
    ]
    assert listed(reader, "val") == [("val_256/Places365_val_00000001", "")]
    assert listed(reader, "test") == [("test_large/Places365_test_00000001", "")]


def test_the_easy_format_is_read_from_its_tar_too(tmp_path):
    name = "places365_standard/val/airfield/1.jpg"
    write_tar(tmp_path / "places365standard_easyformat.tar", {name: b""})

    assert listed(Places365(tmp_path), "val") == [("val/airfield/1", "airfield")]


@pytest.mark.parametrize(
    "name",
    ["airfield/1.jpg", "data_256/a/1.jpg", "val_256/Places365_test_00000001.jpg", "val/1.jpg"],
)
def test_other_layouts_are_refused(name, tmp_path):
    write(tmp_path / name)

    with pytest.raises(ValueError, match=rf"{name}: expected photographs as {{train,val}}/<class>"):
        listed(Places365(tmp_path), "train")


def test_other_splits_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected split 'train' or 'val' or 'test', got 'all'"):
        Places365(tmp_path).list_samples("all")
