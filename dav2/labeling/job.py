"""What is to be labelled, with what and where: all that a worker needs to know."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from torch import nn

from dav2.data.open import SourceLocation
from dav2.labeling.labeler import Labeler
from dav2.labeling.plan import PlannedShard
from dav2.labeling.prepare import LabelingOptions

EngineName = Literal["inline", "ray"]
"""Who labels (`dav2.labeling.engine`)."""


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
    verify: Callable[[], object]
    """Raises `ValueError` where what `recipe` was made of is something else: on another machine, or
    later."""
    options: LabelingOptions
    device: torch.device
    num_threads: int
    """Of the teacher on a CPU."""
    num_workers: int
    """Threads that decode, and as many that encode."""
    store: Path
    """Folder of committed shards."""
    ray: RayOptions


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
