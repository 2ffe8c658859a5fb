"""Photographs are found in folders and in tars alike, and none is dropped in silence."""

import re

import pytest

from dav2.data.photographs import Photograph, PhotographReader, list_photographs
from dav2.data.storage import LocalStorage
from tests.fixtures.photographs import jpeg, write, write_tar


class Plain(PhotographReader):
    """Photographs named by letters, in a folder of their split."""

    _dataset = "plain"
    _layout = "<split>/<letters>.jpg"
    _pattern = re.compile(r"(?P<split>\w+)/(?:(?P<scene>\d+)/)?(?P<id>[a-z]+)\.jpg")

    def list_samples(self, split):
        return self._stream(split)


def test_a_tar_is_listed_as_if_it_were_unpacked_beside_itself(tmp_path):
    for name in ("b.JPG", "a.jpeg", "c/d.png", "c/e.webp", "c/notes.txt", ".h/f.jpg", "c/._d.png"):
        write(tmp_path / name)
    members = {"./g.jpg": b"tar 1", "in/./h.PNG": b"tar 2", "h.json": b"", ".i.jpg": b""}
    write_tar(tmp_path / "c" / "x.tar", members)
    write_tar(tmp_path / ".hidden.tar", members)
    storage = LocalStorage(tmp_path)

    found = list(list_photographs(storage))

    assert [photograph.name for photograph in found] == [
        "a.jpeg",
        "b.JPG",
        "c/d.png",
        "c/e.webp",
        "c/x/g.jpg",
        "c/x/in/h.PNG",
    ]
    assert storage.read(found[5].path) == b"tar 2"
    assert next(list_photographs(storage, "c")) == Photograph("c/d.png", "c/d.png")


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "x.tar.xz", "x.TAR.ZST", "x.tbz2"])
def test_compressed_tars_are_refused_rather_than_left_out(name, tmp_path):
    write(tmp_path / "a.jpg")
    write(tmp_path / name)

    with pytest.raises(ValueError, match=rf"{name}: expected an uncompressed archive"):
        list(list_photographs(LocalStorage(tmp_path)))


def test_a_reader_takes_split_scene_and_id_from_names(tmp_path):
    write(tmp_path / "train" / "one.jpg", jpeg(level=80))
    write(tmp_path / "val" / "two.jpg")
    write_tar(tmp_path / "train" / "007.tar", {"three.jpg": jpeg(level=120)})
    reader = Plain(tmp_path)

    samples = list(reader.list_samples("train"))

    assert [(files.sample_id, files.scene) for files in samples] == [("three", "007"), ("one", "")]
    for files, level in zip(samples, (120, 80), strict=True):
        sample = reader.read(files)
        assert sample.image.shape == (7, 9, 3)
        assert abs(int(sample.image[3, 3, 0]) - level) < 3
        assert (sample.dataset, sample.scene) == ("plain", files.scene)
        assert sample.depth is None
        assert sample.valid is None
        assert reader.read_bytes(files.image) == jpeg(level=level)


def test_a_photograph_of_another_name_is_refused(tmp_path):
    write_tar(tmp_path / "train.tar", {"one.jpg": b"", "one two.jpg": b""})

    samples = Plain(tmp_path).list_samples("train")

    assert next(samples).sample_id == "one"
    with pytest.raises(
        ValueError, match=r"#one two.jpg: expected photographs as <split>/<letters>\.jpg, got anot"
    ):
        next(samples)


def test_nothing_of_a_split_is_an_error(tmp_path):
    write(tmp_path / "train" / "one.jpg")

    with pytest.raises(ValueError, match="expected samples of split 'val', got none"):
        list(Plain(tmp_path).list_samples("val"))
    with pytest.raises(FileNotFoundError, match="misspelt: expected the folder of a dataset"):
        list(Plain(tmp_path / "misspelt").list_samples("val"))


def test_a_member_that_is_no_image_says_which(tmp_path):
    write_tar(tmp_path / "train.tar", {"one.jpg": b"nothing"})
    reader = Plain(tmp_path)

    with pytest.raises(ValueError, match=r"train\.tar#\d+\+7#one\.jpg: expected a JPEG, PNG or"):
        reader.read(next(reader.list_samples("train")))


def test_the_pixel_limit_holds_within_tars(tmp_path):
    write_tar(tmp_path / "train.tar", {"one.jpg": jpeg()})
    reader = Plain(tmp_path, max_pixels=62)

    with pytest.raises(ValueError, match="expected an image of 1 to 62 pixels, got 9 x 7"):
        reader.read(next(reader.list_samples("train")))
