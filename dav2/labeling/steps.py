"""What happens to a sample on its way through the labelling; each step runs in threads of its own.

Axes: B batch, h, w pixels of the teacher's input.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

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
# What PyTorch's CPU allocator, CUDA, cuBLAS and cuDNN say in an error of no kind of its own.
_NO_MEMORY = ("can't allocate memory", "out of memory", "_ALLOC_FAILED")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a sample, and with it its shard, has no result: no fault of the sample's."""

    reason: str


@dataclass(frozen=True, slots=True)
class _Labelled:
    image: PreparedImage
    label: Label


Content = PreparedImage | RefusedSample | _Labelled | Failure | None
"""What a sample is at the moment; None before it is read."""


@dataclass(frozen=True, slots=True)
class Item:
    """A sample on its way, with the shard and the batch it belongs to."""

    shard: PlannedShard
    batch: int
    row: int
    content: Content = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples of one batch; those with an image stand in the tensor, in their order."""

    items: list[Item]
    images: list[PreparedImage]
    stacked: UInt8[Tensor, "B h w 3"] | None
    """None without an image."""


@dataclass(slots=True)
class _Memory:
    """What has fitted into memory while a shard was labelled, and what has not."""

    shard: str
    too_many: dict[tuple[int, int], int] = field(default_factory=dict)
    """By height and width of the teacher's input: the smallest batch that did not fit."""
    largest_px: int = 0
    """Pixels of the largest input that did."""

    def refuse(self, image: PreparedImage, error: BaseException) -> ValueError:
        """Returns why an image that did not fit alone is refused.

        Raises:
            BaseException: The error, if nothing smaller has fitted: then it is not the image.
        """
        height, width = image.teacher_input.shape[:2]
        if not 0 < self.largest_px < height * width:
            raise error
        logger.warning("%s: %s: %s", self.shard, image.sample_id, _failure(error).reason)
        return ValueError(
            f"label: expected memory for one input of {height} x {width} px, got too little"
        )


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
        self._memory = _Memory("")
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
        """Asks the teacher; called by one thread, shard after shard."""
        if batch.stacked is None:
            return batch.items
        shard = batch.items[0].shard.name
        if self._memory.shard != shard:
            self._memory = _Memory(shard)
        try:
            labels = iter(self._labels(batch.images, batch.stacked))
        except _FAILURES as error:
            failure = _failure(error)
            return [replace(item, content=failure) for item in batch.items]
        return [replace(item, content=self._answered(item, labels)) for item in batch.items]

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

    def _answered(self, item: Item, labels: Iterator[Label | ValueError]) -> Content:
        image = item.content
        if not isinstance(image, PreparedImage):
            return image
        label = next(labels)
        if isinstance(label, ValueError):
            return self._refused(item.row, label)
        return _Labelled(image, label)

    def _labels(
        self, images: list[PreparedImage], stacked: UInt8[Tensor, "B h w 3"]
    ) -> list[Label | ValueError]:
        """Returns the labels of a batch; one that does not fit into memory is halved.

        As is each later one of its shard that has that shape and is as large. An image that does
        not fit alone has an error in place of its label, where a smaller one of its shard did fit.
        """
        memory, shape = self._memory, (stacked.shape[1], stacked.shape[2])
        if len(images) < memory.too_many.get(shape, len(images) + 1):
            try:
                labels = self._labeler.label(images, stacked)
            except _FAILURES as error:
                if not _is_out_of_memory(error):
                    raise
                if len(images) == 1:
                    return [memory.refuse(images[0], error)]
            else:
                memory.largest_px = max(memory.largest_px, shape[0] * shape[1])
                return list(labels)
            # Not in the handler: what failed would keep its memory until the end of it.
            memory.too_many[shape] = len(images)
            logger.warning(
                "%s: a batch of %d did not fit into memory: halved", memory.shard, len(images)
            )
            if self._job.device.type == "cuda":
                torch.cuda.empty_cache()
        self.num_halved[memory.shard] += 1
        middle = len(images) // 2
        return [
            *self._labels(images[:middle], stacked[:middle]),
            *self._labels(images[middle:], stacked[middle:]),
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
    return isinstance(error, kinds) or any(words in str(error) for words in _NO_MEMORY)
