"""Labels with Ray: one worker a GPU, or a slice of a machine's cores, on any number of machines.

A worker labels whole shards with the code of the engine `inline` and commits each into the store,
a folder that all machines share; only records travel back. When one dies, Ray finds room for
another.
"""

import logging
import math
import os
import secrets
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
from dav2.labeling.ray_cluster import connected, cores_a_worker, is_outside, one_line, reason_of
from dav2.labeling.store import find_shard

_MOST_AT_ONCE = 8
_MOST_FAILURES = 3  # of a worker in a row
_LOOK_S = 300.0
_PATIENCE = 10  # times the slowest shard so far
_LEAST_PATIENCE_S = 900.0
_MARK = ".driver"

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Slot:
    """A worker as the driver sees it."""

    name: str
    start: Callable[[], tuple[Any, Any]]
    """Asks Ray for a worker, on whichever machine has room, and the worker whether it is ready."""
    actor: Any = None
    """None: given up."""
    is_ready: bool = False
    """Whether it runs and has the teacher; before it gets no shards."""
    shards: deque[PlannedShard] = field(default_factory=deque)
    """Handed out and not heard of since."""
    answer: Any = None
    """What it will say, of itself or as a stream of its shards; None while it has nothing to do."""
    heard_s: float = 0.0
    """When it last answered, or was asked after it had nothing to do."""
    num_failures: int = 0
    """Starts and shards in a row that failed."""

    def begin(self) -> None:
        self.actor, self.answer = self.start()
        self.is_ready, self.shards, self.heard_s = False, deque(), time.monotonic()


def label_with_ray(
    waiting: WaitingShards, job: LabelingJob, *, on_samples: Callable[[int], object]
) -> Iterator[Attempt]:
    """Labels shards in Ray's workers.

    A worker gets shards once it runs, has what the job was made with and has loaded the teacher. It
    holds a few at a time, so that it reads for the next while it writes one (one alone where the
    driver is outside the cluster, `ray://`); when it dies, what it had not committed goes to
    whoever is free. One that stays silent for ten times as long as the
    slowest shard so far took, of any worker, and for a quarter of an hour at least, is killed;
    before a first shard is finished nobody is. Every five minutes the log names those that have not
    started, or are slower than any before. A worker that fails three times in a row, starting or
    labelling, is given up: for its shards only while others label.

    Args:
        waiting: The shards to label.
        job: What to do with them; `load_teacher` and the folders must mean the same on every
            machine.
        on_samples: Called with the number of samples of each shard that is committed.

    Yields:
        The last attempt of each shard, once committed.

    Raises:
        ValueError: If shard after shard fails, no worker can start, or there is nothing to run one
            on.
        OSError: If a worker cannot write to the store, or a cluster does not answer.
    """
    with _marked(job.store) as mark, connected(job) as ray:
        start, waiting.num_workers = _workers(ray, job, mark)
        slots = [_Slot(str(number), start) for number in range(waiting.num_workers)]
        for slot in slots:
            slot.begin()
        driver = _Driver(ray, waiting, job, slots, streams=not is_outside(job.ray.address))
        while len(waiting) or any(slot.shards for slot in slots):
            for attempt in driver.next_attempts():
                for last in waiting.settle(attempt):
                    on_samples(len(last.shard.rows))
                    yield last


class _Driver:
    """Hands shards out and hears what came of them."""

    def __init__(
        self,
        ray: Any,
        waiting: WaitingShards,
        job: LabelingJob,
        slots: Sequence[_Slot],
        *,
        streams: bool,
    ) -> None:
        self._ray = ray
        self._streams = streams
        self._waiting = waiting
        self._job = job
        self._slots = slots
        self._slowest_s: float | None = None
        self._looked_s = time.monotonic()

    def next_attempts(self) -> Iterator[Attempt]:
        """Yields what workers say next, or what the end of one means for its shards."""
        for slot in self._slots:
            if slot.is_ready and slot.answer is None:
                self._hand_out(slot)
        asked = self._asked()
        answers, _ = self._ray.wait(list(asked), num_returns=1, timeout=_LOOK_S, fetch_local=False)
        for answer in answers:
            slot = asked[answer]
            yield from self._receive(slot) if slot.is_ready else self._receive_start(slot)
        if time.monotonic() - self._looked_s >= _LOOK_S:
            yield from self._end_silent()
            self._looked_s = time.monotonic()

    def _asked(self) -> dict[Any, _Slot]:
        """Returns the workers that have something to say, by what will carry it."""
        return {slot.answer: slot for slot in self._slots if slot.answer is not None}

    def _hand_out(self, slot: _Slot) -> None:
        """Gives a worker its next shards: fewer towards the end, so that all end together."""
        num_slots = sum(slot.actor is not None for slot in self._slots)
        most = max(1, min(_MOST_AT_ONCE, len(self._waiting) // (2 * num_slots)))
        shards = self._waiting.take(most if self._streams else 1)
        if not shards:
            return
        moved, part = excerpt(shards, self._job)
        slot.shards, slot.heard_s = deque(shards), time.monotonic()
        if self._streams:
            label = slot.actor.label.options(num_returns="streaming")
            slot.answer = label.remote(moved, part.manifest)
        else:
            slot.answer = slot.actor.label_one.remote(moved[0], part.manifest)

    def _receive_start(self, slot: _Slot) -> Iterator[Attempt]:
        """Notes whether a worker could start."""
        try:
            self._ray.get(slot.answer)
        except self._ray.exceptions.RayError as error:
            yield from self._end(slot, reason_of(error))
            return
        slot.is_ready, slot.answer = True, None

    def _receive(self, slot: _Slot) -> Iterator[Attempt]:
        """Yields what a worker says of its first shard, or what its death means for it."""
        try:
            answer = next(slot.answer) if self._streams else slot.answer
            attempt: Attempt = self._ray.get(answer)
        except StopIteration:
            assert not slot.shards
            slot.answer = None
            return
        except self._ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, ValueError | OSError):
                raise cause from None
            yield from self._end(slot, reason_of(error))
            return
        if not self._streams:
            slot.answer = None
        now_s = time.monotonic()
        self._slowest_s = max(self._slowest_s or 0.0, now_s - slot.heard_s)
        slot.heard_s = now_s
        shard = slot.shards.popleft()
        assert shard.name == attempt.shard.name
        if attempt.record is None:
            # A device that failed once may stay unusable for its process.
            self._waiting.give_back(slot.shards)
            self._replace(slot, attempt.failure)
        else:
            slot.num_failures = 0
        yield replace(attempt, shard=shard, worker=slot.name)

    def _end(self, slot: _Slot, reason: str) -> Iterator[Attempt]:
        """Replaces a worker; yields what that means for the shards it had."""
        shards = slot.shards
        self._replace(slot, reason)
        yield from _bury(slot.name, shards, self._waiting, self._job)

    def _replace(self, slot: _Slot, reason: str) -> None:
        """Gives a slot another worker, without shards, or gives it up.

        A new one rather than the old one restarted: calls to an actor that is just restarting fail,
        as if the shards they carry were at fault. And one that is only out of reach does not go on.
        """
        self._ray.kill(slot.actor)
        slot.num_failures += 1
        others = [other for other in self._slots if other is not slot and other.actor is not None]
        is_needed = slot.is_ready and not any(other.is_ready for other in others)
        if slot.num_failures < _MOST_FAILURES or is_needed:
            logger.warning("worker %s: %s", slot.name, reason)
            slot.begin()
            return
        logger.warning("worker %s: given up, the last failure: %s", slot.name, reason)
        slot.actor, slot.answer, slot.is_ready, slot.shards = None, None, False, deque()
        if not others:
            raise ValueError(f"ray: expected a worker that can label, got none, the last: {reason}")

    def _end_silent(self) -> Iterator[Attempt]:
        """Names workers that do not answer, and ends those that are silent for too long."""
        asked = self._asked()
        _, silent = self._ray.wait(
            list(asked), num_returns=len(asked), timeout=0, fetch_local=False
        )
        now_s, slowest_s = time.monotonic(), self._slowest_s
        patience_s = max(_LEAST_PATIENCE_S, _PATIENCE * (slowest_s or math.inf))
        names = []
        for slot in (asked[answer] for answer in silent):
            silent_s = now_s - slot.heard_s
            if slot.is_ready and silent_s > patience_s:
                reason = f"silent for {_minutes(silent_s)}, the slowest shard took"
                yield from self._end(slot, f"{reason} {_minutes(slowest_s or 0.0)}")
            elif silent_s > max(_LOOK_S, (slowest_s or 0.0) if slot.is_ready else 0.0):
                what = "silent" if slot.is_ready else "not started"
                names.append(f"{slot.name} ({what} for {_minutes(silent_s)})")
        if names:
            logger.warning("waiting for workers %s", ", ".join(names))


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


def _workers(ray: Any, job: LabelingJob, mark: str) -> tuple[Callable[[], tuple[Any, Any]], int]:
    """Returns what starts a worker, and how many there are to be."""
    if job.device.type == "cuda":
        kind, needs = "GPU", {"GPU": 1, "CPU": 1}
    else:
        kind, needs = "CPU", {"CPU": cores_a_worker(job)}
    # Node by node: a worker has all it needs on one machine.
    num_possible = sum(
        min(int(node["Resources"].get(name, 0)) // amount for name, amount in needs.items())
        for node in ray.nodes()
        if node["Alive"]
    )
    num_workers = num_possible if job.ray.num_workers is None else job.ray.num_workers
    if not 1 <= num_workers <= num_possible:
        raise ValueError(
            f"ray: expected room for {max(1, num_workers)} workers of {needs[kind]} {kind} each, "
            f"got a cluster for {num_possible}"
        )
    worker = ray.remote(**{f"num_{name.lower()}s": amount for name, amount in needs.items()})(
        _Worker
    )
    bare = replace(job, manifest=job.manifest.iloc[:0])

    def start() -> tuple[Any, Any]:
        actor = worker.remote(bare, Path.cwd())
        return actor, actor.prepare.remote(mark)

    return start, num_workers


@contextmanager
def _marked(store: Path) -> Iterator[str]:
    """Writes a word into the store that a worker must find there."""
    mark = f"{socket.gethostname()} {secrets.token_hex(8)}"
    path = store / _MARK
    path.write_text(mark)
    try:
        yield mark
    finally:
        path.unlink(missing_ok=True)


def _check_mark(store: Path, mark: str) -> None:
    path = store / _MARK
    if not path.is_file() or path.read_text() != mark:
        driver = mark.split()[0]
        raise ValueError(f"{store}: expected the folder that {driver} writes to, got another")


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"


class _Worker:
    """Labels in a process of Ray's."""

    def __init__(self, job: LabelingJob, folder: Path) -> None:
        self._job = job
        self._folder = folder
        self._labeler: Labeler | None = None

    def prepare(self, mark: str) -> None:
        """Loads the teacher.

        Args:
            mark: What the driver wrote into the store.

        Raises:
            ValueError: With one line, if this machine has another store, teacher, code or library
                than the driver, or the teacher cannot be loaded here.
        """
        try:
            os.chdir(self._folder)  # relative paths mean what they mean to the driver
            _check_mark(self._job.store, mark)
            self._job.verify()
            torch.set_num_threads(self._job.num_threads)
            self._labeler = make_labeler(self._job)
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            raise ValueError(f"{socket.gethostname()}: {one_line(error)}") from None

    def label(self, shards: list[PlannedShard], rows: pd.DataFrame) -> Iterator[Attempt]:
        """Yields what came of each shard; places of the shards are rows of the table given."""
        assert self._labeler is not None
        part = replace(self._job, manifest=rows)
        yield from label_inline(shards, part, self._labeler, on_samples=lambda num: None)

    def label_one(self, shard: PlannedShard, rows: pd.DataFrame) -> Attempt:
        """Returns what came of one shard."""
        (attempt,) = self.label([shard], rows)
        return attempt
