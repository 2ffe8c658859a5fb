"""One step of a training on depth: view, model, losses.

Axes: B batch, H height, W width (pixels), N patches, C channels.
"""

from dataclasses import dataclass
from typing import Literal, assert_never

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dav2.data.transforms import normalise
from dav2.losses.feature_alignment import feature_alignment_loss
from dav2.losses.gradient_matching import gradient_term
from dav2.losses.normalisation import Alignment, residual
from dav2.losses.scale_shift_invariant import data_term
from dav2.losses.silog import silog_loss
from dav2.models.depth_anything import DepthAnything
from dav2.training.augment import distort
from dav2.training.cutmix import mix, split_regions
from dav2.training.data import Batch
from dav2.training.steps import StepConfig, Training

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
    synthetic_weight: float = 1.0
    """Of an image that no teacher labelled, beside a pseudo-labelled one's 1. V1's loss takes a
    mean over its labelled images and one over the unlabelled, which are twice as many
    (arXiv:2401.10891, section 3): there it is 2."""
    align_features: AlignedFeatures = "all"
    """Which samples feature alignment sees; others weigh 0 in its mean over all images.

    So an aligned image has `feature_weight` beside the data term's 1 whatever the batch holds, as
    in V1 (arXiv:2401.10891, section 3), where both are means over the unlabelled images. A mean
    over the aligned ones alone would change with what else is in the batch, and with how ranks and
    accumulation part it."""
    variance_focus: float = 0.5
    """SiLog: 0 minimises the error of the logarithm, 1 its variance alone."""


class DepthTraining(Training[DepthAnything]):
    """Trains a model to predict depth."""

    def __init__(
        self,
        model: DepthAnything,
        config: StepConfig,
        *,
        losses: LossConfig,
        max_sigma_px: float = 0.0,
        cutmix: bool = False,
        frozen_encoder: nn.Module | None = None,
    ) -> None:
        """Takes a model that has its initial weights.

        Args:
            model: Changed by training.
            config: How its weights move.
            losses: Terms and weights.
            max_sigma_px: Largest blur of the augmentation.
            cutmix: Batches come with rectangles to mix.
            frozen_encoder: Pretrained encoder of the same size for feature alignment.

        Raises:
            ValueError: If feature alignment is wanted and there is no encoder to align with.
        """
        super().__init__(model, config)
        if losses.feature_weight > 0 and frozen_encoder is None:
            raise ValueError(
                f"feature alignment: expected a pretrained encoder for weight "
                f"{losses.feature_weight}, got none"
            )
        self._losses = losses
        self._max_sigma_px = max_sigma_px
        self._cutmix = cutmix
        # In a list, so that it is no part of the state: it never changes.
        self._frozen = [frozen_encoder.requires_grad_(False).eval()] if frozen_encoder else []

    def on_fit_start(self) -> None:
        """Brings the frozen encoder to the device."""
        for encoder in self._frozen:
            encoder.to(self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Returns the loss, its terms, and which samples gave finite numbers; waits for nothing.

        `degenerate` counts the images that weigh 0: a growing number of them is a model that
        collapses.
        """
        self.start_step()
        images = distort(batch.images, batch.colours, max_sigma_px=self._max_sigma_px)
        targets, valid, inside = batch.targets, batch.valid, None
        if self._cutmix:
            images, targets, valid, inside = mix(images, targets, valid, batch.boxes, batch.pseudo)
        inputs = normalise(images)
        with self.attention(inputs.shape[-2:]):
            pred, tokens = self.model.forward_with_features(inputs)
        weights = self._weights(batch.pseudo)
        with torch.autocast(pred.device.type, enabled=False):
            if inside is None:
                terms, usable = self._terms(pred.float(), targets, valid, batch.pseudo, weights)
            else:
                regions = split_regions(pred.float(), targets, valid, inside)
                terms, usable = self._terms(
                    regions.pred,
                    regions.target,
                    regions.valid,
                    batch.pseudo.repeat(2),
                    regions.shares if weights is None else regions.shares * weights.repeat(2),
                )
                usable = (usable | (regions.shares == 0)).view(2, -1).all(0)
            if weights is not None:  # the terms are divided by their sum, not by B
                terms = {name: weights.mean() * term for name, term in terms.items()}
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

        Maps are images, or, with their shares of an image, regions; shares may be weighted.
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

    def _weights(self, pseudo: Bool[Tensor, " B"]) -> Float[Tensor, " B"] | None:
        """Returns how much each image counts; None where all count 1."""
        if self._losses.synthetic_weight == 1:
            return None
        return torch.where(pseudo, 1.0, self._losses.synthetic_weight)

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
