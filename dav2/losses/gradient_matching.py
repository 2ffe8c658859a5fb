"""The gradient term: depth edges where the target has them, flat where it is flat.

Axes: B batch, H height, W width (pixels).
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dav2.losses.normalisation import mean_over_images, remove_shift_and_scale


def gradient_matching_loss(
    pred: Float[Tensor, "B H W"],
    target: Float[Tensor, "B H W"],
    valid: Bool[Tensor, "B H W"],
    *,
    num_scales: int = 4,
) -> Float[Tensor, ""]:
    """Mean absolute difference of the residual between neighbours, summed over scales.

    Ranftl et al. 2020 (arXiv:1907.01341), section 5: the residual is taken between the maps without
    their shift and scale; scale k keeps every 2^k-th row and column. Each scale is the mean over
    its pairs of valid neighbours, across and down alike. (The authors' code and its descendants
    divide the sum over pairs by the number of valid pixels, which is nearly twice as much.)

    Args:
        pred: Predicted inverse depth, any affine scale.
        target: Reference inverse depth, any affine scale.
        valid: True where `target` was measured.
        num_scales: Strides are 1, 2, 4... up to 2^(num_scales - 1). A scale without a pair adds 0.

    Returns:
        Scalar, no unit: a mean over images. A degenerate image (`remove_shift_and_scale`) weighs 0.

    Raises:
        ValueError: `num_scales` is below 1.
    """
    if num_scales < 1:
        raise ValueError(f"gradient_matching_loss: expected num_scales >= 1, got {num_scales}")
    pred, pred_usable = remove_shift_and_scale(pred, valid)
    target, target_usable = remove_shift_and_scale(target, valid)
    residual = pred - target
    losses = torch.zeros(len(pred), device=pred.device)
    for scale in range(num_scales):
        stride = 2**scale
        losses = losses + _mean_difference(
            residual[:, ::stride, ::stride], valid[:, ::stride, ::stride]
        )
    return mean_over_images(losses, pred_usable & target_usable)


def _mean_difference(
    residual: Float[Tensor, "B H W"], valid: Bool[Tensor, "B H W"]
) -> Float[Tensor, " B"]:
    across = valid[:, :, 1:] & valid[:, :, :-1]
    down = valid[:, 1:] & valid[:, :-1]
    total = torch.where(across, residual.diff(dim=2).abs(), 0).sum(dim=(1, 2))
    total = total + torch.where(down, residual.diff(dim=1).abs(), 0).sum(dim=(1, 2))
    pairs = across.sum(dim=(1, 2)) + down.sum(dim=(1, 2))
    return total / pairs.clamp(min=1)
