"""What the labels of one recipe have cost so far, whoever made them and however that ended."""

import json
import logging
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dav2.labeling.attempts import Attempt

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Spent:
    """What was spent by all runs of a labelling together."""

    labelling_s: float
    """From the start of each run to the last that is known of it."""
    worker_s: float
    """The same, for each of a run's workers: what is paid where each holds a GPU."""
    energy_j: float | None
    """None where nobody counted."""
    num_images: int
    """Of the shards that were finished, those that were made twice counted once."""
    num_failures: int
    """Attempts at a shard that failed."""


@dataclass(frozen=True, slots=True)
class _Line:
    run: int
    """Nanoseconds since 1970 at its start."""
    elapsed_s: float
    """Since then."""
    worker: str | None = None
    """Who made the attempt; None at the end of a run, with nothing of what follows."""
    shard: str = ""
    """Name and key."""
    num_images: int = 0
    """None where the attempt failed."""
    seconds: float = 0.0
    energy_j: float | None = None
    num_halved: int = 0
    failure: str = ""


class SpentLog:
    """A file with a line for each attempt at a shard; it outlives a run that is killed.

    Where it cannot be written an error is logged, and the labelling goes on.
    """

    def __init__(self, path: Path) -> None:
        """Starts a run and its clock.

        Args:
            path: The file, one for all runs that make the same labels.
        """
        self._path = path
        self._run = time.time_ns()
        self._begin_s = time.monotonic()
        self._has_begun = False

    def elapsed_s(self) -> float:
        """Returns the seconds since the start of this run."""
        return time.monotonic() - self._begin_s

    def add(self, attempt: "Attempt") -> None:
        """Writes what an attempt has spent."""
        self._has_begun = True
        shard, is_done = attempt.shard, attempt.record is not None
        self._write(
            _Line(
                self._run,
                self.elapsed_s(),
                worker=attempt.worker,
                shard=f"{shard.name}-{shard.key}",
                num_images=len(shard.rows) if is_done else 0,
                seconds=attempt.seconds,
                energy_j=attempt.energy_j,
                num_halved=attempt.num_halved,
                failure=attempt.failure,
            )
        )

    def end(self) -> Spent:
        """Writes that the run ends, if it made an attempt; returns what all have spent."""
        if self._has_begun:
            self._write(_Line(self._run, self.elapsed_s()))
        elapsed_s: dict[int, float] = defaultdict(float)
        workers: dict[int, set[str]] = defaultdict(set)
        num_images: dict[str, int] = {}
        energy_j: list[float] = []
        num_failures = 0
        for line in self._lines():
            elapsed_s[line.run] = max(elapsed_s[line.run], line.elapsed_s)
            if line.worker is not None:
                workers[line.run].add(line.worker)
            if line.num_images:
                num_images[line.shard] = line.num_images
            if line.energy_j is not None:
                energy_j.append(line.energy_j)
            num_failures += line.failure != ""
        return Spent(
            labelling_s=sum(elapsed_s.values()),
            worker_s=sum(seconds * len(workers[run]) for run, seconds in elapsed_s.items()),
            energy_j=sum(energy_j) if energy_j else None,
            num_images=sum(num_images.values()),
            num_failures=num_failures,
        )

    def _write(self, line: _Line) -> None:
        try:
            with self._path.open("a+b") as stream:
                if stream.tell() and not self._ends_whole():
                    stream.write(b"\n")  # after what a killed run left of its last line
                stream.write(json.dumps(asdict(line)).encode() + b"\n")
        except OSError as error:
            logger.error("%s: expected to write what was spent, got %s", self._path, error)

    def _ends_whole(self) -> bool:
        with self._path.open("rb") as stream:
            stream.seek(-1, os.SEEK_END)
            return stream.read() == b"\n"

    def _lines(self) -> Iterator[_Line]:
        """Yields the lines; a torn one is left out."""
        if not self._path.is_file():
            return
        for text in self._path.read_bytes().splitlines():
            try:
                yield _Line(**json.loads(text))
            except (ValueError, TypeError):
                continue
