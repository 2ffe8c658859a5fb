"""Thousands of damaged files for every decoder and every reader, by seed."""

import pytest

from tests.fixtures.damaged_reads import DamagedReads
from tests.fixtures.datasets import DATASETS, TABLES
from tests.fixtures.decoders import DECODERS

pytestmark = pytest.mark.soak

CASES_A_SEED = 100  # with the 50 seeds of `make soak` 5000 a target


@pytest.fixture(scope="module")
def reads():
    made = DamagedReads()
    yield made
    made.close()


@pytest.mark.parametrize("target", [*DECODERS, *TABLES, *DATASETS])
def test_damaged_files_end_in_one_line_or_a_valid_sample(target, reads, seed):
    # From where `make test` ends.
    outcome = reads.run(target, (seed + 1) * CASES_A_SEED, CASES_A_SEED)

    assert not outcome.problems, "\n".join(outcome.problems)
    assert outcome.num_valid + outcome.num_refused == CASES_A_SEED
