"""Split lists come with the number of every line, or with a message that names it."""

import pytest

from dav2.data.lists import below_root, check_published, read_list
from dav2.data.storage import LocalStorage


def read(root):
    return read_list(LocalStorage(root), "a.txt", columns="one name", num_names=range(1, 3))


def test_lines_know_where_they_stand(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfx.png\r\n\r\n y.png  1.5\r\n")

    lines = read(tmp_path)

    assert [line.names for line in lines] == [("x.png",), ("y.png", "1.5")]
    assert lines[1].where == f"{tmp_path / 'a.txt'} line 3"


def test_lists_that_are_missing_or_damaged_are_errors(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"a\.txt: expected a split list, got nothing there"
    ):
        read(tmp_path)
    with pytest.raises(FileNotFoundError, match="misspelt: expected the folder of a dataset"):
        read(tmp_path / "misspelt")
    (tmp_path / "a.txt").write_text("x\n1 2 3\n")
    with pytest.raises(ValueError, match=r"a\.txt line 2: expected one name, got 3 names"):
        read(tmp_path)
    (tmp_path / "a.txt").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"a\.txt: expected text in UTF-8"):
        read(tmp_path)


def test_paths_stay_below_the_root():
    assert below_root("a/b.png", where="l") == "a/b.png"
    for name in ("/a", "a/../b"):
        with pytest.raises(
            ValueError, match=f"^l: expected a path relative to the root, got '{name}"
        ):
            below_root(name, where="l")


def test_published_lists_have_their_published_length():
    check_published(3, (2, 3), what="lines", where="l")
    with pytest.raises(
        ValueError, match=r"^l: expected the 2 or 3 lines of the published list, got 4"
    ):
        check_published(4, (2, 3), what="lines", where="l")
