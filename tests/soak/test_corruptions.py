"""Every corruption at every strength in every source it can happen to, and clean sets by seed."""

import shutil
from pathlib import Path

import pytest

from tests.fixtures.corruption_matrix import UNNOTICED, measure, table
from tests.fixtures.gate_project import ROOT, GateProject, Size, render_sets

pytestmark = [pytest.mark.soak, pytest.mark.timeout(0)]

NUM_CLEAN_SETS = 20
FIRST_SEED = 100
CLEAN = Size(rooms=(12, 3, 5), streets=(6, 2, 2), wild=12, wild_eval=12)
LARGE = Size(rooms=(60, 10, 20), streets=(30, 5, 10), wild=100, wild_eval=60)


@pytest.fixture(scope="module")
def raw(request, tmp_path_factory):
    """A copy of sets to damage: those of `--sets`, else of data/raw, else rendered ones."""
    folder = tmp_path_factory.mktemp("sets")
    sets = Path(request.config.getoption("--sets") or ROOT / "data" / "raw")
    if not sets.is_dir():
        return render_sets(folder, FIRST_SEED, LARGE)
    return shutil.copytree(sets, folder / "raw")


@pytest.mark.parametrize("source", UNNOTICED)
def test_what_is_noticed_is_noticed(raw, source, tmp_path):
    """Writes the table of the source to `.work/corruptions`, as it stands in docs/gates.md."""
    project = GateProject(tmp_path, raw, num_samples=0.9)
    assert project.judge() == []
    outcomes = list(measure(project, source, FIRST_SEED))
    written = ROOT / ".work" / "corruptions" / f"{source}.md"
    written.parent.mkdir(parents=True, exist_ok=True)
    written.write_text(table(outcomes))
    largest = {outcome.corruption.name: outcome for outcome in outcomes}
    assert {name for name, found in largest.items() if found.share is None} <= UNNOTICED[source]


@pytest.mark.parametrize("number", range(NUM_CLEAN_SETS))
def test_a_clean_set_raises_no_alarm(number, tmp_path):
    sets = render_sets(tmp_path / "sets", FIRST_SEED + number, CLEAN)
    (tmp_path / "project").mkdir()
    assert GateProject(tmp_path / "project", sets, num_samples=0.9).judge() == []
