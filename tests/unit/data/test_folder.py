"""A folder of photographs, however arranged."""

import numpy as np
import pytest
from PIL import Image

from dav2.data.folder import ImageFolder


def photograph(path, level=50):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 6, 3), level, np.uint8)).save(path)


def test_finds_images_at_any_depth_and_leaves_the_rest(tmp_path):
    for name in ("b.JPG", "a.png", "deep/er/c.webp", ".hidden/d.jpg", "deep/.e.jpg"):
        photograph(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "folder.jpg").mkdir()

    samples = sorted(ImageFolder(tmp_path).list_samples("all"), key=lambda files: files.sample_id)

    assert [files.image for files in samples] == ["a.png", "b.JPG", "deep/er/c.webp"]
    assert [files.scene for files in samples] == ["", "", "deep/er"]


def test_a_name_keeps_its_suffix_so_that_two_formats_are_two_photographs(tmp_path):
    photograph(tmp_path / "a.jpg")
    photograph(tmp_path / "a.png")

    ids = sorted(files.sample_id for files in ImageFolder(tmp_path).list_samples("all"))

    assert ids == ["a.jpg", "a.png"]


def test_a_photograph_has_no_depth(tmp_path):
    photograph(tmp_path / "a.png", level=77)
    reader = ImageFolder(tmp_path)

    sample = reader.read(next(reader.list_samples("all")))

    assert sample.depth is None
    assert sample.valid is None
    assert (sample.image == 77).all()


def test_the_pixel_limit_reaches_the_decoder(tmp_path):
    photograph(tmp_path / "a.png")
    reader = ImageFolder(tmp_path, max_pixels=23)

    with pytest.raises(ValueError, match=r"a\.png: expected an image of 1 to 23 pixels"):
        reader.read(next(reader.list_samples("all")))


def test_nothing_to_read_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="expected samples of split 'all', got none"):
        list(ImageFolder(tmp_path).list_samples("all"))
    with pytest.raises(ValueError, match="expected split 'all', got 'train'"):
        ImageFolder(tmp_path).list_samples("train")
    with pytest.raises(FileNotFoundError, match="misspelt: expected the folder of a dataset"):
        list(ImageFolder(tmp_path / "misspelt").list_samples("all"))
