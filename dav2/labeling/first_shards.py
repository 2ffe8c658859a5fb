"""Judges the first shards of a labelling before the others are made."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dav2.labeling.plan import PlannedShard
from dav2.labeling.store import ShardRecord, read_rows


@dataclass(frozen=True, slots=True)
class LabelLimits:
    """What labels must be like; shares are of the labels, or of a label's range."""

    max_degenerate_fraction: float
    """Share of labels that are flat."""
    max_zero_fraction: float
    """Of a label's pixels."""
    max_ramp_correlation: float
    mostly: float
    """Share of labels that must keep the two limits above."""
    max_flip_inconsistency: float
    """Mean over the labels that were compared, as is the next."""
    max_scale_inconsistency: float


class FirstShards:
    """Waits for the first shards of each source and judges them together, source by source."""

    def __init__(
        self,
        store: Path,
        limits: LabelLimits,
        shards: Iterable[PlannedShard],
        *,
        num_shards: int,
    ) -> None:
        """Waits for none yet.

        Args:
            store: Folder of committed shards.
            limits: What their labels must be like.
            shards: The plan.
            num_shards: How many to judge of each source, all of one that has fewer; 0 for none.
        """
        self._store = store
        self._limits = limits
        counts = Counter(_source(shard) for shard in shards)
        self._num_missing = {source: min(num_shards, count) for source, count in counts.items()}
        self._shards: dict[str, list[PlannedShard]] = {source: [] for source in counts}

    def add(self, shard: PlannedShard, record: ShardRecord) -> None:
        """Takes a shard if it holds labels and its source waits for one; judges at the last.

        Args:
            shard: A shard of the plan.
            record: Its record.

        Raises:
            ValueError: If the first shards of its source do not keep a limit.
        """
        source = _source(shard)
        if not self._num_missing[source] or not record.num_samples:
            return
        self._shards[source].append(shard)
        self._num_missing[source] -= 1
        if not self._num_missing[source]:
            first = self._shards[source]
            check_labels(
                read_rows(self._store, first),
                self._limits,
                where=f"{source}: labels of the first {len(first)} shards",
            )


def source_by_source(shards: Iterable[PlannedShard]) -> list[PlannedShard]:
    """Returns shards in turns of their sources, so that the first ones are of all of them."""
    turns: Counter[str] = Counter()
    ordered = []
    for shard in sorted(shards, key=lambda shard: shard.name):
        source = _source(shard)
        ordered.append((turns[source], shard))
        turns[source] += 1
    return [shard for _, shard in sorted(ordered, key=lambda entry: (entry[0], entry[1].name))]


def check_labels(rows: pd.DataFrame, limits: LabelLimits, *, where: str) -> None:
    """Refuses labels from which a student should not learn.

    Of a handful of labels one may break any limit of single labels.

    Args:
        rows: Index rows of the labels, at least one.
        limits: What they must be like.
        where: What they are, for the message.

    Raises:
        ValueError: If a limit is not kept, with the first that is not.
    """
    mostly_bad = 1 - limits.mostly
    for problem, is_bad, allowed in (
        ("that are flat", rows["degenerate"], limits.max_degenerate_fraction),
        (
            f"with more than {limits.max_zero_fraction:g} of their pixels 0",
            rows["zero_fraction"] > limits.max_zero_fraction,
            mostly_bad,
        ),
        (
            f"that correlate with the row by more than {limits.max_ramp_correlation:g}",
            rows["ramp_correlation"] > limits.max_ramp_correlation,
            mostly_bad,
        ),
    ):
        most = max(1, int(allowed * len(rows) + 1e-9))  # 1 - 0.9 is a little below 0.1
        num_bad = int(is_bad.sum())
        if num_bad > most:
            first = rows.loc[is_bad, "sample_id"].iloc[0]
            raise ValueError(
                f"{where}: expected at most {most} of {len(rows)} {problem}, "
                f"got {num_bad}, the first {first}"
            )
    for other, column, limit in (
        ("the mirrored image's", "flip_inconsistency", limits.max_flip_inconsistency),
        ("another resolution's", "scale_inconsistency", limits.max_scale_inconsistency),
    ):
        mean = rows[column].mean()
        if mean > limit:  # False where none was compared
            raise ValueError(
                f"{where}: expected a mean difference of at most {limit:g} of a label's range "
                f"from {other}, got {mean:.3g}"
            )


def _source(shard: PlannedShard) -> str:
    return shard.name.rpartition("-b")[0]
