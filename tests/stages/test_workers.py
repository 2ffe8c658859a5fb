"""Work is shared by processes, and the death of one costs one job."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from stages.workers import map_surviving

_offset = 0


def prepare(offset):
    global _offset
    _offset = offset


def add_or_die(job):
    if job < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    if job == 13:
        raise ValueError("13: expected another number")
    return job + _offset, os.getpid()


def run(jobs, num_workers=2):
    return list(
        map_surviving(
            add_or_die,
            jobs,
            num_workers=num_workers,
            prepare=prepare,
            prepare_with=(100,),
            on_death=lambda job: (job, None),
        )
    )


def test_results_come_in_order_from_prepared_processes():
    results = run(list(range(13)))

    assert [value for value, _ in results] == list(range(100, 113))
    assert os.getpid() not in {process for _, process in results}


def test_a_job_that_kills_its_process_is_told_and_the_rest_is_done():
    results = run([1, 2, -1, 3, -2, 4])

    assert [value for value, _ in results] == [101, 102, -1, 103, -2, 104]
    assert [process is None for _, process in results] == [False, False, True, False, True, False]


def test_an_error_of_a_job_is_passed_on():
    with pytest.raises(ValueError, match="13: expected another number"):
        run([1, 13])


def test_without_jobs_there_is_nothing_to_do():
    assert run([]) == []


WORKING = """
import os, sys, time
from pathlib import Path
from stages.workers import map_surviving

def prepare(folder):
    (Path(folder) / str(os.getpid())).touch()

if __name__ == "__main__":
    options = {"prepare": prepare, "prepare_with": (sys.argv[1],), "on_death": print}
    list(map_surviving(time.sleep, [0.2] * 500, num_workers=2, **options))
"""


def is_running(process):
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_no_process_outlives_a_killed_parent(tmp_path):
    script, started = tmp_path / "working.py", tmp_path / "started"
    script.write_text(WORKING)
    started.mkdir()
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    parent = subprocess.Popen([sys.executable, script, started], env=environment)
    deadline = time.monotonic() + 60
    while len(list(started.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = [int(path.name) for path in started.iterdir()]
    assert len(workers) == 2

    parent.kill()
    parent.wait()

    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, workers))
