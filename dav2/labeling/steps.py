"""What happens to a sample on its way through the labelling; each step runs in threads of its own.

Axes: B batch, h, w pixels of the teacher's input.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import UInt8
from torch import Tensor

from dav2.labeling.job import LabelingJob
from dav2.labeling.labeler import FinishedSample, Label, Labeler
from dav2.labeling.plan import PlannedShard, plan_batches
from dav2.labeling.prepare import PreparedImage, Preparer
from dav2.labeling.store import RefusedSample

# Of PyTorch and of the decoders' libraries; a fault of a photograph itself is another kind.
_FAILURES = (RuntimeError, MemoryError)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a sample, and with it its shard, has no result: no fault of the sample's."""

    reason: str


@dataclass(frozen=True, slots=True)
class _Labelled:
    image: PreparedImage
    label: Label


@dataclass(frozen=True, slots=True)
class Item:
    """A sample on its way, with the shard and the batch it belongs to."""

    shard: PlannedShard
    batch: int
    row: int
    content: PreparedImage | RefusedSample | _Labelled | Failure | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples of one batch; those with an image stand in the tensor, in their order."""

    items: list[Item]
    images: list[PreparedImage]
    stacked: UInt8[Tensor, "B h w 3"] | None
    """None without an image."""


class Steps:
    """The steps in their order; a failure of a sample's own makes it a refused one."""

    def __init__(self, job: LabelingJob, labeler: Labeler) -> None:
        """Opens the job's sources.

        Args:
            job: What is labelled.
            labeler: The job's.
        """
        self.num_halved: Counter[str] = Counter()
        """By shard: how often a batch had to be halved."""
        self._job = job
        self._preparer = Preparer(job.manifest, job.sources, job.options)
        self._labeler = labeler
        self._rows = job.manifest[["sample_id", "source", "image"]].to_dict("records")

    def items(self, shards: Iterable[PlannedShard]) -> Iterator[Item]:
        """Yields the samples of shards, batch by batch."""
        size_of, batch_size = self._preparer.size_of, self._job.options.batch_size
        for shard in shards:
            for batch, rows in enumerate(plan_batches(shard, size_of, batch_size=batch_size)):
                for row in rows:
                    yield Item(shard, batch, row)

    def prepare(self, item: Item) -> Item:
        """Reads, decodes and resizes."""
        content: PreparedImage | RefusedSample | Failure
        try:
            content = self._preparer.prepare(item.row)
        except (ValueError, OSError) as error:
            content = self._refused(item.row, error)
        except _FAILURES as error:
            content = _failure(error)
        return replace(item, content=content)

    def stack(self, items: list[Item]) -> Batch:
        """Brings the images of a batch together while the teacher is busy with another."""
        images = [item.content for item in items if isinstance(item.content, PreparedImage)]
        try:
            return Batch(items, images, self._labeler.stack(images) if images else None)
        except _FAILURES as error:
            failure = _failure(error)
            return Batch([replace(item, content=failure) for item in items], [], None)

    def label(self, batch: Batch) -> list[Item]:
        """Asks the teacher."""
        if batch.stacked is None:
            return batch.items
        try:
            labels = iter(self._labels(batch.images, batch.stacked, batch.items[0].shard))
        except _FAILURES as error:
            failure = _failure(error)
            return [replace(item, content=failure) for item in batch.items]
        return [
            replace(item, content=_Labelled(item.content, next(labels)))
            if isinstance(item.content, PreparedImage)
            else item
            for item in batch.items
        ]

    def finish(self, item: Item) -> tuple[Item, FinishedSample | RefusedSample | Failure]:
        """Describes and packs."""
        content = item.content
        if isinstance(content, RefusedSample | Failure):
            return item, content
        assert isinstance(content, _Labelled)
        try:
            return item, self._labeler.finish(content.image, content.label)
        except ValueError as error:
            return item, self._refused(item.row, error)
        except _FAILURES as error:
            return item, _failure(error)

    def _labels(
        self, images: list[PreparedImage], stacked: UInt8[Tensor, "B h w 3"], shard: PlannedShard
    ) -> list[Label]:
        """Returns the labels of a batch; one that does not fit into memory is halved."""
        try:
            return self._labeler.label(images, stacked)
        except _FAILURES as error:
            if len(images) == 1 or not _is_out_of_memory(error):
                raise
        # Not in the handler: what failed would keep its memory until the end of it.
        self.num_halved[shard.name] += 1
        logger.warning("%s: a batch of %d did not fit into memory: halved", shard.name, len(images))
        if self._job.device.type == "cuda":
            torch.cuda.empty_cache()
        middle = len(images) // 2
        return [
            *self._labels(images[:middle], stacked[:middle], shard),
            *self._labels(images[middle:], stacked[middle:], shard),
        ]

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


def _failure(error: BaseException) -> Failure:
    lines = str(error).splitlines() or ["no reason given"]
    return Failure(f"{type(error).__name__}: {lines[0]}")


def _is_out_of_memory(error: BaseException) -> bool:
    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)
