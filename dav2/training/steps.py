"""What every training step has in common: optimiser, averaged weights, when things are due."""

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from dav2.models.depth_anything import DepthAnything
from dav2.models.encoder import PATCH_PX
from dav2.models.masked_image_model import MaskedImageModel
from dav2.training.groups import parameter_groups
from dav2.training.order import mixed
from dav2.training.schedule import ScheduleName, rate_factor
from dav2.training.sharding import shard, whole, whole_model

_FEW_PIXELS = 256 * PATCH_PX**2

ModelT = TypeVar("ModelT", DepthAnything, MaskedImageModel)


@dataclass(frozen=True, slots=True)
class OptimiserConfig:
    """How weights move."""

    num_steps: int
    encoder_lr: float
    decoder_lr: float
    schedule: ScheduleName
    warmup_steps: int = 0
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: float = 0.0
    """Gradients of a larger norm are shortened to it; 0 for never."""
    average_decay: float = 0.999
    """Of the exponential average of the weights; 0 keeps the last weights alone."""
    layer_decay: float = 1.0
    """Each encoder block's rate is this times that of the block above it; 1: one rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepConfig:
    """What every training step needs to know, whatever it computes."""

    seed: int
    """Decides what is random inside a step, together with the step."""
    optimiser: OptimiserConfig
    """Rates, schedule, average."""
    compile_blocks: bool = False
    """Compile each block of the encoder, and the head: once for every size of view, since their
    number is small and a graph for any size is slower. Other rounding, hence other weights."""
    checkpoint_activations: bool = False
    """Keep only what enters each block of the encoder, and compute the rest anew for the gradients:
    less memory, equal weights."""


class Training(LightningModule, Generic[ModelT]):
    """Moves a model's weights; `averaged` holds their average, which is what is kept.

    What a step computes is the subclass's: its `training_step` begins with `start_step` and returns
    `loss`, its terms if it has several, and `finite`: of each sample, whether its numbers are.
    """

    def __init__(self, model: ModelT, config: StepConfig) -> None:
        """Takes a model that has its initial weights.

        Args:
            model: Changed by training.
            config: How its weights move.
        """
        super().__init__()
        self.model: ModelT = model
        self._shell: list[ModelT] = []  # in a list, so that it is no part of the state
        self.averaged: ModelT = copy.deepcopy(model).requires_grad_(False).eval()
        self.num_steps_done = 0
        self.has_stopped = False
        """Whether training ends after this step, before its time."""
        self.finite_gradients = torch.tensor(True)
        """Whether the norm of the last step's gradients was finite; on the device."""
        self._optimiser = config.optimiser
        self._seed = config.seed
        self._images_px = (0, 0)
        self.model.encoder.set_grad_checkpointing(config.checkpoint_activations)
        if config.compile_blocks:
            # In place and block by block: names of weights stay, and equal blocks share one graph.
            for block in (*self.model.encoder.blocks, self.model.head):
                block.compile(dynamic=False)

    def configure_model(self) -> None:
        """Shares the weights and their average out over the ranks, if each is to hold a share."""
        if self.device_mesh is not None:
            self._shell = [copy.deepcopy(self.averaged).to("meta")]
            for model in (self.model, self.averaged):
                shard(model, self.device_mesh["data_parallel"])

    def whole_average(self) -> ModelT:
        """Returns `averaged`, or where ranks hold a share of it, a whole copy.

        All ranks call this together.
        """
        return whole_model(self.averaged, self._shell[0]) if self._shell else self.averaged

    def start_step(self) -> None:
        """Lets what is random in this step follow from seed and step alone."""
        torch.manual_seed(mixed(mixed(self._seed) ^ self.num_steps_done) >> 1)

    def attention(self, size_px: Sequence[int]) -> AbstractContextManager[None]:
        """Chooses how attention is computed for images of a size, also when gradients are.

        Of few tokens on a CPU, plain matrix products and their gradients take a quarter of the time
        of PyTorch's fused attention; of many they would take too much memory.
        """
        height, width = size_px
        self._images_px = height, width
        if self.device.type == "cpu" and height * width <= _FEW_PIXELS:
            context: AbstractContextManager[None] = sdpa_kernel(SDPBackend.MATH)
            return context
        return nullcontext()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Returns AdamW with a rate for the encoder and one for the decoder, and the schedule."""
        config = self._optimiser
        optimiser = AdamW(
            parameter_groups(
                self.model,
                encoder_lr=config.encoder_lr,
                decoder_lr=config.decoder_lr,
                layer_decay=config.layer_decay,
            ),
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=True,
        )
        first = self.num_steps_done

        def factor(step: int) -> float:
            return rate_factor(
                first + step,
                config.schedule,
                num_steps=config.num_steps,
                warmup_steps=config.warmup_steps,
            )

        scheduler = LambdaLR(optimiser, factor)
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Computes gradients, and what was not kept for them, with the forward pass's attention."""
        with self.attention(self._images_px):
            super().backward(loss, *args, **kwargs)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Shortens gradients; Lightning itself would refuse to beside a fused optimiser."""
        weights = [weight for weight in self.model.parameters() if weight.grad is not None]
        norm = nn.utils.get_total_norm([cast("Tensor", weight.grad) for weight in weights])
        if self._optimiser.clip_norm > 0:
            nn.utils.clip_grads_with_norm_(weights, self._optimiser.clip_norm, norm)
        self.finite_gradients = whole(norm).isfinite()

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Takes a step and moves the averaged weights after it."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.num_steps_done += 1
        # A young average would hold on to the random initial weights.
        decay = min(
            self._optimiser.average_decay, (1 + self.num_steps_done) / (10 + self.num_steps_done)
        )
        if self._optimiser.average_decay == 0:
            decay = 0.0
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.averaged.parameters()), list(self.model.parameters()), 1.0 - decay
            )

    def is_due(self, every_steps: int, batch_idx: int) -> bool:
        """Returns whether what happens every so many steps happens after this batch.

        It also happens after the last step and at an early stop, and never between the parts of an
        accumulated batch.
        """
        if (batch_idx + 1) % self.trainer.accumulate_grad_batches:
            return False
        done = self.num_steps_done
        return done % every_steps == 0 or done == self._optimiser.num_steps or self.has_stopped

    def rates(self) -> dict[str, float]:
        """Returns the learning rates of the next step: of the encoder's top block, of the head."""
        encoder, *_, decoder = self.trainer.optimizers[0].param_groups
        return {"encoder_lr": float(encoder["lr"]), "decoder_lr": float(decoder["lr"])}
