"""Photographs that a list names: none of them outside the root."""

import numpy as np
import pytest
from PIL import Image

from dav2.data.storage import LocalStorage
from dav2.data.uri_list import UriList, UriListOptions


class Bucket(LocalStorage):
    """Storage with an address, as a bucket has."""

    def where(self, path=""):
        return f"s3://bucket/photos/{path}".removesuffix("/")


def opened(root, text, listing="list.txt"):
    data = text if isinstance(text, bytes) else text.encode()
    (root / listing).write_bytes(data)
    return UriList(root, options=UriListOptions(listing=listing))


def listed(reader):
    return [(files.image, files.scene) for files in reader.list_samples("all")]


def test_reads_what_the_list_names_in_its_order(tmp_path):
    for name, size in (("b.jpg", (7, 9)), ("in/a picture.PNG", (6, 10))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(tmp_path / name)
    reader = opened(tmp_path, "\ufeffin/a picture.PNG\r\n\n./b.jpg\nin//gone.jpg")

    samples = list(reader.list_samples("all"))

    assert [files.sample_id for files in samples] == ["in/a picture.PNG", "b.jpg", "in/gone.jpg"]
    assert listed(reader) == [("in/a picture.PNG", "in"), ("b.jpg", ""), ("in/gone.jpg", "in")]
    sample = reader.read(samples[0])
    assert (sample.image == 90).all()
    assert sample.image.shape == (6, 10, 3)
    assert (sample.dataset, sample.depth) == ("uri_list", None)
    with pytest.raises(
        FileNotFoundError, match=r"in/gone\.jpg: expected a file, got nothing there"
    ):
        reader.read(samples[2])


def test_the_list_may_lie_anywhere_below_the_root_and_names_parts_of_tars(tmp_path):
    (tmp_path / "lists").mkdir()
    (tmp_path / "a.tar").write_bytes(b"0123")

    reader = opened(tmp_path, "a.tar#1+2#x.jpg\n", listing="lists/one.txt")

    assert listed(reader) == [("a.tar#1+2#x.jpg", "")]
    assert reader.read_bytes("a.tar#1+2#x.jpg") == b"12"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("/data/a.jpg", "an absolute path"),
        ("in/../../a.jpg", "a path with `..`"),
        ("..", "a path with `..`"),
        ("https://example.org/a.jpg", "an address elsewhere"),
        ("file:///data/a.jpg", "an address elsewhere"),
        ("s3://other/a.jpg", "an address elsewhere"),
        ("C:/a.jpg", "an address elsewhere"),
        ("a\0.jpg", "control characters"),
        ("a.jpg\tb.jpg", "control characters"),
        (".", "no file"),
    ],
)
def test_what_does_not_lie_below_the_root_is_refused(line, problem, tmp_path):
    reader = opened(tmp_path, f"good.jpg\n{line}\n")

    with pytest.raises(
        ValueError, match=rf"list\.txt: line 2: expected a path relative to the.*got {problem}: "
    ) as caught:
        listed(reader)
    assert "\n" not in str(caught.value)


def test_full_addresses_below_the_root_are_taken(tmp_path):
    lines = ["s3://bucket/photos/in/a.jpg", "s3://bucket/photos-2/b.jpg", "s3://bucket/photos/../c"]
    for number, line in enumerate(lines):
        (tmp_path / f"{number}.txt").write_text(f"{line}\n")
    readers = [
        UriList(Bucket(tmp_path), options=UriListOptions(listing=f"{number}.txt"))
        for number in range(3)
    ]

    assert listed(readers[0]) == [("in/a.jpg", "in")]
    with pytest.raises(ValueError, match="an address elsewhere: 's3://bucket/photos-2"):
        listed(readers[1])
    with pytest.raises(ValueError, match=r"a path with `\.\.`: 's3://bucket/photos/\.\./c'"):
        listed(readers[2])


def test_a_file_that_is_no_such_list_is_refused(tmp_path):
    with pytest.raises(ValueError, match="line 2: expected at most 4096 bytes, got more"):
        listed(opened(tmp_path, "a.jpg\n" + "x" * 5000))
    with pytest.raises(ValueError, match="line 1: expected text in UTF-8, got other bytes"):
        listed(opened(tmp_path, b"\xff\xd8\xff\n"))
    with pytest.raises(ValueError, match=r"list\.txt: expected samples of split 'all', got none"):
        listed(opened(tmp_path, "\n\n"))
    with pytest.raises(FileNotFoundError, match=r"none\.txt: expected a file, got nothing there"):
        listed(UriList(tmp_path, options=UriListOptions(listing="none.txt")))
    with pytest.raises(ValueError, match="expected split 'all', got 'train'"):
        UriList(tmp_path).list_samples("train")


def test_the_list_must_be_named():
    with pytest.raises(ValueError, match="listing: expected"):
        UriListOptions(listing="")
