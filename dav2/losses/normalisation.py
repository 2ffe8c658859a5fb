"""What the losses on inverse depth share: statistics per map over valid pixels, means over images.

Nothing here loops over the batch or waits for the device.

Axes: B batch, H height, W width (pixels).
"""

from typing import Literal, NamedTuple, assert_never

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_LEAST_DEVIATION = 1e-3
_LEAST_RANGE = 1e-6

Alignment = Literal["median", "least_squares"]
"""How a prediction meets its target: each freed of its own shift and scale, or one fitted."""


def remove_shift_and_scale(
    values: Float[Tensor, "B H W"], valid: Bool[Tensor, "B H W"]
) -> tuple[Float[Tensor, "B H W"], Bool[Tensor, " B"]]:
    """Subtracts each map's median and divides by its mean absolute deviation from it.

    Ranftl et al. 2020 (arXiv:1907.01341), section 5, and Yang et al. 2024 (arXiv:2401.10891),
    section 3.1. Statistics are those of the valid pixels; of an even number of them, the median is
    the lower of the two in the middle, as `torch.median` has it. Gradients flow through both.

    A map is degenerate if it has no valid pixel, or a deviation of at most a thousandth of its
    range, or a range that is rounding (at most a millionth of its largest value), or a deviation
    below float32's smallest normal number: dividing would blow up what means nothing. A NaN or
    infinity is no degeneracy: it reaches the loss.

    Args:
        values: Inverse depth, any affine scale. May be anything, NaN too, where invalid.
        valid: True where it counts.

    Returns:
        The maps, no unit, 0 where invalid and all over a degenerate map; and, for each map, True
        unless it is degenerate.
    """
    values = torch.where(valid, values.float(), 0)
    count = valid.sum(dim=(1, 2))
    marked = torch.where(valid, values, torch.nan).flatten(1)
    median = torch.where(count > 0, marked.nanmedian(dim=1).values, 0)
    centred = torch.where(valid, values - median[:, None, None], 0)
    deviation = centred.abs().sum(dim=(1, 2)) / count.clamp(min=1)
    with torch.no_grad():
        # The zeros of invalid pixels lie between the two: the median is a valid value.
        below, above = centred.amin(dim=(1, 2)), centred.amax(dim=(1, 2))
        largest = torch.maximum((median + below).abs(), (median + above).abs())
        extent = above - below
        flat = (extent <= _LEAST_RANGE * largest) | (deviation <= _LEAST_DEVIATION * extent)
        flat |= deviation < torch.finfo(torch.float32).tiny
        usable = (count > 0) & ~(flat & deviation.isfinite())
    factor = torch.where(usable, 1 / torch.where(usable, deviation, 1), 0)
    return centred * factor[:, None, None], usable


class Residual(NamedTuple):
    """What a prediction gets wrong, once each map's own shift and scale are removed."""

    values: Float[Tensor, "B H W"]
    """Prediction less target, no unit; 0 where invalid."""
    valid: Bool[Tensor, "B H W"]
    """True where the target was measured."""
    usable: Bool[Tensor, " B"]
    """False for an image of which either map is degenerate (`remove_shift_and_scale`)."""


def residual(
    pred: Float[Tensor, "B H W"],
    target: Float[Tensor, "B H W"],
    valid: Bool[Tensor, "B H W"],
    *,
    alignment: Alignment = "median",
) -> Residual:
    """Returns what the terms of the relative loss measure: removing is their costly part.

    With `least_squares` the prediction is fitted to the target, which alone is freed of its shift
    and scale so that the residual has no unit either way: Ranftl et al. 2020 (arXiv:1907.01341),
    section 5, the alignment of their L_ssimse. Gradients flow through the fitted scale and shift,
    as they do in the authors' code: without them the loss would not be blind to the prediction's
    scale in its gradient. We differ where prediction and target run against each other: there the
    best scale is negative, and a map with near and far exchanged would cost nothing. We take its
    absolute value, which is the same wherever they run together and keeps the loss continuous.

    Args:
        pred: Predicted inverse depth, any affine scale.
        target: Reference inverse depth, any affine scale.
        valid: True where `target` was measured.
        alignment: `median`, by median and mean absolute deviation of both maps, or
            `least_squares`.
    """
    pred, pred_usable = remove_shift_and_scale(pred, valid)
    target, target_usable = remove_shift_and_scale(target, valid)
    usable = pred_usable & target_usable
    match alignment:
        case "median":
            return Residual(pred - target, valid, usable)
        case "least_squares":
            return Residual(_fitted(pred, target, valid, usable), valid, usable)
        case _:
            assert_never(alignment)


def _fitted(
    pred: Float[Tensor, "B H W"],
    target: Float[Tensor, "B H W"],
    valid: Bool[Tensor, "B H W"],
    usable: Bool[Tensor, " B"],
) -> Float[Tensor, "B H W"]:
    """Returns what is left of the target once the prediction is fitted to it, prediction first.

    Both maps come with their shift and scale removed, which changes no fit and keeps squares and
    their sums near 1, where float32 has its digits.
    """
    pred, target = _centred(pred, valid), _centred(target, valid)
    square = pred.square().sum(dim=(1, 2))
    scale = (pred * target).sum(dim=(1, 2)).abs() / torch.where(usable, square, 1)
    return scale[:, None, None] * pred - target


def _centred(
    values: Float[Tensor, "B H W"], valid: Bool[Tensor, "B H W"]
) -> Float[Tensor, "B H W"]:
    mean = values.sum(dim=(1, 2)) / valid.sum(dim=(1, 2)).clamp(min=1)
    return torch.where(valid, values - mean[:, None, None], 0)


def mean_over_images(
    losses: Float[Tensor, " B"],
    usable: Bool[Tensor, " B"],
    shares: Float[Tensor, " B"] | None = None,
) -> Float[Tensor, ""]:
    """Returns the mean over all B images, in which an unusable one counts as 0.

    Dividing by B, not by the number of usable images, makes the mean over several devices or
    accumulated batches of one size equal to the mean over all their images.

    Args:
        losses: One an image, or one a region.
        usable: False where the loss means nothing.
        shares: Of regions, each one's part of its image's area; those of an image sum to 1, and
            the mean is over images all the same.
    """
    if shares is None:
        return torch.where(usable, losses, 0).sum() / len(losses)
    return torch.where(usable, losses * shares, 0).sum() / shares.sum()
