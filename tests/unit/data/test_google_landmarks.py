"""Google Landmarks' layout: photographs under the first characters of their id."""

import pytest

from dav2.data.google_landmarks import GoogleLandmarks
from tests.fixtures.photographs import jpeg, listed, write, write_tar


def test_tars_and_folders_of_a_split_are_read(tmp_path):
    write_tar(
        tmp_path / "train" / "images_000.tar",
        {"0/1/2/0123456789abcdef.jpg": jpeg((6, 10), 90), "0/1/f/01f3456789abcdef.jpg": jpeg()},
    )
    write(tmp_path / "train" / "a" / "b" / "c" / "abc0000000000000.jpg", jpeg())
    write(tmp_path / "index" / "a" / "b" / "d" / "abd0000000000000.jpg", jpeg())
    reader = GoogleLandmarks(tmp_path)

    assert listed(reader, "train") == [
        ("0123456789abcdef", "0/1/2"),
        ("01f3456789abcdef", "0/1/f"),
        ("abc0000000000000", "a/b/c"),
    ]
    assert listed(reader, "index") == [("abd0000000000000", "a/b/d")]
    sample = reader.read(next(reader.list_samples("train")))
    assert sample.image.shape == (6, 10, 3)
    assert (sample.image == 90).all()
    assert sample.dataset == "google_landmarks"


@pytest.mark.parametrize("name", ["0/1/3/0123456789abcdef.jpg", "0/1/2/012345.jpg", "0.jpg"])
def test_an_image_that_lies_elsewhere_is_refused(name, tmp_path):
    write_tar(tmp_path / "train" / "images_000.tar", {name: b"x"})

    with pytest.raises(ValueError, match=f"#{name}: expected photographs as <a>/<b>/<c>/<id>"):
        listed(GoogleLandmarks(tmp_path), "train")


def test_a_split_is_a_folder_of_the_root(tmp_path):
    write_tar(tmp_path / "images_000.tar", {"0/1/2/0123456789abcdef.jpg": b"x"})

    with pytest.raises(FileNotFoundError, match="train: expected the folder of a dataset"):
        listed(GoogleLandmarks(tmp_path), "train")
    with pytest.raises(ValueError, match="expected split 'train' or 'index' or 'test', got 'all'"):
        GoogleLandmarks(tmp_path).list_samples("all")
