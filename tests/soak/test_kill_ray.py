"""Labelling by Ray's workers is killed at random moments: a worker, the driver, the whole tree."""

import random
import subprocess
import time
import uuid
from contextlib import suppress

import psutil
import pytest

from tests.fixtures.killed_labellings import (
    MARK,
    begin,
    begun,
    check_nothing_is_left,
    check_whole,
    committed,
    end_all,
    finish,
    kill,
    marked,
    workers,
)
from tests.fixtures.labelling import Project

pytest.importorskip("ray")
pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]

NUM_PHOTOGRAPHS = 400
NUM_WORKERS = 2
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
    end_all(value)


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
        check_nothing_is_left(mark, what, after_s=LEFT_AFTER_S)
        assert len(begun(project)) <= NUM_WORKERS, what  # what was written in vain
        before = committed(project)
        process = project.start()
    finish(process)
    check_nothing_is_left(mark, what, after_s=LEFT_AFTER_S)
    assert before.items() <= committed(project).items(), f"{what}: a shard was made again"
    check_whole(project, NUM_PHOTOGRAPHS, what)


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
