"""One training step: view, model, losses, optimiser, averaged weights.

Axes: B batch, H height, W width (pixels), N patches, C channels.
"""

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, assert_never

import torch
from jaxtyping import Bool, Float
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from dav2.data.transforms import normalise
from dav2.losses.feature_alignment import feature_alignment_loss
from dav2.losses.gradient_matching import gradient_term
from dav2.losses.normalisation import Alignment, residual
from dav2.losses.scale_shift_invariant import data_term
from dav2.losses.silog import silog_loss
from dav2.models.depth_anything import DepthAnything
from dav2.models.encoder import PATCH_PX
from dav2.training.augment import distort
from dav2.training.cutmix import mix, split_regions
from dav2.training.data import Batch
from dav2.training.groups import parameter_groups
from dav2.training.order import mixed
from dav2.training.schedule import ScheduleName, rate_factor

_FEW_PIXELS = 256 * PATCH_PX**2

TargetKind = Literal["inverse_depth", "depth"]

AlignedFeatures = Literal["all", "pseudo", "synthetic"]


@dataclass(frozen=True, slots=True)
class LossConfig:
    """Which terms a training minimises; a weight of 0 turns one off."""

    target: TargetKind
    """Inverse depth up to scale and shift, or metres (SiLog alone)."""
    gradient_weight: float = 2.0
    """Of gradient matching; 2 is the paper's choice at its scale."""
    num_gradient_scales: int = 4
    alignment: Alignment = "median"
    """How inverse depth meets its target: by medians of both, or by a fit of one to the other."""
    trim_fraction: float = 0.0
    """Share of the worst pixels of each pseudo-labelled sample that the data term leaves out."""
    feature_weight: float = 0.0
    """Of feature alignment; needs the encoder to align with."""
    feature_tolerance: float = 0.85
    """Patches more alike than this (cosine) are left alone."""
    align_features: AlignedFeatures = "all"
    """Which samples feature alignment sees; others weigh 0 in its mean over images."""
    variance_focus: float = 0.5
    """SiLog: 0 minimises the error of the logarithm, 1 its variance alone."""


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


class DepthTraining(LightningModule):
    """Trains a model; `averaged` holds the average of its weights, which is what is kept."""

    def __init__(
        self,
        model: DepthAnything,
        *,
        losses: LossConfig,
        optimiser: OptimiserConfig,
        seed: int,
        max_sigma_px: float = 0.0,
        cutmix: bool = False,
        frozen_encoder: nn.Module | None = None,
        compile_blocks: bool = False,
        checkpoint_activations: bool = False,
    ) -> None:
        """Takes a model that has its initial weights.

        Args:
            model: Changed by training.
            losses: Terms and weights.
            optimiser: Rates, schedule, average.
            seed: Decides what is random inside a step, together with the step.
            max_sigma_px: Largest blur of the augmentation.
            cutmix: Batches come with rectangles to mix.
            frozen_encoder: Pretrained encoder of the same size for feature alignment.
            compile_blocks: Compile each block of the encoder, and the head: once for every size of
                view, since their number is small and a graph for any size is slower.
            checkpoint_activations: Keep only what enters each block of the encoder, and compute
                the rest anew for the gradients: less memory, the same gradients.

        Raises:
            ValueError: If feature alignment is wanted and there is no encoder to align with.
        """
        super().__init__()
        if losses.feature_weight > 0 and frozen_encoder is None:
            raise ValueError(
                f"feature alignment: expected a pretrained encoder for weight "
                f"{losses.feature_weight}, got none"
            )
        self.model = model
        self.averaged = copy.deepcopy(model).requires_grad_(False).eval()
        self.num_steps_done = 0
        self.has_stopped = False
        """Whether training ends after this step, before its time."""
        self._losses = losses
        self._optimiser = optimiser
        self._seed = seed
        self._max_sigma_px = max_sigma_px
        self._cutmix = cutmix
        # In a list, so that it is no part of the state: it never changes.
        self._frozen = [frozen_encoder.requires_grad_(False).eval()] if frozen_encoder else []
        self._images_px = (0, 0)
        self.model.encoder.set_grad_checkpointing(checkpoint_activations)
        if compile_blocks:
            # In place and block by block: names of weights stay, and equal blocks share one graph.
            for block in (*self.model.encoder.blocks, self.model.head):
                block.compile(dynamic=False)

    def on_fit_start(self) -> None:
        """Brings the frozen encoder to the device."""
        for encoder in self._frozen:
            encoder.to(self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Returns the loss, its terms, and which samples gave finite numbers; waits for nothing.

        `degenerate` counts the images that weigh 0: a growing number of them is a model that
        collapses.
        """
        torch.manual_seed(mixed(mixed(self._seed) ^ self.num_steps_done) >> 1)
        images = distort(batch.images, batch.colours, max_sigma_px=self._max_sigma_px)
        targets, valid, inside = batch.targets, batch.valid, None
        if self._cutmix:
            images, targets, valid, inside = mix(images, targets, valid, batch.boxes, batch.pseudo)
        inputs = normalise(images)
        self._images_px = inputs.shape[-2], inputs.shape[-1]
        with _attention(self._images_px, self.device.type):
            pred, tokens = self.model.forward_with_features(inputs)
        with torch.autocast(pred.device.type, enabled=False):
            if inside is None:
                terms, usable = self._terms(pred.float(), targets, valid, batch.pseudo)
            else:
                regions = split_regions(pred.float(), targets, valid, inside)
                terms, usable = self._terms(
                    regions.pred,
                    regions.target,
                    regions.valid,
                    batch.pseudo.repeat(2),
                    regions.shares,
                )
                usable = (usable | (regions.shares == 0)).view(2, -1).all(0)
        if self._frozen:
            with torch.no_grad():
                frozen = self._frozen[0](inputs)[-1]
            alignment = feature_alignment_loss(
                tokens.float(),
                frozen.float(),
                tolerance=self._losses.feature_tolerance,
                chosen=self._aligned(batch.pseudo),
            )
            terms["features"] = self._losses.feature_weight * alignment
        loss = torch.stack(list(terms.values())).sum()
        finite = pred.detach().isfinite().flatten(1).all(1)
        finite &= (batch.targets.isfinite() | ~batch.valid).flatten(1).all(1)
        detached = {name: term.detach() for name, term in terms.items()}
        degenerate = (~usable).float().sum()
        return {"loss": loss, "finite": finite, "degenerate": degenerate, **detached}

    def _terms(
        self,
        pred: Float[Tensor, "B H W"],
        target: Float[Tensor, "B H W"],
        valid: Bool[Tensor, "B H W"],
        pseudo: Bool[Tensor, " B"],
        shares: Float[Tensor, " B"] | None = None,
    ) -> tuple[dict[str, Float[Tensor, ""]], Bool[Tensor, " B"]]:
        """Returns the weighted terms of the loss, and which maps weigh more than 0 in them.

        Maps are images, or, with their shares of an image, regions.
        """
        losses = self._losses
        match losses.target:
            case "depth":
                focus = losses.variance_focus
                silog = silog_loss(pred, target, valid, variance_focus=focus, shares=shares)
                return {"silog": silog}, valid.flatten(1).any(1)
            case "inverse_depth":
                wrong = residual(pred, target, valid, alignment=losses.alignment)
                trim = losses.trim_fraction
                data = data_term(wrong, trim_fraction=trim, trimmed=pseudo, shares=shares)
                if losses.gradient_weight == 0:
                    return {"data": data}, wrong.usable
                num_scales = losses.num_gradient_scales
                gradient = gradient_term(wrong, num_scales=num_scales, shares=shares)
                return {"data": data, "gradient": losses.gradient_weight * gradient}, wrong.usable
            case _:
                assert_never(losses.target)

    def _aligned(self, pseudo: Bool[Tensor, " B"]) -> Bool[Tensor, " B"] | None:
        """Returns the samples that feature alignment sees; None for all."""
        match self._losses.align_features:
            case "all":
                return None
            case "pseudo":
                return pseudo
            case "synthetic":
                return ~pseudo
            case _:
                assert_never(self._losses.align_features)

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
        with _attention(self._images_px, self.device.type):
            super().backward(loss, *args, **kwargs)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Shortens gradients; Lightning itself would refuse to beside a fused optimiser."""
        if self._optimiser.clip_norm > 0:
            nn.utils.clip_grad_norm_(self.model.parameters(), self._optimiser.clip_norm)

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


def _attention(size_px: Sequence[int], device_type: str) -> AbstractContextManager[None]:
    """Chooses how attention is computed while training.

    Of few tokens on a CPU, plain matrix products and their gradients take a quarter of the time of
    PyTorch's fused attention; of many they would take too much memory.
    """
    height, width = size_px
    if device_type == "cpu" and height * width <= _FEW_PIXELS:
        context: AbstractContextManager[None] = sdpa_kernel(SDPBackend.MATH)
        return context
    return nullcontext()
