"""Ray's workers label; a worker, the driver and the whole tree are killed (fifty: `make soak`)."""

import random
import time
import uuid

import pytest

from tests.fixtures.killed_labellings import (
    MARK,
    SLOW_PROGRAM,
    begin,
    begun,
    check_nothing_is_left,
    check_whole,
    committed,
    end_all,
    finish,
    kill,
)
from tests.fixtures.labelling import PROGRAM, Project

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

NUM_PHOTOGRAPHS = 120
NUM_WORKERS = 2
PATIENCE_S = 300  # of a machine with much else to do
LEFT_AFTER_S = 60.0


@pytest.fixture
def project(tmp_path):
    """The project, labelled by the engine `inline`, then to be labelled by `ray`."""
    made = Project(tmp_path)
    made.add_photographs("wild", NUM_PHOTOGRAPHS)
    made.params |= {"samples_per_shard": 4, "check_fraction": 0.0}
    made.write()
    finish(made.start())
    made.expected = made.tree()
    made.num_shards = len(committed(made))
    begin(made)
    made.params |= {"engine": "ray", "ray_workers": NUM_WORKERS}
    made.write()
    return made


@pytest.fixture
def mark(project, monkeypatch):
    """A word in the environment of all that is started once the project is there.

    Not before: what all tests fork their processes from is to stay.
    """
    value = uuid.uuid4().hex
    monkeypatch.setenv(MARK, value)
    yield value
    end_all(value)


def wait_for_shards(num_more, project, process):
    enough = len(committed(project)) + num_more
    assert enough < project.num_shards
    deadline_s = time.monotonic() + PATIENCE_S
    while len(committed(project)) < enough:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline_s, "waited too long"
        time.sleep(0.02)


def kill_all(target, project, process, mark, *, most_begun):
    """Kills the driver or the tree; returns the shards that are there then."""
    assert kill(target, process, mark)
    process.wait(timeout=PATIENCE_S)
    check_nothing_is_left(mark, target, after_s=LEFT_AFTER_S)
    assert len(begun(project)) <= most_begun  # what was written in vain
    return committed(project)


def test_a_worker_the_driver_and_the_tree_are_killed_and_nothing_is_lost_or_left(project, mark):
    moments = [random.randint(1, project.num_shards // 6) for _ in range(3)]
    what = f"after {moments} shards"

    process = project.start(SLOW_PROGRAM + PROGRAM)
    wait_for_shards(moments[0], project, process)
    before = committed(project)
    assert kill("worker", process, mark), what
    wait_for_shards(moments[1], project, process)
    kept = kill_all("driver", project, process, mark, most_begun=NUM_WORKERS + 1)
    assert before.items() < kept.items(), f"{what}: a shard was made again"

    process = project.start(SLOW_PROGRAM + PROGRAM)
    wait_for_shards(moments[2], project, process)
    before = kept
    kept = kill_all("tree", project, process, mark, most_begun=NUM_WORKERS)
    assert before.items() < kept.items(), f"{what}: a shard was made again"
    assert len(kept) < project.num_shards, what

    project.params["engine"] = "inline"  # goes on with Ray's shards
    project.write()
    finish(project.start())
    assert kept.items() < committed(project).items(), f"{what}: a shard was made again"
    check_whole(project, NUM_PHOTOGRAPHS, what)
