"""The documentation tells of what there is."""

import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from dav2.data.open import DatasetName

DATASETS = Path(__file__).parents[1] / "docs" / "datasets.md"
COLUMNS = 10


@pytest.fixture(scope="module")
def rows():
    """The cells of each row of the table, by the reader's name."""
    lines = DATASETS.read_text().splitlines()
    cells = [line.strip("|").split("|") for line in lines if line.startswith("|")][2:]
    return {row[1].strip().strip("`"): [cell.strip() for cell in row] for row in cells}


def test_every_reader_has_a_row_with_all_columns(rows):
    assert set(rows) == set(get_args(DatasetName))
    for name, row in rows.items():
        assert len(row) == COLUMNS, name
        assert all(row), name


def options_of(name):
    """Returns the options of a reader, from its entry in `open_dataset`."""
    import importlib
    import inspect

    from dav2.data import open as opening

    branch = inspect.getsource(opening.open_dataset).split(f'case "{name}":')[1].split("case ")[0]
    if re.search(r"return plain\(", branch):
        return set()
    kind = re.search(r"chosen\((\w+)\)", branch)[1]
    module = re.search(rf"from (\S+) import [^\n]*\b{kind}\b", branch)[1]
    return set(get_type_hints(getattr(importlib.import_module(module), kind)))


@pytest.mark.parametrize("name", get_args(DatasetName))
def test_every_option_of_a_reader_is_named_in_its_row(name, rows):
    named = set(re.findall(r"`(\w+)`", rows[name][7]))

    assert options_of(name) <= named, f"{name}: {options_of(name) - named} not in docs/datasets.md"
    assert (rows[name][7] == "none") == (not options_of(name))
