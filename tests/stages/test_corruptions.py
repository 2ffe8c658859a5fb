"""The gate of the data notices faults made in files, and stays silent about clean sets."""

import pytest

from tests.fixtures.corruption_matrix import UNNOTICED
from tests.fixtures.corruptions import CORRUPTIONS
from tests.fixtures.gate_project import GateProject, Size, render_sets

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SMALL = Size(rooms=(3, 1, 2), streets=(2, 1, 1), wild=4, wild_eval=9)
JUDGED_WITH = {"wild": "wild_pairs"}  # what a leak into photographs spoils


def clean_project(folder, seed):
    raw = render_sets(folder / "sets", seed, SMALL)
    (folder / "project").mkdir()
    return GateProject(folder / "project", raw, num_samples=0.9)


def is_about(finding, source):
    """Whether a finding names a source, its table or one of its samples."""
    names = (source, JUDGED_WITH.get(source, source))
    return finding.table.split(" (")[0] in names or any(
        sample_id.split("-")[0] in names for sample_id in finding.offending
    )


# In one test: its sets are rendered once, wherever it runs.
def test_a_clean_set_raises_no_alarm_and_each_corruption_does(tmp_path):
    project = clean_project(tmp_path, seed=1)
    assert project.judge() == []
    unnoticed = []
    for number, corruption in enumerate(CORRUPTIONS):
        # In one source each, of those that show it; `make soak` does all.
        sources = [name for name in corruption.sources if corruption.name not in UNNOTICED[name]]
        source = sources[number % len(sources)]
        found = project.findings(
            corruption, (source,), share=1.0, size=corruption.sizes[-1], seed=0
        )
        if not any(is_about(finding, source) for finding in found):
            unnoticed.append((corruption.name, source))
    assert unnoticed == []
    assert project.judge() == []  # every fault was undone


def test_another_clean_set_raises_no_alarm(tmp_path):
    assert clean_project(tmp_path, seed=2).judge() == []
