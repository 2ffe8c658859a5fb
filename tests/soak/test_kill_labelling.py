"""Labelling is killed at random moments, again and again, until it completes."""

import json
import os
import random
import shutil
import signal
import subprocess

import pytest

from dav2.data.shards import ShardReader, read_index
from tests.fixtures.labelling import ARGUMENTS, Project

pytestmark = pytest.mark.soak

NUM_PHOTOGRAPHS = 300


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The project, labelled once without disturbance; its result and the time it took."""
    made = Project(tmp_path_factory.mktemp("labelling"))
    made.add_photographs("wild", NUM_PHOTOGRAPHS)
    made.write()
    (made.folder / "wild" / "007.jpg").unlink()  # refused, and its shard is not made again
    process = made.start()
    assert process.wait(timeout=300) == 0, process.communicate()[1]
    made.expected = made.tree()
    return made


def committed(project):
    """Returns, for each committed shard, when it was committed."""
    records = (project.folder / ".work" / "pseudo_label").glob("*/*/record.json")
    return {path.parent.name: path.stat().st_mtime_ns for path in records}


def check_shards_are_whole(project):
    for path in (project.folder / ".work" / "pseudo_label").glob("*/*/record.json"):
        record = json.loads(path.read_bytes())
        assert record["tar"]["num_bytes"] == (path.parent / "shard.tar").stat().st_size


def kill_after_some_time(process, delays):
    """Ends the whole session at a random moment; False if it had ended by itself."""
    try:
        process.wait(timeout=delays.uniform(2.5, 6.5))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=60)
        return True
    assert process.returncode == 0, process.communicate()[1]
    return False


def test_any_schedule_of_kills_ends_in_the_same_bytes_and_redoes_no_shard(project, seed):
    shutil.rmtree(project.folder / ".work")
    shutil.rmtree(project.folder / "data")
    delays = random.Random(seed)
    before, num_kills = {}, 0
    while kill_after_some_time(project.start(), delays):
        num_kills += 1
        check_shards_are_whole(project)
        now = committed(project)
        assert before.items() <= now.items(), f"seed {seed}: a committed shard was made again"
        before = now
        assert num_kills < 200
    assert project.tree() == project.expected, f"seed {seed}: other bytes after {num_kills} kills"
    index = read_index(project.folder / ARGUMENTS[2] / "manifest.parquet")
    assert len(index) == NUM_PHOTOGRAPHS - 1
    assert len(ShardReader(project.folder / ARGUMENTS[2])) == NUM_PHOTOGRAPHS - 1
    assert not list(project.folder.rglob(".*.part"))
