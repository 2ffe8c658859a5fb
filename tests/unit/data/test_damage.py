"""Damaged files and decompression bombs end in one line or a valid sample, whatever they are.

The long version is tests/soak/test_fuzz_decoders.py. To look at a case again:
`next(damages(...))` of tests/fixtures/damage.py with the seed "<target> <case>".
"""

import resource
import sys
from itertools import islice
from typing import get_args

import numpy as np
import pytest

from dav2.data.open import DatasetName
from tests.fixtures import damaged_reads
from tests.fixtures.bombs import BOMBS, HEAVY
from tests.fixtures.damage import damages
from tests.fixtures.damaged_reads import BAD_CASE, DamagedReads, read_all
from tests.fixtures.datasets import DATASETS, TABLES
from tests.fixtures.decoders import DECODERS

NUM_CASES = 100
NUM_TABLE_CASES = 25
NUM_DATASET_CASES = 8


@pytest.fixture(scope="module")
def reads():
    made = DamagedReads()
    yield made
    made.close()


def check(outcome, count):
    assert not outcome.problems, "\n".join(outcome.problems)
    assert outcome.num_valid + outcome.num_refused == count


@pytest.mark.parametrize("target", DECODERS)
def test_a_damaged_file_is_refused_in_one_line_or_read(target, reads):
    outcome = reads.run(target, 0, NUM_CASES)

    check(outcome, NUM_CASES)
    # Else the damage would be too little or too much; a damaged EXIF block costs nothing.
    assert outcome.num_refused > 0 or target == "exif"
    assert outcome.num_valid > 0


@pytest.mark.parametrize("target", TABLES)
def test_a_damaged_table_is_refused_in_one_line_or_read(target, reads):
    outcome = reads.run(target, 0, NUM_TABLE_CASES)

    check(outcome, NUM_TABLE_CASES)
    assert outcome.num_refused > 0


@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_with_a_damaged_file_is_refused_in_one_line_or_read(name, reads):
    check(reads.run(name, 0, NUM_DATASET_CASES), NUM_DATASET_CASES)


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_without_the_memory_that_it_asks_for(name, reads):
    decoder, make = BOMBS[name]
    data = make()
    assert len(data) < 24 << 20

    outcome = reads.decode(decoder, data)

    assert not outcome.problems, "\n".join(outcome.problems)
    assert outcome.num_refused == 1


@pytest.mark.parametrize("name", HEAVY)
def test_of_a_large_valid_file_no_more_is_decoded_than_needed(name, reads):
    decoder, make = HEAVY[name]

    check(reads.decode(decoder, make()), 1)


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_is_valid_before_it_is_damaged(name, tmp_path):
    DATASETS[name].write(tmp_path)

    assert read_all(DATASETS[name], tmp_path) > 0


def test_every_reader_has_a_dataset_to_damage():
    assert {dataset.reader for dataset in DATASETS.values()} == set(get_args(DatasetName))


def test_damage_is_that_of_its_seed_and_of_many_kinds():
    data = bytes(range(256)) * 9

    first = list(islice(damages(data, seed="a 1"), 200))

    assert first == list(islice(damages(data, seed="a 1"), 200))
    assert first != list(islice(damages(data, seed="a 2"), 200))
    assert data not in first
    assert {len(found) < len(data) for found in first} == {True, False}
    assert any(len(found) == len(data) for found in first)
    assert any(found.startswith(data[:1000]) for found in first)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit address space")
@pytest.mark.parametrize(
    ("behaviour", "problem"),
    [
        ("crash", "ended by SIGSEGV"),
        ("hang", "took more than 1 s"),
        ("memory", "MiB of memory"),
        ("mapping", "Cannot allocate memory"),
        ("key", "KeyError"),
        ("lines", "a message that is not one line"),
        ("name", "a message that is not one line"),
    ],
)
def test_each_kind_of_misbehaviour_is_told_with_its_case(behaviour, problem, reads, monkeypatch):
    monkeypatch.setattr(damaged_reads, "CASE_SECONDS", 1)

    outcome = reads.run(behaviour, BAD_CASE - 1, 3)

    assert outcome.num_valid == 2
    (told,) = outcome.problems
    assert told.startswith(f"{behaviour} {BAD_CASE}: ")
    assert problem in told


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"depth": np.full((2, 3), np.nan, np.float32)}, "not finite"),
        ({"depth": np.zeros((2, 3), np.float32)}, "not above zero"),
        ({"sky": np.ones((2, 3), bool)}, "not infinite"),
        ({"depth": np.ones((3, 2), np.float32)}, r"\(3, 2\)"),
        ({"depth": np.ones((2, 3))}, "float64"),
    ],
)
def test_a_bad_sample_is_told_from_a_valid_one(change, problem):
    from types import SimpleNamespace

    good = {
        "image": np.zeros((2, 3, 3), np.uint8),
        "depth": np.ones((2, 3), np.float32),
        "valid": np.ones((2, 3), bool),
        "sky": None,
        "intrinsics": None,
    }

    damaged_reads.check_sample(SimpleNamespace(**good))
    with pytest.raises(AssertionError, match=problem):
        damaged_reads.check_sample(SimpleNamespace(**good | change))


def test_the_limits_are_those_of_the_process_alone():
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
