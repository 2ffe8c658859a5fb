"""DIW's lists, written by hand: two lines an image, points counted from one, one is farther."""

import numpy as np
import pytest
from PIL import Image

from dav2.data.da2k import PointPair
from dav2.data.diw import Diw, DiwOptions

A, B = "./DIW_test/a.thumb", "./DIW_test/b.thumb"


def write_root(root, lines, split="test", folder="DIW_Annotations", end="\n"):
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / folder / f"DIW_{split}.csv").write_bytes(
        "".join(f"{line}{end}" for line in lines).encode()
    )
    for line in lines[::2]:
        path = root / line
        if line.startswith("./"):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((4, 9, 3), 60, np.uint8)).save(path, "JPEG")
    return root


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_relation_tells_which_point_is_farther(end, tmp_path):
    write_root(tmp_path, [A, "1,2,4,9,>,9,4", B, "1,2,4,9,<,9,4"], end=end)
    reader = Diw(tmp_path)

    first, second = reader.list_samples("test")

    assert reader.pairs(first, size=(4, 9)) == [
        PointPair(closer=(3, 8), farther=(0, 1), first_is_closer=False)
    ]
    assert reader.pairs(second, size=(4, 9)) == [
        PointPair(closer=(0, 1), farther=(3, 8), first_is_closer=True)
    ]


def test_a_sample_is_an_image_with_its_own_entry(tmp_path):
    reader = Diw(write_root(tmp_path, [A, "1,2,4,9,>,9,4", B, "1,2,4,9,<,9,4"]))

    first, second = reader.list_samples("test")
    sample = reader.read(second)

    assert (first.sample_id, first.scene) == ("DIW_test/a.thumb", "DIW_test")
    assert sample.depth is None
    assert sample.image.shape == (4, 9, 3)
    assert reader.read_bytes(first.extra[0]) == f"{A}\n1,2,4,9,>,9,4\n".encode()
    assert reader.read_bytes(second.extra[0]) == f"{B}\n1,2,4,9,<,9,4\n".encode()
    assert reader.read_bytes(first.image).startswith(b"\xff\xd8")


def test_lists_may_lie_elsewhere(tmp_path):
    write_root(tmp_path, [A, "1,2,4,9,>,9,4"], split="val", folder="lists")
    reader = Diw(tmp_path, options=DiwOptions(annotations="lists"))

    assert [files.image for files in reader.list_samples("val")] == ["DIW_test/a.thumb"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("1,2,4,9,=,9,4", r"expected DIW_test/a\.thumb and y_A,x_A.*got .* and '1,2,4,9,=,9,4'"),
        ("1,2,4,9,>", "expected DIW_test/a.thumb and y_A,x_A"),
        ("0,2,4,9,>,9,4", r"expected points inside 4 x 9 .*got \[-1, 1\]"),
        ("1,2,5,9,>,9,4", r"expected points inside 4 x 9 .*got \[4, 8\]"),
        ("1,2,4,10,>,9,4", r"expected points inside 4 x 9 .*got \[3, 9\]"),
        ("1,2,4,9,>,18,8", "expected points in an image of 4 x 9 .*got 8 x 18"),
    ],
)
def test_other_pairs_are_refused_for_their_image(entry, message, tmp_path):
    reader = Diw(write_root(tmp_path, [A, entry, B, "1,2,4,9,<,9,4"]))
    bad, good = reader.list_samples("test")

    with pytest.raises(ValueError, match=rf"DIW_test\.csv#0\+\d+: {message}"):
        reader.read(bad)
    assert reader.read(good).image.shape == (4, 9, 3)


def test_a_list_that_has_changed_since_is_refused(tmp_path):
    reader = Diw(write_root(tmp_path, [A, "1,2,4,9,>,9,4"]))
    (files,) = reader.list_samples("test")
    write_root(tmp_path, [B, "1,2,4,9,>,9,4"])

    with pytest.raises(ValueError, match=r"expected DIW_test/a\.thumb and .*got './DIW_test/b"):
        reader.read(files)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([A, "1,2,4,9,>,9,4", "c.thumb"], r"byte 33: expected a path and a pair, got one line"),
        (["a" * 5000, "1,2"], "byte 0: expected a path and a pair, got one line"),
        (["/etc/passwd", "1,2"], "expected the path of a photograph below the root, got '/etc/pa"),
        (["a/../../b", "1,2"], r"expected the path of a photograph below the root, got 'a/\.\./"),
        (["", "1,2"], r"expected the path of a photograph below the root, got '\.'"),
        (["a\udcff", "1,2"], "expected text in UTF-8, got other bytes"),
        ([], "expected samples of split 'test', got none"),
    ],
)
def test_other_lists_are_refused(lines, message, tmp_path):
    write_root(tmp_path, [])
    listing = tmp_path / "DIW_Annotations" / "DIW_test.csv"
    listing.write_bytes("".join(f"{line}\n" for line in lines).encode(errors="surrogateescape"))

    with pytest.raises(ValueError, match=rf"DIW_test\.csv.*{message}"):
        list(Diw(tmp_path).list_samples("test"))


def test_nothing_to_read_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="misspelt: expected the folder of a dataset"):
        Diw(tmp_path / "misspelt").list_samples("test")
    write_root(tmp_path, [A, "1,2,4,9,>,9,4"])
    with pytest.raises(ValueError, match="expected split 'train' or 'val' or 'test', got 'all'"):
        Diw(tmp_path).list_samples("all")
    with pytest.raises(FileNotFoundError, match=r"DIW_val\.csv: expected a file, got nothing"):
        list(Diw(tmp_path).list_samples("val"))
    with pytest.raises(ValueError, match="annotations: expected text, got ''"):
        DiwOptions(annotations="")
