"""Labelling by Ray's workers is killed at random moments: a worker, the driver, the whole tree."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
import uuid
from contextlib import suppress

import psutil
import pytest

from dav2.data.shards import ShardReader, read_index
from tests.fixtures.labelling import ARGUMENTS, Project

pytest.importorskip("ray")
pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]

NUM_PHOTOGRAPHS = 400
NUM_WORKERS = 2
MARK = "DAV2_SOAK_MARK"
LEFT_AFTER_S = 10.0


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The project, labelled once by the engine `inline`; and once by `ray`, for its time."""
    made = Project(tmp_path_factory.mktemp("ray"))
    made.add_photographs("wild", NUM_PHOTOGRAPHS)
    made.write()
    finish(made.start())
    made.expected = made.tree()
    made.params |= {"engine": "ray", "ray_workers": NUM_WORKERS}
    made.write()
    begin(made)
    started_s = time.monotonic()
    finish(made.start())
    made.seconds = time.monotonic() - started_s
    assert made.tree() == made.expected
    return made


@pytest.fixture
def mark(monkeypatch):
    """A word in the environment of all that this test starts, in whatever session."""
    value = uuid.uuid4().hex
    monkeypatch.setenv(MARK, value)
    yield value
    for process in marked(value):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def begin(project):
    for name in (".work", "data"):  # one that failed may have left neither
        shutil.rmtree(project.folder / name, ignore_errors=True)


def finish(process):
    shown = "".join(process.communicate(timeout=600))
    assert process.returncode == 0, shown
    return shown


def marked(value):
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            is_ours = process.environ().get(MARK) == value and process.pid != os.getpid()
            if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def workers(value):
    found = []
    for process in marked(value):
        with suppress(psutil.Error):
            if process.cmdline()[0].startswith("ray::_Worker"):
                found.append(process)
    return found


def check_nothing_is_left(value, what):
    deadline_s = time.monotonic() + LEFT_AFTER_S
    while left := marked(value):
        assert time.monotonic() < deadline_s, f"{what}: {[p.cmdline() for p in left]}"
        time.sleep(0.2)


def committed(project):
    records = (project.folder / ".work" / "pseudo_label").glob("*/*/record.json")
    return {path.parent.name: path.stat().st_mtime_ns for path in records}


def kill(target, process, value):
    """Kills one target with SIGKILL; False if there was nothing to kill any more."""
    if process.poll() is not None:
        return False
    match target:
        case "worker":
            while process.poll() is None and not (alive := workers(value)):
                time.sleep(0.1)
            if process.poll() is not None:
                return False
            with suppress(psutil.NoSuchProcess):
                alive[0].kill()
        case "driver":
            process.kill()
        case "session":
            os.killpg(process.pid, signal.SIGKILL)
        case "tree":
            process.kill()  # forked, so its mark does not show
            for member in marked(value):
                with suppress(psutil.NoSuchProcess):
                    member.kill()
    return True


def test_a_kill_at_any_moment_loses_and_repeats_nothing_and_leaves_no_process(project, mark, seed):
    target = ["worker", "driver", "session", "tree"][seed % 4]
    moment = random.Random(seed)
    what = f"seed {seed}, {target}"
    begin(project)
    process = project.start()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=moment.uniform(0, project.seconds))
    was_killed = kill(target, process, mark)
    before = committed(project)
    if was_killed and target != "worker":
        process.wait(timeout=60)
        check_nothing_is_left(mark, what)
        begun = list((project.folder / ".work" / "pseudo_label").glob("*/.*.part"))
        assert len(begun) <= NUM_WORKERS, what  # what was written in vain
        before = committed(project)
        process = project.start()
    finish(process)
    check_nothing_is_left(mark, what)
    now = committed(project)
    assert before.items() <= now.items(), f"{what}: a committed shard was made again"
    assert project.tree() == project.expected, f"{what}: other bytes"
    assert len(ShardReader(project.folder / ARGUMENTS[2])) == NUM_PHOTOGRAPHS
    assert len(read_index(project.folder / ARGUMENTS[2] / "manifest.parquet")) == NUM_PHOTOGRAPHS
    assert not list(project.folder.rglob(".*.part"))


def test_a_second_labelling_of_the_same_output_is_refused(project, mark):
    begin(project)
    first = project.start()
    lock = project.folder / ".work" / "pseudo_label.lock"
    while not lock.exists():
        assert first.poll() is None
        time.sleep(0.1)
    while not workers(mark):
        time.sleep(0.1)
    second = project.start()
    shown = second.communicate(timeout=300)[1]
    assert second.returncode == 1
    assert "pseudo_label.lock: expected one process at a time, got a second" in shown
    finish(first)
    assert project.tree() == project.expected


def test_every_port_is_on_this_machine_alone(project, mark):
    begin(project)
    process = project.start()
    while not workers(mark):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    addresses = set()
    for member in marked(mark):
        with suppress(psutil.Error):
            open_ports = member.net_connections(kind="tcp")
            addresses |= {port.laddr.ip for port in open_ports if port.status == psutil.CONN_LISTEN}
    finish(process)
    assert addresses
    assert addresses <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    (summary,) = project.folder.rglob("summary.json")
    assert json.loads(summary.read_bytes())["num_shards_set_aside"] == 0
