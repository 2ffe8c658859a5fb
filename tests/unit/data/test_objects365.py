"""Objects365's layout: patches of training and validation photographs."""

import pytest

from dav2.data.objects365 import Objects365
from tests.fixtures.photographs import jpeg, listed, write, write_tar


def test_patches_are_read_in_tars_and_unpacked(tmp_path):
    write_tar(
        tmp_path / "train" / "patch0.tar",
        {"patch0/objects365_v1_00000001.jpg": jpeg((6, 10), 90), "patch0/readme.txt": b""},
    )
    write_tar(tmp_path / "train" / "patch16.tar", {"objects365_v2_00000002.jpg": jpeg()})
    write(tmp_path / "train" / "patch9" / "objects365_v1_00000003.jpg", jpeg())
    write(tmp_path / "train" / "objects365_v1_00000004.jpg", jpeg())
    write(tmp_path / "val" / "images" / "v1" / "patch3" / "objects365_v1_00000005.jpg", jpeg())
    write(tmp_path / "val" / "images" / "objects365_v1_00000006.jpg", jpeg())
    write(tmp_path / "train" / "zhiyuan_objv2_train.json", b"{}")
    reader = Objects365(tmp_path)

    assert listed(reader, "train") == [
        ("objects365_v1_00000004", ""),
        ("objects365_v1_00000001", "patch0"),
        ("objects365_v2_00000002", "patch16"),
        ("objects365_v1_00000003", "patch9"),
    ]
    assert listed(reader, "val") == [
        ("objects365_v1_00000006", ""),
        ("objects365_v1_00000005", "patch3"),
    ]
    sample = reader.read(list(reader.list_samples("train"))[1])
    assert sample.image.shape == (6, 10, 3)
    assert (sample.image == 90).all()
    assert sample.dataset == "objects365"


@pytest.mark.parametrize("name", ["train/1.jpg", "patch0/objects365_v1_00000001.jpg"])
def test_other_names_and_folders_are_refused(name, tmp_path):
    write(tmp_path / name)

    with pytest.raises(ValueError, match=rf"{name}: expected photographs as {{train,val}}/"):
        listed(Objects365(tmp_path), "train")


def test_archives_as_downloaded_must_be_gunzipped(tmp_path):
    write(tmp_path / "train" / "patch0.tar.gz")

    with pytest.raises(ValueError, match=r"patch0\.tar\.gz: expected an uncompressed.*gunzip"):
        listed(Objects365(tmp_path), "train")


def test_other_splits_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected split 'train' or 'val', got 'test'"):
        Objects365(tmp_path).list_samples("test")
