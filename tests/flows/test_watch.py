from pathlib import Path

import pytest

from flows.watch import _known_sources, _names, listed

SOURCES = {
    "small": {"root": "data/photos", "watch": "data/photos"},
    "part": {"root": "data/photos", "watch": "data/photos/list.txt"},
    "large": {"root": "/mnt/photos", "watch": "listings/large.parquet"},
    "bucket": {"root": "s3://bucket/photos", "watch": "listings/bucket.parquet"},
    "beside": {"root": "data/photos", "watch": "data/photos.parquet"},
}


def test_sources_that_watch_something_outside_their_root_have_a_listing():
    assert listed(SOURCES) == ["large", "bucket", "beside"]


def test_a_source_has_changed_if_what_it_watches_has():
    path = "listings/large.parquet"
    assert _names([{"changed deps": {path: "modified"}}], path)
    assert _names(["changed command", {"changed deps": {path: "new"}}], path)
    assert not _names([{"changed deps": {"stages/ingest.py": "modified"}}], path)
    assert not _names([{"changed outs": {path: "modified"}}, "always changed"], path)
    assert not _names(None, path)


def test_only_sources_of_the_parameters_are_watched(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(
        "sources:\n  a: {root: x, watch: x}\n  b: {root: y, watch: y}\n"
    )
    assert list(_known_sources(None)) == ["a", "b"]
    assert list(_known_sources(["b"])) == ["b"]
    with pytest.raises(ValueError, match=r"expected sources \['a', 'b'\], got \['c'\]"):
        _known_sources(["c", "a"])
