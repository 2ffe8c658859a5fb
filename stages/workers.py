"""Processes that share work and survive the death of one of them."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from threading import Thread
from typing import Any, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

_JOBS_AT_ONCE = 8


def map_surviving(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    *,
    num_workers: int,
    prepare: Callable[..., None],
    prepare_with: tuple[Any, ...],
    on_death: Callable[[Job], Result],
) -> Iterator[Result]:
    """Yields the result of each job in order, computed in processes of their own.

    When a process dies (a decoder crashed, or the system killed it for its memory), the jobs that
    are left run one at a time, so that the one that kills its process is known; its result comes
    from `on_death`.

    Args:
        function: A function of a module, called once for each job.
        jobs: What to do.
        num_workers: How many processes, at least 1.
        prepare: Called once in each process, before any job.
        prepare_with: Its arguments.
        on_death: Gives the result of a job whose process died.
    """

    def pool(workers: int) -> ProcessPoolExecutor:
        # Not forked: a fork copies locks that threads of this process may hold.
        return ProcessPoolExecutor(
            workers,
            mp_context=get_context("spawn"),
            initializer=_begin,
            initargs=(prepare, prepare_with),
        )

    num_done = 0
    workers = max(1, min(num_workers, -(-len(jobs) // _JOBS_AT_ONCE)))
    try:
        with pool(workers) as shared:
            for result in shared.map(function, jobs, chunksize=_JOBS_AT_ONCE):
                yield result
                num_done += 1
        return
    except BrokenProcessPool:
        pass
    alone = pool(1)
    try:
        for job in jobs[num_done:]:
            try:
                yield alone.submit(function, job).result()
            except BrokenProcessPool:
                yield on_death(job)
                alone = pool(1)
    finally:
        alone.shutdown()


def _begin(prepare: Callable[..., None], prepare_with: tuple[Any, ...]) -> None:
    Thread(target=_leave_with_parent, daemon=True).start()
    prepare(*prepare_with)


def _leave_with_parent() -> None:
    """Ends this process with its parent: else it would wait for the jobs of a killed one."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
