"""The gradient term: depth edges where the target has them, flat where it is flat.

Axes: B batch, H height, W width (pixels).
"""

from jaxtyping import Bool, Float
from torch import Tensor

from dav2.losses.normalisation import Alignment, Residual, mean_over_images, residual


def gradient_matching_loss(
    pred: Float[Tensor, "B H W"],
    target: Float[Tensor, "B H W"],
    valid: Bool[Tensor, "B H W"],
    *,
    num_scales: int = 4,
    alignment: Alignment = "median",
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
        alignment: As for `residual`.

    Returns:
        Scalar, no unit: a mean over images. A degenerate image (`remove_shift_and_scale`) weighs 0.

    Raises:
        ValueError: `num_scales` is below 1.
    """
    return gradient_term(residual(pred, target, valid, alignment=alignment), num_scales=num_scales)


def gradient_term(
    wrong: Residual, *, num_scales: int = 4, shares: Float[Tensor, " B"] | None = None
) -> Float[Tensor, ""]:
    """Returns `gradient_matching_loss` of maps whose residual is at hand.

    Args:
        wrong: From `residual`.
        num_scales: As for the loss.
        shares: Of maps that are regions of images, as for `mean_over_images`.
    """
    if num_scales < 1:
        raise ValueError(f"gradient_matching_loss: expected num_scales >= 1, got {num_scales}")
    values, valid = wrong.values, wrong.valid
    losses = _mean_difference(values, valid)
    for _ in range(1, num_scales):
        values, valid = values[:, ::2, ::2], valid[:, ::2, ::2]
        losses = losses + _mean_difference(values, valid)
    return mean_over_images(losses, wrong.usable, shares)


def _mean_difference(
    values: Float[Tensor, "B H W"], valid: Bool[Tensor, "B H W"]
) -> Float[Tensor, " B"]:
    across = valid[:, :, 1:] & valid[:, :, :-1]
    down = valid[:, 1:] & valid[:, :-1]
    # Products: on a CPU faster than `torch.where`, and a NaN shows either way.
    total = (values.diff(dim=2).abs() * across).sum(dim=(1, 2))
    total = total + (values.diff(dim=1).abs() * down).sum(dim=(1, 2))
    pairs = across.sum(dim=(1, 2)) + down.sum(dim=(1, 2))
    return total / pairs.clamp(min=1)
