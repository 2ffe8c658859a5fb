"""Which shards wait, which have failed, and when one is given up."""

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from dav2.labeling.plan import PlannedShard
from dav2.labeling.store import RefusedSample, ShardRecord, commit_shard

MAX_ATTEMPTS = 3
"""A shard that fails so often is set aside."""
MAX_FAILED_IN_A_ROW = 10
"""So many shards that fail at their first attempt, none finished in between: all will."""
_MAX_FAILED_A_WORKER = 3  # likewise where that is more: a rack that is lost takes a shard a worker

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of labelling a shard once."""

    shard: PlannedShard
    record: ShardRecord | None
    """None where it failed."""
    failure: str
    """Why it failed, in one line; empty where it did not."""
    worker: str = "0"
    """Who tried."""
    seconds: float = 0.0
    """Since this worker's attempt before: what the shard cost of a device's time."""
    energy_j: float | None = None
    """What the device took in that time; None where nobody counts."""
    num_halved: int = 0
    """How often a batch had to be halved to fit into memory."""


class WaitingShards:
    """The shards of a plan that nobody has or has finished yet."""

    def __init__(
        self,
        shards: Iterable[PlannedShard],
        *,
        store: Path,
        manifest: pd.DataFrame,
        on_attempt: Callable[[Attempt], object] = lambda attempt: None,
    ) -> None:
        """Takes a plan.

        Args:
            shards: All that is to do.
            store: Folder of committed shards.
            manifest: The samples, with sample_id, source and image.
            on_attempt: Called with every attempt, failed ones too.
        """
        self.num_workers = 1
        """That label them side by side."""
        self._waiting = deque(shards)
        self._store = store
        self._manifest = manifest
        self._on_attempt = on_attempt
        self._num_failures: Counter[str] = Counter()
        self._num_in_a_row = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, most: int) -> list[PlannedShard]:
        """Hands out the next shards, at most so many; one that has failed before goes alone.

        So who fails or dies is known by what it had, and takes no other shard along.
        """
        taken: list[PlannedShard] = []
        while self._waiting and len(taken) < most:
            has_failed = self._num_failures[self._waiting[0].name] > 0
            if taken and has_failed:
                break
            taken.append(self._waiting.popleft())
            if has_failed:
                break
        return taken

    def give_back(self, shards: Iterable[PlannedShard]) -> None:
        """Takes back shards that were handed out and not begun, to hand them out next."""
        self._waiting.extendleft(reversed(list(shards)))

    def settle(self, attempt: Attempt) -> Iterator[Attempt]:
        """Notes what came of a shard.

        Yields:
            The attempt if the shard is finished with it, by a success or by being set aside;
            nothing if it waits for another.

        Raises:
            ValueError: If shard after shard fails.
        """
        self._on_attempt(attempt)
        if attempt.record is not None:
            self._num_in_a_row = 0
            yield attempt
            return
        name = attempt.shard.name
        self._num_failures[name] += 1
        count = self._num_failures[name]
        logger.warning("%s: attempt %d of %d: %s", name, count, MAX_ATTEMPTS, attempt.failure)
        self._num_in_a_row += count == 1
        if self._num_in_a_row >= max(MAX_FAILED_IN_A_ROW, _MAX_FAILED_A_WORKER * self.num_workers):
            raise ValueError(
                f"labelling: expected shards to succeed, got {self._num_in_a_row} in a row that "
                f"failed, the last: {attempt.failure}"
            )
        if count < MAX_ATTEMPTS:
            self._waiting.append(attempt.shard)
            return
        yield replace(attempt, record=self._set_aside(attempt))

    def _set_aside(self, attempt: Attempt) -> ShardRecord:
        reason = f"set aside with its shard after {MAX_ATTEMPTS} failures: {attempt.failure}"
        rows = self._manifest[["sample_id", "source", "image"]].iloc[list(attempt.shard.rows)]
        refused = (
            RefusedSample(
                sample_id=row["sample_id"],
                source=row["source"],
                image=row["image"],
                reason=f"{row['image']}: {reason}",
                is_lasting=False,
            )
            for row in rows.to_dict("records")
        )
        return commit_shard(self._store, attempt.shard, refused, set_aside=attempt.failure)
