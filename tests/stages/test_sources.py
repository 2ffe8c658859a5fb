from pathlib import Path

import pytest

from dav2.data.open import SourceLocation
from stages.sources import ROLES, load_sources, locations

GOOD = """
sources:
  photos:
    reader: folder
    root: ../photos
    watch: ../photos
    domain: mixed
    roles:
      unlabelled: [all]
      evaluation: [test, all]
"""


@pytest.fixture
def written(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "params.yaml"
        path.write_text(text)
        return path

    return write


def test_reads_a_source_and_its_splits(written):
    source = load_sources(written(GOOD))["photos"]
    assert (source.reader, source.domain) == ("folder", "mixed")
    assert source.splits() == ["all", "test"]


def test_locations_hold_reader_and_root(written):
    expected = {"photos": SourceLocation(reader="folder", root="../photos")}
    assert locations(written(GOOD)) == expected


def test_an_unknown_reader_is_named(written):
    with pytest.raises(ValueError, match=r"sources\.photos\.reader: .*got 'zip'"):
        load_sources(written(GOOD.replace("reader: folder", "reader: zip")))


def test_an_unknown_role_is_named(written):
    with pytest.raises(ValueError, match=r"sources\.photos\.roles\.unlabeled"):
        load_sources(written(GOOD.replace("unlabelled", "unlabeled")))


def test_no_source_at_all_is_refused(written):
    with pytest.raises(ValueError, match="expected at least one source"):
        load_sources(written("sources: {}\n"))


def test_an_empty_file_is_one_line(written):
    with pytest.raises(ValueError, match=r"params\.yaml: expected a map of sections, got nothing$"):
        load_sources(written(""))


def test_a_root_that_yaml_takes_for_a_date_is_one_line(written):
    text = GOOD.replace("root: ../photos", "root: 2026-01-01")
    with pytest.raises(ValueError, match=r"sources\.photos: expected .*dates in quotes.*, got: "):
        load_sources(written(text))


def test_the_shipped_sources_serve_every_role():
    served = {role for source in load_sources().values() for role in source.roles}
    assert served == set(ROLES)
