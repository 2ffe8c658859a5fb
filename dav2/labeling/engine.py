"""Runs the labelling of shards: which process does what, and when.

Nothing here decides a byte of a label; `labeler.py` does.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import chain, groupby
from pathlib import Path
from typing import TypeVar, assert_never

from dav2.labeling.attempts import Attempt, WaitingShards
from dav2.labeling.energy import EnergyMeter
from dav2.labeling.job import EngineName, LabelingJob, excerpt, make_labeler
from dav2.labeling.labeler import FinishedSample, Labeler
from dav2.labeling.plan import PlannedShard
from dav2.labeling.steps import Failure, Item, Steps
from dav2.labeling.store import RefusedSample, commit_shard

_BATCHES_AHEAD = 3
_SHARDS_AT_ONCE = 64

S = TypeVar("S")
T = TypeVar("T")


class _ShardFailedError(Exception):
    """A shard has no result; says why, in one line."""


def label_shards(
    engine: EngineName,
    shards: Iterable[PlannedShard],
    job: LabelingJob,
    *,
    on_samples: Callable[[int], object],
    on_attempt: Callable[[Attempt], object] = lambda attempt: None,
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
        on_attempt: Called with every attempt, failed ones too, as soon as it is heard of.

    Yields:
        The last attempt of each shard, once committed.

    Raises:
        ValueError: If shard after shard fails.
        OSError: If the store cannot be written or a cluster is not there.
    """
    waiting = WaitingShards(shards, store=job.store, manifest=job.manifest, on_attempt=on_attempt)
    match engine:
        case "inline":
            labeler = make_labeler(job)
            while chosen := waiting.take(_SHARDS_AT_ONCE):
                shards_of = {shard.name: shard for shard in chosen}
                part = label_inline(*excerpt(chosen, job), labeler, on_samples=on_samples)
                for attempt in part:
                    whole = replace(attempt, shard=shards_of[attempt.shard.name])
                    for last in waiting.settle(whole):
                        if whole.record is None:  # set aside
                            on_samples(len(last.shard.rows))
                        yield last
        case "ray":
            from dav2.labeling.ray_engine import label_with_ray

            yield from label_with_ray(waiting, job, on_samples=on_samples)
        case _:
            assert_never(engine)


def label_inline(
    shards: Iterable[PlannedShard],
    job: LabelingJob,
    labeler: Labeler,
    *,
    on_samples: Callable[[int], object],
) -> Iterator[Attempt]:
    """Labels in this process on one device; reads, computes and encodes side by side.

    Args:
        shards: What to label; each is tried once.
        job: What to do it with.
        labeler: The job's.
        on_samples: Called with the number of samples that were finished; negative where they are
            not any more, as their shard failed.

    Yields:
        What came of each shard, committed or failed.
    """
    steps = Steps(job, labeler)
    meter = EnergyMeter(job.device)
    images_ahead = _BATCHES_AHEAD * job.options.batch_size
    begin_s, begin_j = time.monotonic(), meter.read_j()
    with (
        ThreadPoolExecutor(job.num_workers, "read") as readers,
        ThreadPoolExecutor(1, "stack") as stacker,
        ThreadPoolExecutor(1, "compute") as computer,
        ThreadPoolExecutor(job.num_workers, "encode") as encoders,
    ):
        prepared = _ahead(readers, steps.prepare, steps.items(shards), num_ahead=images_ahead)
        batches = (list(group) for _, group in groupby(prepared, lambda i: (i.shard.name, i.batch)))
        stacked = _ahead(stacker, steps.stack, batches, num_ahead=1)
        labelled = _ahead(computer, steps.label, stacked, num_ahead=_BATCHES_AHEAD)
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
    group: Iterator[tuple[Item, FinishedSample | RefusedSample | Failure]],
    store: Path,
    on_samples: Callable[[int], object],
) -> Attempt:
    first_item, first = next(group)
    num_done = 0

    def results() -> Iterator[FinishedSample | RefusedSample]:
        nonlocal num_done
        for result in chain([first], (result for _, result in group)):
            if isinstance(result, Failure):
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
