"""Warms an encoder up on images without labels: it paints what was masked of them.

The stand-in for DINOv2 where its weights are missing. Why SimMIM, single patches and plain colours:
docs/decisions/warm-up.md.

Axes: B batch, H height, W width (pixels), N patches (row by row), 3 colours.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from dav2.data.transforms import (
    IMAGE_DEVIATION,
    IMAGE_MEAN,
    normalise,
    prepare_size,
    resize_image,
)
from dav2.losses.masked_pixels import masked_pixel_loss, masked_pixels
from dav2.models.encoder import PATCH_PX, Encoder
from dav2.models.masked_image_model import MaskedImageModel
from dav2.training.data import Batch
from dav2.training.faults import told_in_one_line
from dav2.training.order import mixed
from dav2.training.pictures import sheet
from dav2.training.recording import Listener
from dav2.training.run import RunConfig, prepare_process, run
from dav2.training.samples import Samples, spread
from dav2.training.steps import StepConfig, Training

_NUM_DRAWN = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUpConfig(RunConfig):
    """All of a warm-up but the model and the images."""

    mask_ratio: float
    """Share of an image's patches that are masked, above 0 and below 1."""

    def __post_init__(self) -> None:
        """Checks what would otherwise leave nothing to see or nothing to paint.

        Raises:
            ValueError: If no patch, or every one, would be masked.
        """
        smallest = min(height * width for height, width in self.augment.crops_px) // PATCH_PX**2
        if not 0 < self.mask_ratio < 1 or smallest < 2:
            raise ValueError(
                f"{self.name}: expected a mask_ratio above 0 and below 1 and crops_px of at least "
                f"two patches, got {self.mask_ratio} and {smallest} in the smallest"
            )


@dataclass(frozen=True, slots=True)
class WarmedUp:
    """What a warm-up leaves."""

    encoder: Encoder
    """On the CPU, in evaluation mode."""
    curves: list[dict[str, float]]
    """A row every so many steps: step, loss, rates."""
    measures: dict[str, float]
    """Mean loss on images held out, and that of painting each one's mean visible colour."""
    picture: UInt8[np.ndarray, "H W 3"]
    """Some of them: whole, masked, painted."""


class MaskedImageTraining(Training[MaskedImageModel]):
    """Trains an encoder to paint what is masked."""

    def __init__(self, model: MaskedImageModel, config: StepConfig, *, mask_ratio: float) -> None:
        """Takes a model that has its initial weights.

        Args:
            model: Changed by training.
            config: How its weights move; the seed decides what is masked, together with the
                position in the stream of samples.
            mask_ratio: Share of the patches that are masked.
        """
        super().__init__(model, config)
        self._mask_ratio = mask_ratio

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Returns the loss, and which samples gave finite numbers; waits for nothing."""
        self.start_step()
        inputs = normalise(batch.images)
        masked = self._masked(inputs, batch_idx)
        with self.attention(inputs.shape[-2:]):
            painted = self.model(inputs, masked)
        with torch.autocast(painted.device.type, enabled=False):
            loss = masked_pixel_loss(painted.float(), inputs.float(), masked)
        finite = painted.detach().isfinite().flatten(1).all(1)
        return {"loss": loss, "finite": finite}

    def _masked(self, inputs: Float[Tensor, "B 3 H W"], batch_idx: int) -> Bool[Tensor, "B N"]:
        """Returns what is masked of the images of this rank, the same for any number of ranks."""
        trainer, num_images = self.trainer, len(inputs)
        num_patches = inputs.shape[-2] * inputs.shape[-1] // PATCH_PX**2
        num_parts, num_ranks = trainer.accumulate_grad_batches, trainer.world_size
        together = random_masks(
            num_parts * num_ranks * num_images, num_patches, self._mask_ratio, inputs.device
        )
        first = (batch_idx % num_parts * num_ranks + trainer.global_rank) * num_images
        return together[first : first + num_images]


def random_masks(
    num_images: int,
    num_patches: int,
    ratio: float,
    device: torch.device,
    *,
    generator: torch.Generator | None = None,
) -> Bool[Tensor, "{num_images} {num_patches}"]:
    """Returns for each image which patches are masked: exactly that share of them, rounded.

    At least one is masked and at least one visible.

    Args:
        num_images: Rows of the result.
        num_patches: Of an image.
        ratio: Share that is masked.
        device: Where the masks are drawn and lie.
        generator: Random numbers; None for the process's own.
    """
    num_masked = min(max(1, round(ratio * num_patches)), num_patches - 1)
    numbers = torch.rand(num_images, num_patches, device=device, generator=generator)
    return numbers.argsort(1).argsort(1) < num_masked


def warm_up(
    model: MaskedImageModel,
    samples: Samples,
    held_out: Samples,
    *,
    config: WarmUpConfig,
    work: Path,
    listener: Listener | None = None,
) -> WarmedUp:
    """Trains `model` on images and returns its encoder with averaged weights.

    Resumes, and repeats itself to the bit on a CPU, as `dav2.training.fit.fit`.

    Args:
        model: With its initial weights; changed.
        samples: Images; their targets are not looked at.
        held_out: Images to measure and draw, never trained on.
        config: Everything else.
        work: Folder of this training alone, for its progress.
        listener: Told curves as they come, and the measures.

    Raises:
        ValueError: As `dav2.training.fit.fit`; likewise `ConnectionError` and `ChildProcessError`.
    """
    process = prepare_process(config)
    listener = listener if process.is_first else None
    module = MaskedImageTraining(model, config, mask_ratio=config.mask_ratio)
    with told_in_one_line(where=config.name, num_ranks=config.parallel.num_ranks):
        curves = run(module, samples, config=config, process=process, work=work, listener=listener)
        kept = module.whole_average().cpu().eval()
        measures, picture = _painted(kept, held_out, config)
    if listener is not None:
        named = {f"held_out/{name}": value for name, value in measures.items()}
        listener(named, config.optimiser.num_steps)
    return WarmedUp(kept.encoder, curves, measures, picture)


@torch.no_grad()
def _painted(
    model: MaskedImageModel, samples: Samples, config: WarmUpConfig
) -> tuple[dict[str, float], UInt8[np.ndarray, "H W 3"]]:
    """Returns the measures of a model on whole images, and a picture of some of them."""
    count = len(samples.sample_ids)
    drawn = spread(count, num_chosen=_NUM_DRAWN)
    losses, rows = [], []
    for index in range(count):
        image = samples.read(index).image
        size = prepare_size(*image.shape[:2], short_side_px=config.augment.short_side_px)
        inputs = normalise(torch.from_numpy(resize_image(image, size))[None])
        numbers = torch.Generator().manual_seed(mixed(mixed(config.seed) ^ index) >> 1)
        num_patches = size[0] * size[1] // PATCH_PX**2
        masked = random_masks(1, num_patches, config.mask_ratio, inputs.device, generator=numbers)
        painted = model(inputs, masked)
        hidden = masked_pixels(masked, *size)[:, None]
        visible = inputs.masked_fill(hidden, 0)
        mean = visible.sum((2, 3), keepdim=True) / (~hidden).sum()
        guesses = (painted, mean.expand_as(inputs))
        losses.append([float(masked_pixel_loss(guess, inputs, masked)) for guess in guesses])
        if index in drawn:
            shown = (inputs, visible, torch.where(hidden, painted, inputs))
            rows.append([_colours(picture) for picture in shown])
    loss, of_mean_colour = np.mean(losses, axis=0).tolist()
    return {"loss": loss, "loss_of_mean_colour": of_mean_colour}, sheet(rows)


def _colours(normalised: Float[Tensor, "1 3 H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """Undoes `normalise`; what lies outside the colours there are becomes the nearest."""
    mean, deviation = torch.tensor(IMAGE_MEAN), torch.tensor(IMAGE_DEVIATION)
    colours = (normalised[0].permute(1, 2, 0) * deviation + mean) * 255
    pixels: UInt8[np.ndarray, "H W 3"] = colours.clamp(0, 255).round().to(torch.uint8).numpy()
    return pixels
