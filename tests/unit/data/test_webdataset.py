"""Any WebDataset: one photograph a key, the tar as the scene."""

import pytest

from dav2.data.webdataset import WebDataset, WebDatasetOptions
from tests.fixtures.photographs import jpeg, listed, write, write_tar


def test_the_image_of_each_key_is_read_in_place(tmp_path):
    write_tar(
        tmp_path / "set-train-0000.tar",
        {
            "0001.cls": b"3",
            "0001.jpg": jpeg(),
            "0001.json": b"{}",
            "in/0001.webp": jpeg((6, 10), 90, "WEBP"),
            "in/0002.PNG": jpeg(form="PNG"),
            "0003.jpeg": b"damaged",
        },
    )
    write(tmp_path / "_info.json")
    write(tmp_path / "loose.jpg")
    reader = WebDataset(tmp_path)

    assert listed(reader, "all") == [
        ("set-train-0000/0001", "set-train-0000"),
        ("set-train-0000/in/0001", "set-train-0000"),
        ("set-train-0000/in/0002", "set-train-0000"),
        ("set-train-0000/0003", "set-train-0000"),
    ]
    samples = list(reader.list_samples("all"))
    sample = reader.read(samples[1])
    assert sample.image.shape == (6, 10, 3)
    assert abs(int(sample.image[3, 3, 0]) - 90) < 3
    assert sample.dataset == "webdataset"
    assert sample.depth is None
    with pytest.raises(ValueError, match=r"0003\.jpeg: expected a JPEG, PNG or WebP image"):
        reader.read(samples[3])


def test_other_images_of_a_key_are_told_by_their_kind(tmp_path):
    write_tar(
        tmp_path / "a.tar", {"1.jpg": b"", "1.seg.png": b"", "1.depth.png": b"", ".2.jpg": b""}
    )

    assert listed(WebDataset(tmp_path), "all") == [("a/1", "a")]


def test_two_images_of_one_key_are_refused(tmp_path):
    write_tar(tmp_path / "a.tar", {"1.jpg": b"", "1.json": b"", "1.png": b""})

    with pytest.raises(ValueError, match=r"a\.tar: expected one image a sample, got two of '1'"):
        listed(WebDataset(tmp_path), "all")


def test_a_pattern_chooses_tars(tmp_path):
    for name in ("x-train-0.tar", "sub/x-train-1.tar", "x-val-0.tar", "x-test-0.tar.gz"):
        write_tar(tmp_path / name, {"1.jpg": b""})
    reader = WebDataset(tmp_path, options=WebDatasetOptions(archives="*x-train-*.tar"))

    assert listed(reader, "all") == [
        ("x-train-0/1", "x-train-0"),
        ("sub/x-train-1/1", "sub/x-train-1"),
    ]
    with pytest.raises(ValueError, match=r"x-test-0\.tar\.gz: expected an uncompressed archive"):
        listed(WebDataset(tmp_path), "all")


def test_an_empty_pattern_is_refused():
    with pytest.raises(ValueError, match="archives: expected"):
        WebDatasetOptions(archives="")


def test_nothing_to_read_is_an_error(tmp_path):
    write_tar(tmp_path / "a.tar", {"1.txt": b""})

    with pytest.raises(ValueError, match="expected samples of split 'all', got none"):
        listed(WebDataset(tmp_path), "all")
    with pytest.raises(ValueError, match="expected split 'all', got 'train'"):
        WebDataset(tmp_path).list_samples("train")
