"""Work is shared by processes, and the death of one costs one job."""

import os
import signal

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
