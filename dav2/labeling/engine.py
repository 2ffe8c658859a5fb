"""Runs the labelling of shards: which process does what, and when.

Nothing here decides a byte of a label; `labeler.py` does.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal, TypeVar, assert_never

import numpy as np
import pandas as pd
import torch
from torch import nn

from dav2.data.open import SourceLocation
from dav2.labeling.labeler import (
    FinishedSample,
    Labeler,
    LabelingOptions,
    PreparedImage,
    Preparer,
)
from dav2.labeling.plan import PlannedShard, plan_batches
from dav2.labeling.store import RefusedSample, ShardRecord, commit_shard

EngineName = Literal["inline"]

_BATCHES_AHEAD = 3

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LabelingJob:
    """All that a process needs in order to label shards of a plan."""

    manifest: pd.DataFrame
    sources: Mapping[str, SourceLocation]
    load_teacher: Callable[[], nn.Module]
    """Gives the teacher, in the process that will use it."""
    teacher: str
    """Fingerprint of its weights."""
    recipe: str
    """Fingerprint of all that decides the bytes besides the images: teacher, options, code."""
    options: LabelingOptions
    device: torch.device
    num_workers: int
    """Threads that decode, and as many that encode."""
    store: Path
    """Folder of committed shards."""


@dataclass(frozen=True, slots=True)
class _Labelled:
    image: PreparedImage
    label: np.ndarray
    mirrored: np.ndarray | None


@dataclass(frozen=True, slots=True)
class _Item:
    """A sample on its way, with the shard and the batch it belongs to."""

    shard: PlannedShard
    batch: int
    row: int
    content: PreparedImage | RefusedSample | _Labelled | None = None


def label_shards(
    engine: EngineName,
    shards: Iterable[PlannedShard],
    job: LabelingJob,
    *,
    on_sample: Callable[[], None],
) -> Iterator[tuple[PlannedShard, ShardRecord]]:
    """Labels shards and commits each as soon as it is complete.

    Args:
        engine: Who does the work.
        shards: The plan.
        job: What to do it with.
        on_sample: Called after each sample, labelled or refused.

    Yields:
        Each shard with its record, once committed.
    """
    match engine:
        case "inline":
            yield from _label_inline(shards, job, on_sample)
        case _:
            assert_never(engine)


def _label_inline(
    shards: Iterable[PlannedShard], job: LabelingJob, on_sample: Callable[[], None]
) -> Iterator[tuple[PlannedShard, ShardRecord]]:
    """Labels in this process on one device, with reading, computing and encoding side by side."""
    preparer = Preparer(job.manifest, job.sources, job.options)
    labeler = Labeler(job.load_teacher(), job.options, device=job.device, teacher=job.teacher)
    steps = _Steps(job, preparer, labeler)
    images_ahead = _BATCHES_AHEAD * job.options.batch_size
    with (
        ThreadPoolExecutor(job.num_workers, "read") as readers,
        ThreadPoolExecutor(1, "compute") as computer,
        ThreadPoolExecutor(job.num_workers, "encode") as encoders,
    ):
        prepared = _ahead(readers, steps.prepare, steps.items(shards), num_ahead=images_ahead)
        batches = (list(group) for _, group in groupby(prepared, lambda i: (i.shard.name, i.batch)))
        labelled = _ahead(computer, steps.label, batches, num_ahead=_BATCHES_AHEAD)
        items = (item for batch in labelled for item in batch)
        finished = _ahead(encoders, steps.finish, items, num_ahead=images_ahead)
        for _, group in groupby(finished, lambda pair: pair[0].shard.name):
            shard, results = _results(group, on_sample)
            yield shard, commit_shard(job.store, shard, results)


def _results(
    group: Iterator[tuple[_Item, FinishedSample | RefusedSample]], on_sample: Callable[[], None]
) -> tuple[PlannedShard, Iterator[FinishedSample | RefusedSample]]:
    first_item, first = next(group)

    def results() -> Iterator[FinishedSample | RefusedSample]:
        yield first
        on_sample()
        for _, result in group:
            yield result
            on_sample()

    return first_item.shard, results()


class _Steps:
    """What happens to a sample on its way; a failure of its own makes it a refused one."""

    def __init__(self, job: LabelingJob, preparer: Preparer, labeler: Labeler) -> None:
        self._job = job
        self._preparer = preparer
        self._labeler = labeler
        self._rows = job.manifest[["sample_id", "source", "image"]].to_dict("records")

    def items(self, shards: Iterable[PlannedShard]) -> Iterator[_Item]:
        size_of, batch_size = self._preparer.size_of, self._job.options.batch_size
        for shard in shards:
            for batch, rows in enumerate(plan_batches(shard, size_of, batch_size=batch_size)):
                for row in rows:
                    yield _Item(shard, batch, row)

    def prepare(self, item: _Item) -> _Item:
        content: PreparedImage | RefusedSample
        try:
            content = self._preparer.prepare(item.row)
        except (ValueError, OSError) as error:
            content = self._refused(item.row, error)
        return _Item(item.shard, item.batch, item.row, content)

    def label(self, batch: list[_Item]) -> list[_Item]:
        images = [item.content for item in batch if isinstance(item.content, PreparedImage)]
        labels = iter(self._labeler.label(images) if images else [])
        return [
            _Item(item.shard, item.batch, item.row, _Labelled(item.content, *next(labels)))
            if isinstance(item.content, PreparedImage)
            else item
            for item in batch
        ]

    def finish(self, item: _Item) -> tuple[_Item, FinishedSample | RefusedSample]:
        content = item.content
        if isinstance(content, RefusedSample):
            return item, content
        assert isinstance(content, _Labelled)
        try:
            return item, self._labeler.finish(content.image, content.label, content.mirrored)
        except ValueError as error:
            return item, self._refused(item.row, error)

    def _refused(self, row: int, error: ValueError | OSError) -> RefusedSample:
        entry = self._rows[row]
        root = self._job.sources[entry["source"]].where()
        if isinstance(error, OSError) and error.strerror:
            reason = f"{entry['image']}: expected a readable file, got {error.strerror}"
        else:
            reason = " ".join(str(error).split()).replace(f"{root}/", "")
        return RefusedSample(
            sample_id=entry["sample_id"],
            source=entry["source"],
            image=entry["image"],
            reason=reason,
            is_lasting=not isinstance(error, OSError),
        )


def _ahead(
    pool: Executor, function: Callable[[S], T], items: Iterable[S], *, num_ahead: int
) -> Iterator[T]:
    """Applies a function in a pool and yields the results in order, a bounded number under way."""
    pending: deque[Future[T]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > num_ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
