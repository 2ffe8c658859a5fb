"""Runs rendering jobs in processes, keeps what is finished, and skips it after a restart."""

import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing import get_context
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
            with get_context("spawn").Pool(num_workers, initializer=_one_thread) as pool:
                for _ in pool.imap_unordered(call, waiting):
                    bar.update()
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def _run(render: Callable[[Job, Path], Record], files: Path, entry: tuple[Job, Path]) -> None:
    job, path = entry
    write_json(render(job, files), path)


def _one_thread() -> None:
    """Keeps a process of the pool to one core: the pool fills the others."""
    os.environ["OMP_NUM_THREADS"] = "1"
