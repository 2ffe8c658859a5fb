"""A listing changes with the files it lists, and with nothing else."""

import os

import pandas as pd
import pytest

from stages import snapshot
from stages.snapshot import main

PARAMS = """
sources:
  photos:
    reader: folder
    root: {root}
    watch: {watch}
    domain: mixed
    roles:
      unlabelled: [all]
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(PARAMS.format(root="photos", watch="lists/l.parquet"))
    for name, content in [("b.jpg", "1"), ("a/z.jpg", "22"), ("a/y.jpg", "333"), ("a.txt", "")]:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        os.utime(path, ns=(5, 1_700_000_000_123_456_789))
    return tmp_path


def test_a_listing_holds_path_size_and_time(project):
    main("photos")

    listing = pd.read_parquet(project / "lists" / "l.parquet")
    assert listing["path"].tolist() == ["a.txt", "b.jpg", "a/y.jpg", "a/z.jpg"]
    assert listing["bytes"].tolist() == [0, 1, 3, 2]
    assert set(listing["version"]) == {"1700000000123456789"}


def test_the_same_tree_gives_the_same_bytes(project):
    main("photos")
    first = (project / "lists" / "l.parquet").read_bytes()
    main("photos")

    assert (project / "lists" / "l.parquet").read_bytes() == first


def test_a_listing_written_in_parts_holds_every_file(project, monkeypatch):
    monkeypatch.setattr(snapshot, "_CHUNK", 3)

    main("photos")

    assert len(pd.read_parquet(project / "lists" / "l.parquet")) == 4


def test_each_kind_of_change_shows(project):
    seen = []
    photographs = project / "photos"
    for change in (
        lambda: None,
        lambda: os.utime(photographs / "b.jpg", ns=(5, 6)),
        lambda: (photographs / "new.jpg").touch(),
        lambda: (photographs / "new.jpg").unlink(),
        lambda: (photographs / "b.jpg").rename(photographs / "c.jpg"),
    ):
        change()
        main("photos")
        seen.append((project / "lists" / "l.parquet").read_bytes())

    assert seen[1] != seen[0]
    assert seen[2] != seen[1]
    assert seen[3] == seen[1]
    assert seen[4] != seen[3]


@pytest.mark.parametrize(
    ("root", "watch", "got"),
    [
        ("misspelt", "l.parquet", "misspelt: expected the folder of a dataset, got nothing there"),
        ("empty", "l.parquet", "empty: expected a folder with files, got an empty one"),
        ("photos", "photos", "expected 'watch' to name a file outside the root photos"),
        ("photos", "photos/l.parquet", "expected 'watch' to name a file outside the root photos"),
    ],
)
def test_what_cannot_be_listed_ends_in_one_line_and_leaves_nothing(root, watch, got, project):
    (project / "empty").mkdir()
    (project / "params.yaml").write_text(PARAMS.format(root=root, watch=watch))
    before = sorted(project.rglob("*"))

    with pytest.raises(SystemExit, match=f"^snapshot photos: {got}"):
        main("photos")

    assert sorted(project.rglob("*")) == before


def test_an_unknown_source_is_named_with_the_known_ones(project):
    with pytest.raises(SystemExit, match="expected one of the sources photos, got 'fotos'"):
        main("fotos")


def test_a_damaged_listing_is_refused_in_one_line_and_a_missing_one_told(project):
    main("photos")
    path = project / "lists" / "l.parquet"
    whole = path.read_bytes()

    assert len(list(snapshot.read_listing(path))) == 4
    for damaged in (whole[:-20], whole[:4] + bytes(40) + whole[44:], b"PAR1", b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"l\.parquet: expected a listing as .*damaged file$"):
            list(snapshot.read_listing(path))
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"l\.parquet"):
        list(snapshot.read_listing(path))
