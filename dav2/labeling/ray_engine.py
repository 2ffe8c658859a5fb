"""Labels with Ray: one worker a GPU, or a slice of a machine's cores, on any number of machines.

A worker labels whole shards with the code of the engine `inline` and commits each into the store,
a folder that all machines share; only records travel back. When one dies, Ray finds room for
another.
"""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from dav2.labeling.attempts import Attempt, WaitingShards
from dav2.labeling.engine import label_inline
from dav2.labeling.job import LabelingJob, excerpt, make_labeler
from dav2.labeling.labeler import Labeler
from dav2.labeling.plan import PlannedShard
from dav2.labeling.ray_session import ENVIRONMENT, local_ray
from dav2.labeling.store import find_shard

_MOST_AT_ONCE = 8

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Slot:
    """A worker as the driver sees it."""

    name: str
    start: Callable[[], Any]
    """Asks Ray for a worker, on whichever machine has room."""
    actor: Any
    shards: deque[PlannedShard] = field(default_factory=deque)
    """Handed out and not heard of since."""
    stream: Any = None
    """What it will answer about them; None while it has nothing to do."""


def label_with_ray(
    waiting: WaitingShards, job: LabelingJob, *, on_samples: Callable[[int], object]
) -> Iterator[Attempt]:
    """Labels shards in Ray's workers.

    A worker holds a few shards at a time, so that it reads for the next while it writes one; when
    it dies, what it had not committed goes to whoever is free.

    Args:
        waiting: The shards to label.
        job: What to do with them; `load_teacher` and the folders must mean the same on every
            machine.
        on_samples: Called with the number of samples of each shard that is committed.

    Yields:
        The last attempt of each shard, once committed.

    Raises:
        ValueError: If shard after shard fails, or there is nothing to run a worker on.
        OSError: If a worker cannot write to the store, or a cluster does not answer.
    """
    with _connected(job) as ray:
        start, num_workers = _workers(ray, job)
        slots = [_Slot(str(number), start, start()) for number in range(num_workers)]
        while True:
            for slot in slots:
                if slot.stream is None:
                    _hand_out(slot, waiting, job, num_slots=len(slots))
            busy = {slot.stream: slot for slot in slots if slot.stream is not None}
            if not busy:
                return
            ready, _ = ray.wait(list(busy), num_returns=1, fetch_local=False)
            for stream in ready:
                for attempt in _receive(ray, busy[stream], waiting, job):
                    for last in waiting.settle(attempt):
                        on_samples(len(last.shard.rows))
                        yield last


def _hand_out(slot: _Slot, waiting: WaitingShards, job: LabelingJob, *, num_slots: int) -> None:
    """Gives a worker its next shards: fewer towards the end, so that all end together."""
    shards = waiting.take(max(1, min(_MOST_AT_ONCE, len(waiting) // (2 * num_slots))))
    if not shards:
        return
    moved, part = excerpt(shards, job)
    slot.shards = deque(shards)
    slot.stream = slot.actor.label.options(num_returns="streaming").remote(moved, part.manifest)


def _receive(ray: Any, slot: _Slot, waiting: WaitingShards, job: LabelingJob) -> Iterator[Attempt]:
    """Yields what a worker says of its first shard, or what its death means for it."""
    try:
        attempt: Attempt = ray.get(next(slot.stream))
    except StopIteration:
        assert not slot.shards
        slot.stream = None
        return
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ValueError | OSError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        logger.warning("worker %s: %s", slot.name, _one_line(error))
        shards = slot.shards
        _replace(ray, slot)
        yield from _bury(slot.name, shards, waiting, job)
        return
    shard = slot.shards.popleft()
    assert shard.name == attempt.shard.name
    if attempt.record is None:
        # A device that failed once may stay unusable for its process.
        waiting.give_back(slot.shards)
        _replace(ray, slot)
    yield replace(attempt, shard=shard, worker=slot.name)


def _replace(ray: Any, slot: _Slot) -> None:
    """Gives a slot another worker, without shards.

    A new one rather than the old one restarted: calls to an actor that is just restarting fail, as
    if the shards they carry were at fault. And one that is only out of reach does not go on.
    """
    ray.kill(slot.actor)
    slot.actor, slot.shards, slot.stream = slot.start(), deque(), None


def _bury(
    worker: str, shards: deque[PlannedShard], waiting: WaitingShards, job: LabelingJob
) -> Iterator[Attempt]:
    """Yields what a dead worker had committed unheard, and a failure of what it had begun."""
    while shards:
        shard = shards.popleft()
        record = find_shard(job.store, shard)
        if record is None:
            waiting.give_back(shards)
            yield Attempt(shard, record=None, failure="its worker died", worker=worker)
            return
        yield Attempt(shard, record=record, failure="", worker=worker)


@contextmanager
def _connected(job: LabelingJob) -> Iterator[Any]:
    """Connects to the cluster, or to a Ray of this machine that ends with the block."""
    address = job.ray.address
    if address is not None and address.startswith("ray://"):
        raise ValueError(
            f"ray: expected the host:port of a cluster's head or `auto`, got {address}: "
            f"run on a machine of the cluster"
        )
    with ExitStack() as stack:
        if address is None:
            on_gpu = job.device.type == "cuda"
            num_gpus = torch.cuda.device_count() if on_gpu else 0
            num_cores = os.cpu_count() or 1
            if job.ray.num_workers is not None:  # as many as asked for, on few cores too
                num_cores = max(num_cores, job.ray.num_workers * _cores_a_worker(job))
            address = stack.enter_context(local_ray(num_cpus=num_cores, num_gpus=num_gpus))
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", ENVIRONMENT["RAY_USAGE_STATS_ENABLED"])
        import ray

        try:
            ray.init(address=address, configure_logging=False, log_to_driver=False)
        except (ConnectionError, RuntimeError) as error:
            raise ConnectionError(
                f"ray: expected a cluster at {address}, got {_one_line(error)}"
            ) from None
        stack.callback(ray.shutdown)
        yield ray


def _workers(ray: Any, job: LabelingJob) -> tuple[Callable[[], Any], int]:
    """Returns what starts a worker, and how many there are to be."""
    resources = ray.cluster_resources()
    if job.device.type == "cuda":
        kind, amount, options = "GPU", 1, {"num_gpus": 1, "num_cpus": 1}
    else:
        amount = _cores_a_worker(job)
        kind, options = "CPU", {"num_cpus": amount}
    num_possible = int(resources.get(kind, 0)) // amount
    num_workers = num_possible if job.ray.num_workers is None else job.ray.num_workers
    if not 1 <= num_workers <= num_possible:
        raise ValueError(
            f"ray: expected room for {max(1, num_workers)} workers of {amount} {kind} each, "
            f"got a cluster for {num_possible}"
        )
    worker = ray.remote(**options)(_Worker)
    bare = replace(job, manifest=job.manifest.iloc[:0])
    return lambda: worker.remote(bare, Path.cwd()), num_workers


def _cores_a_worker(job: LabelingJob) -> int:
    return job.num_threads if job.device.type == "cpu" else 1


def _one_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class _Worker:
    """Labels in a process of Ray's; the teacher is loaded with the first shards."""

    def __init__(self, job: LabelingJob, folder: Path) -> None:
        self._job = job
        self._folder = folder
        self._labeler: Labeler | None = None

    def label(self, shards: list[PlannedShard], rows: pd.DataFrame) -> Iterator[Attempt]:
        """Yields what came of each shard; places of the shards are rows of the table given."""
        if self._labeler is None:
            os.chdir(self._folder)  # relative paths mean what they mean to the driver
            torch.set_num_threads(self._job.num_threads)
            self._labeler = make_labeler(self._job)
        part = replace(self._job, manifest=rows)
        yield from label_inline(shards, part, self._labeler, on_samples=lambda num: None)
