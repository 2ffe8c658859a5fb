"""The numbers that describe a finished set of labels."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
import pyarrow as pa

from dav2.labeling.job import LabelingJob
from dav2.labeling.plan import PlannedShard
from dav2.labeling.store import ShardRecord, read_refused, read_rows

_DESCRIBED = (
    "label_range",
    "ramp_correlation",
    "flip_inconsistency",
    "scale_inconsistency",
    "zero_fraction",
)


def summarise(
    job: LabelingJob, records: Sequence[tuple[PlannedShard, ShardRecord]]
) -> dict[str, Any]:
    """Describes a finished set of labels, in numbers that do not vary by run.

    Args:
        job: What was done, and with what.
        records: Every shard of the plan with its record.

    Returns:
        JSON-able: counts, coverage (share of the manifest's samples with a label), how many shards
        were set aside and how many labels are degenerate, percentiles of their statistics (none
        where nothing was measured), counts by source, the fingerprints of teacher and recipe, the
        options.

    Raises:
        ValueError: If a sample of the manifest is not exactly once among labels and refused ones.
    """
    shards = [shard for shard, _ in records]
    rows, refused = read_rows(job.store, shards), read_refused(job.store, shards)
    _check_complete(job, rows, refused)
    rows["label_range"] = rows["label_max"] - rows["label_min"]
    num_samples = len(job.manifest)
    return {
        "num_samples": num_samples,
        "num_labelled": len(rows),
        "num_quarantined": refused.num_rows,
        "num_degenerate": int(rows["degenerate"].sum()),
        "num_shards": sum(record.num_samples > 0 for _, record in records),
        "num_shards_set_aside": sum(record.set_aside != "" for _, record in records),
        "coverage": len(rows) / num_samples,
        "statistics": {name: _percentiles(rows[name]) for name in _DESCRIBED},
        "sources": {
            source: {
                "num_labelled": int((rows["source"] == source).sum()),
                "num_samples": int((job.manifest["source"] == source).sum()),
            }
            for source in sorted(set(job.manifest["source"]))
        },
        "recipe": job.recipe,
        "teacher": job.teacher,
        "options": asdict(job.options),
    }


def _check_complete(job: LabelingJob, rows: pd.DataFrame, refused: pa.Table) -> None:
    counts = Counter([*rows["sample_id"], *refused["sample_id"].to_pylist()])
    planned = Counter(job.manifest["sample_id"])
    if counts != planned:
        wrong = sorted(set((counts - planned) | (planned - counts)))
        raise ValueError(
            f"{job.store}: expected each sample once among labels and refused ones, "
            f"got {len(wrong)} that are not, the first {wrong[0]}"
        )


def _percentiles(values: pd.Series) -> dict[str, float] | None:
    measured = values.dropna()
    if measured.empty:
        return None
    return {f"p{q:02d}": float(measured.quantile(q / 100)) for q in (5, 50, 95)}
