"""Runs the labelling of shards: which process does what, and when.

Nothing here decides a byte of a label; `labeler.py` does.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, groupby
from pathlib import Path
from typing import Literal, TypeVar, assert_never

import numpy as np
import pandas as pd
import torch
from torch import nn

from dav2.data.open import SourceLocation
from dav2.labeling.attempts import Attempt, WaitingShards
from dav2.labeling.energy import EnergyMeter
from dav2.labeling.labeler import (
    FinishedSample,
    Labeler,
    LabelingOptions,
    PreparedImage,
    Preparer,
)
from dav2.labeling.plan import PlannedShard, plan_batches
from dav2.labeling.store import RefusedSample, commit_shard

EngineName = Literal["inline", "ray"]

_BATCHES_AHEAD = 3
_SHARDS_AT_ONCE = 64
# Of PyTorch and of the decoders' libraries; a fault of a photograph itself is another kind.
_FAILURES = (RuntimeError, MemoryError)

S = TypeVar("S")
T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RayOptions:
    """Where the workers of the engine `ray` run."""

    address: str | None
    """`host:port` of a cluster's head, or `auto` on one of its nodes; None: Ray of this machine
    alone, started for this labelling and ended with it."""
    num_workers: int | None
    """One a GPU or, without GPUs, one for each `num_threads` cores; None: as many as there are."""


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
    num_threads: int
    """Of the teacher on a CPU."""
    num_workers: int
    """Threads that decode, and as many that encode."""
    store: Path
    """Folder of committed shards."""
    ray: RayOptions


@dataclass(frozen=True, slots=True)
class _Labelled:
    image: PreparedImage
    label: np.ndarray
    mirrored: np.ndarray | None


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a sample, and with it its shard, has no result: no fault of the sample's."""

    reason: str


@dataclass(frozen=True, slots=True)
class _Item:
    """A sample on its way, with the shard and the batch it belongs to."""

    shard: PlannedShard
    batch: int
    row: int
    content: PreparedImage | RefusedSample | _Labelled | _Failure | None = None


class _ShardFailedError(Exception):
    """A shard has no result; says why, in one line."""


def label_shards(
    engine: EngineName,
    shards: Iterable[PlannedShard],
    job: LabelingJob,
    *,
    on_samples: Callable[[int], object],
) -> Iterator[Attempt]:
    """Labels shards and commits each as soon as it is complete.

    A shard that fails is tried again after the others. One that fails three times is committed as
    set aside: all its samples refused, for a cause that may pass.

    Args:
        engine: Who does the work.
        shards: The plan.
        job: What to do it with.
        on_samples: Called with the number of samples that were finished, labelled or refused, as
            they are (`inline`) or shard by shard (`ray`); a negative one where a shard failed.

    Yields:
        The last attempt of each shard, once committed.

    Raises:
        ValueError: If shard after shard fails.
        OSError: If the store cannot be written or a cluster is not there.
    """
    waiting = WaitingShards(shards, store=job.store, manifest=job.manifest)
    match engine:
        case "inline":
            labeler = make_labeler(job)
            while chosen := waiting.take(_SHARDS_AT_ONCE):
                shards_of = {shard.name: shard for shard in chosen}
                part = label_inline(*excerpt(chosen, job), labeler, on_samples=on_samples)
                for attempt in part:
                    whole = replace(attempt, shard=shards_of[attempt.shard.name])
                    yield from waiting.settle(whole)
        case "ray":
            from dav2.labeling.ray_engine import label_with_ray

            yield from label_with_ray(waiting, job, on_samples=on_samples)
        case _:
            assert_never(engine)


def make_labeler(job: LabelingJob) -> Labeler:
    """Returns the job's teacher on the job's device."""
    return Labeler(job.load_teacher(), job.options, device=job.device, teacher=job.teacher)


def excerpt(
    shards: Sequence[PlannedShard], job: LabelingJob
) -> tuple[list[PlannedShard], LabelingJob]:
    """Returns shards and job with the rows of the manifest that the shards have, and no others.

    Readers keep a record of each row, which for a manifest of millions would fill the memory.
    """
    places = [row for shard in shards for row in shard.rows]
    moved, first = [], 0
    for shard in shards:
        moved.append(replace(shard, rows=tuple(range(first, first + len(shard.rows)))))
        first += len(shard.rows)
    return moved, replace(job, manifest=job.manifest.iloc[places].reset_index(drop=True))


def label_inline(
    shards: Iterable[PlannedShard],
    job: LabelingJob,
    labeler: Labeler,
    *,
    on_samples: Callable[[int], object],
) -> Iterator[Attempt]:
    """Labels in this process on one device, with reading, computing and encoding side by side.

    Args:
        shards: What to label; each is tried once.
        job: What to do it with.
        labeler: The job's.
        on_samples: Called with the number of samples that were finished; negative where they are
            not any more, as their shard failed.

    Yields:
        What came of each shard, committed or failed.
    """
    steps = _Steps(job, Preparer(job.manifest, job.sources, job.options), labeler)
    meter = EnergyMeter(job.device)
    images_ahead = _BATCHES_AHEAD * job.options.batch_size
    begin_s, begin_j = time.monotonic(), meter.read_j()
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
            attempt = _commit(group, job.store, on_samples)
            end_s, end_j = time.monotonic(), meter.read_j()
            yield replace(
                attempt,
                seconds=end_s - begin_s,
                energy_j=None if begin_j is None or end_j is None else end_j - begin_j,
                num_halved=steps.num_halved[attempt.shard.name],
            )
            begin_s, begin_j = end_s, end_j


def _commit(
    group: Iterator[tuple[_Item, FinishedSample | RefusedSample | _Failure]],
    store: Path,
    on_samples: Callable[[int], object],
) -> Attempt:
    first_item, first = next(group)
    num_done = 0

    def results() -> Iterator[FinishedSample | RefusedSample]:
        nonlocal num_done
        for result in chain([first], (result for _, result in group)):
            if isinstance(result, _Failure):
                raise _ShardFailedError(result.reason)
            yield result
            num_done += 1
            on_samples(1)

    try:
        record = commit_shard(store, first_item.shard, results())
    except _ShardFailedError as error:
        on_samples(-num_done)
        return Attempt(first_item.shard, record=None, failure=str(error))
    return Attempt(first_item.shard, record=record, failure="")


class _Steps:
    """What happens to a sample on its way; a failure of its own makes it a refused one."""

    def __init__(self, job: LabelingJob, preparer: Preparer, labeler: Labeler) -> None:
        self.num_halved: Counter[str] = Counter()
        """By shard: how often a batch had to be halved."""
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
        content: PreparedImage | RefusedSample | _Failure
        try:
            content = self._preparer.prepare(item.row)
        except (ValueError, OSError) as error:
            content = self._refused(item.row, error)
        except _FAILURES as error:
            content = _failure(error)
        return replace(item, content=content)

    def label(self, batch: list[_Item]) -> list[_Item]:
        images = [item.content for item in batch if isinstance(item.content, PreparedImage)]
        try:
            labels = iter(self._labels(images, batch[0].shard) if images else [])
        except _FAILURES as error:
            failure = _failure(error)
            return [replace(item, content=failure) for item in batch]
        return [
            replace(item, content=_Labelled(item.content, *next(labels)))
            if isinstance(item.content, PreparedImage)
            else item
            for item in batch
        ]

    def finish(self, item: _Item) -> tuple[_Item, FinishedSample | RefusedSample | _Failure]:
        content = item.content
        if isinstance(content, RefusedSample | _Failure):
            return item, content
        assert isinstance(content, _Labelled)
        try:
            return item, self._labeler.finish(content.image, content.label, content.mirrored)
        except ValueError as error:
            return item, self._refused(item.row, error)
        except _FAILURES as error:
            return item, _failure(error)

    def _labels(
        self, images: list[PreparedImage], shard: PlannedShard
    ) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """Returns the labels of a batch; one that does not fit into memory is halved."""
        try:
            return self._labeler.label(images)
        except _FAILURES as error:
            if len(images) == 1 or not _is_out_of_memory(error):
                raise
        # Not in the handler: what failed would keep its memory until the end of it.
        self.num_halved[shard.name] += 1
        logger.warning("%s: a batch of %d did not fit into memory: halved", shard.name, len(images))
        if self._job.device.type == "cuda":
            torch.cuda.empty_cache()
        middle = len(images) // 2
        return [*self._labels(images[:middle], shard), *self._labels(images[middle:], shard)]

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


def _failure(error: BaseException) -> _Failure:
    lines = str(error).splitlines() or ["no reason given"]
    return _Failure(f"{type(error).__name__}: {lines[0]}")


def _is_out_of_memory(error: BaseException) -> bool:
    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


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
