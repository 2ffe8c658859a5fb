"""Batches for training: which samples, in which order, in which view.

Axes: B batch, H height, W width (pixels), 3 colours.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from dav2.training.augment import (
    AS_IS,
    AugmentConfig,
    draw_colours,
    draw_crop,
    generator,
    random_view,
)
from dav2.training.cutmix import NO_BOX, draw_box
from dav2.training.mixture import Part, interleaved
from dav2.training.order import mixed, permuted
from dav2.training.samples import KeptSamples, Samples, TrainingSample


class Batch(NamedTuple):
    """Views of several samples."""

    sample_ids: list[str]
    images: UInt8[Tensor, "B H W 3"]
    colours: Float32[Tensor, "B 5"]
    """Factors for `dav2.training.augment.distort`."""
    targets: Float32[Tensor, "B H W"]
    valid: Bool[Tensor, "B H W"]
    boxes: Int64[Tensor, "B 4"]
    """Rectangles for `dav2.training.cutmix.mix`."""
    pseudo: Bool[Tensor, " B"]
    """True where a teacher gave the target."""


class View(NamedTuple):
    """What the model is to see of a sample."""

    sample: TrainingSample
    colours: Float32[np.ndarray, " 5"]
    box: Int64[np.ndarray, " 4"]


class Views(Dataset[View]):
    """The endless stream of random views: what stands at a position follows from the seed alone.

    The views of one batch, that of all processes together, are of one size.
    """

    def __init__(
        self,
        samples: Samples,
        config: AugmentConfig,
        *,
        seed: int,
        batch_size: int,
        mixture: Sequence[Part] = (),
    ) -> None:
        self._samples = samples
        self._config = config
        self._seed = seed
        self._batch_size = batch_size
        self._mixture = mixture
        self._length = len(samples.sample_ids)

    def __getitem__(self, position: int) -> View:
        if self._mixture:
            index = interleaved(position, self._mixture, seed=self._seed)
        else:
            index = permuted(position, self._length, seed=self._seed)
        sample = self._samples.read(index)
        together = generator(mixed(self._seed), position // self._batch_size)
        numbers = generator(self._seed, position)
        crop_px = draw_crop(self._config, together)
        view = random_view(sample, self._config, numbers, crop_px=crop_px)
        if self._config.perturb == "pseudo" and not sample.pseudo:
            return View(view, AS_IS, NO_BOX)
        colours = draw_colours(self._config, numbers)
        box = draw_box(self._config.cutmix_probability, numbers, crop_px=crop_px)
        return View(view, colours, box)


class Positions(Sampler[list[int]]):
    """The positions of each batch, from a batch of the stream on.

    All processes together take consecutive positions, so that their number does not change which
    samples a step sees.
    """

    def __init__(
        self, first: int, end: int, *, batch_size: int, rank: int = 0, num_ranks: int = 1
    ) -> None:
        self._batches = range(first, end)
        self._batch_size = batch_size
        self._rank = rank
        self._num_ranks = num_ranks

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._batches:
            start = (batch * self._num_ranks + self._rank) * self._batch_size
            yield list(range(start, start + self._batch_size))


class TrainingData(LightningDataModule):
    """Feeds a training from any step on."""

    def __init__(
        self,
        samples: Samples,
        config: AugmentConfig,
        *,
        seed: int,
        batch_size: int,
        num_batches: int,
        first_batch: int,
        num_workers: int,
        memory_limit_bytes: int,
        mixture: Sequence[Part] = (),
    ) -> None:
        """Prepares nothing yet.

        Args:
            samples: What to train on.
            config: Sizes of views and what is varied.
            seed: Decides order and views.
            batch_size: Samples of one process in one batch.
            num_batches: Batches of the whole training.
            first_batch: Batches already seen.
            num_workers: Processes that decode where the samples do not fit into memory.
            memory_limit_bytes: Decoded samples are kept while below this; then no other process
                is needed.
            mixture: The sets that the samples consist of, where they are drawn by weight; else
                each is seen as often as it has samples.
        """
        super().__init__()
        self._samples = samples
        self._config = config
        self._seed = seed
        self._batch_size = batch_size
        self._batches = (first_batch, num_batches)
        self._num_workers = num_workers
        self._memory_limit_bytes = memory_limit_bytes
        self._mixture = mixture

    def train_dataloader(self) -> DataLoader[View]:
        """Returns the batches that are left, those of this process."""
        trainer = self.trainer
        num_ranks = trainer.world_size if trainer else 1
        num_workers = 0 if self._fits() else self._num_workers
        samples = self._samples
        if num_workers == 0:
            samples = KeptSamples(samples, limit_bytes=self._memory_limit_bytes)
        first, end = self._batches
        return DataLoader(
            Views(
                samples,
                self._config,
                seed=self._seed,
                batch_size=self._batch_size * num_ranks,
                mixture=self._mixture,
            ),
            batch_sampler=Positions(
                first,
                end,
                batch_size=self._batch_size,
                rank=trainer.global_rank if trainer else 0,
                num_ranks=num_ranks,
            ),
            num_workers=num_workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=num_workers > 0,
        )

    def on_exception(self, exception: BaseException) -> None:
        """Says in one line that a process was killed, which PyTorch calls an error of the program.

        Raises:
            ChildProcessError: If so, mostly for want of memory.
        """
        text = str(exception).strip(" .")
        if isinstance(exception, RuntimeError) and text.startswith("DataLoader worker (pid"):
            raise ChildProcessError(
                f"training data: expected its processes to live, got {text}: "
                "fewer of them (running.num_workers) need less memory"
            ) from None

    def _fits(self) -> bool:
        num_samples = len(self._samples.sample_ids)
        return self._samples.read(0).num_bytes() * num_samples <= self._memory_limit_bytes


def collate(views: Sequence[View]) -> Batch:
    """Returns views as one batch."""
    samples = [view.sample for view in views]
    return Batch(
        sample_ids=[sample.sample_id for sample in samples],
        images=torch.from_numpy(np.stack([sample.image for sample in samples])),
        colours=torch.from_numpy(np.stack([view.colours for view in views])),
        targets=torch.from_numpy(np.stack([sample.target for sample in samples])),
        valid=torch.from_numpy(np.stack([sample.valid for sample in samples])),
        boxes=torch.from_numpy(np.stack([view.box for view in views])),
        pseudo=torch.tensor([sample.pseudo for sample in samples]),
    )
