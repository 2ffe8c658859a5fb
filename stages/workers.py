"""Processes that share work and survive the death of one of them."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from threading import Thread
from typing import Any, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

_BATCHES_A_WORKER = 4


def map_surviving(
    function: Callable[[Job], Result],
    jobs: Iterable[Job],
    *,
    num_workers: int,
    prepare: Callable[..., None],
    prepare_with: tuple[Any, ...],
    on_death: Callable[[Job], Result],
    jobs_at_once: int = 16,
) -> Iterator[Result]:
    """Yields the result of each job in order, computed in processes of their own.

    Jobs are taken as they are needed, so that memory stays bounded however many there are. When a
    process dies (a decoder crashed, or the system killed it for its memory), the jobs under way
    run again one at a time, so that the one that kills its process is known; its result comes from
    `on_death`.

    Args:
        function: A function of a module, called once for each job.
        jobs: What to do.
        num_workers: How many processes, at least 1.
        prepare: Called once in each process, before any job.
        prepare_with: Its arguments.
        on_death: Gives the result of a job whose process died.
        jobs_at_once: Handed to a process together; 1 for long ones.
    """

    def pool(workers: int) -> ProcessPoolExecutor:
        # Not forked: a fork copies locks that threads of this process may hold.
        return ProcessPoolExecutor(
            workers,
            mp_context=get_context("spawn"),
            initializer=_begin,
            initargs=(prepare, prepare_with),
        )

    waiting = iter(jobs)
    first = list(islice(waiting, num_workers * jobs_at_once))
    if not first:
        return
    workers = max(1, min(num_workers, -(-len(first) // jobs_at_once)))
    batches = _batches(chain(first, waiting), jobs_at_once)
    pending: deque[tuple[list[Job], Future[list[Result]]]] = deque()
    shared = pool(workers)
    try:
        while True:
            while len(pending) < workers * _BATCHES_A_WORKER and (batch := next(batches, None)):
                pending.append((batch, _submit(shared, function, batch)))
            if not pending:
                return
            try:
                yield from pending[0][1].result()
                pending.popleft()
            except BrokenProcessPool:
                shared.shutdown()
                suspects = [job for batch, _ in pending for job in batch]
                pending.clear()
                yield from _one_at_a_time(function, suspects, pool, on_death)
                shared = pool(workers)
    finally:
        shared.shutdown(cancel_futures=True)


def _submit(
    pool: ProcessPoolExecutor, function: Callable[[Job], Result], jobs: list[Job]
) -> "Future[list[Result]]":
    try:
        return pool.submit(_run, function, jobs)
    except BrokenProcessPool as error:  # told by the result, as if it had broken a moment later
        failed: Future[list[Result]] = Future()
        failed.set_exception(error)
        return failed


def _batches(jobs: Iterator[Job], size: int) -> Iterator[list[Job]]:
    while batch := list(islice(jobs, size)):
        yield batch


def _one_at_a_time(
    function: Callable[[Job], Result],
    jobs: list[Job],
    pool: Callable[[int], ProcessPoolExecutor],
    on_death: Callable[[Job], Result],
) -> Iterator[Result]:
    alone = pool(1)
    try:
        for job in jobs:
            try:
                yield alone.submit(function, job).result()
            except BrokenProcessPool:
                yield on_death(job)
                alone.shutdown()
                alone = pool(1)
    finally:
        alone.shutdown()


def _run(function: Callable[[Job], Result], jobs: list[Job]) -> list[Result]:
    return [function(job) for job in jobs]


def _begin(prepare: Callable[..., None], prepare_with: tuple[Any, ...]) -> None:
    Thread(target=_leave_with_parent, daemon=True).start()
    prepare(*prepare_with)


def _leave_with_parent() -> None:
    """Ends this process with its parent: else it would wait for the jobs of a killed one."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
