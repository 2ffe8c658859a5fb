"""Runs rendering jobs in processes, keeps what is finished, and skips it after a restart."""

import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from dav2.data.files import write_json

Job = TypeVar("Job")
Record = dict[str, Any]


def run_jobs(
    jobs: Sequence[Job],
    render: Callable[[Job, Path], Record],
    work: Path,
    *,
    num_workers: int,
    label: str,
) -> list[Record]:
    """Returns the record of each job, in order; renders those that have none yet.

    What a job writes counts as finished once its record exists, which appears last and whole.

    Args:
        jobs: What to render; its place in the sequence names its record.
        render: Writes one job's files below a folder and returns a JSON-able record. A function of
            a module, since processes of their own call it.
        work: Folder that survives a killed run: `files/` and `records/`.
        num_workers: Number of processes.
        label: Of the progress bar.
    """
    records = work / "records"
    records.mkdir(parents=True, exist_ok=True)
    paths = [records / f"{number:05d}.json" for number in range(len(jobs))]
    todo = [number for number, path in enumerate(paths) if not path.is_file()]
    files = work / "files"
    files.mkdir(exist_ok=True)
    call = partial(_run, render, files)
    waiting = [(jobs[number], paths[number]) for number in todo]
    with tqdm(total=len(jobs), initial=len(jobs) - len(todo), desc=label, unit="scene") as bar:
        if num_workers == 1:
            for entry in waiting:
                call(entry)
                bar.update()
        elif waiting:
            with ProcessPoolExecutor(
                num_workers, mp_context=get_context("spawn"), initializer=_begin
            ) as pool:
                for future in _as_completed(pool, call, waiting):
                    future.result()
                    bar.update()
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def _run(render: Callable[[Job, Path], Record], files: Path, entry: tuple[Job, Path]) -> None:
    job, path = entry
    write_json(render(job, files), path)


def _as_completed(
    pool: ProcessPoolExecutor, call: Callable[[tuple[Job, Path]], None], waiting: list[Any]
) -> Iterator[Future[None]]:
    """Yields jobs as they end; a caller that stops early starts no more of them."""
    futures = [pool.submit(call, entry) for entry in waiting]
    try:
        yield from as_completed(futures)
    finally:
        for future in futures:
            future.cancel()


def _begin() -> None:
    """Keeps a process of the pool to one core, and ends it with the one that started it."""
    os.environ["OMP_NUM_THREADS"] = "1"
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    # A killed parent cannot tell its processes to stop: they would wait for jobs for ever.
    os._exit(1)
