"""The data term: absolute error once shift and scale are removed.

Axes: B batch, H height, W width (pixels).
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dav2.losses.normalisation import Alignment, Residual, mean_over_images, residual


def scale_shift_invariant_loss(
    pred: Float[Tensor, "B H W"],
    target: Float[Tensor, "B H W"],
    valid: Bool[Tensor, "B H W"],
    *,
    trim_fraction: float = 0.0,
    alignment: Alignment = "median",
) -> Float[Tensor, ""]:
    """Mean absolute error after removing each image's own shift and scale.

    Ranftl et al. 2020 (arXiv:1907.01341), section 5: shift is the median, scale the mean absolute
    deviation, of prediction and target alike; or, by least squares, those of the fit of the
    prediction to the target (`residual`). Trimming is Depth Anything V2's (arXiv:2406.09414,
    section 5.2): each pseudo-labelled image ignores its worst pixels, for there the label is more
    likely wrong than the student. We take the mean over the pixels kept, as the authors say they
    do; the loss code of Video Depth Anything divides by the number of all pixels.

    Args:
        pred: Predicted inverse depth, any affine scale.
        target: Reference inverse depth, any affine scale.
        valid: True where `target` was measured.
        trim_fraction: Share of an image's valid pixels to ignore, rounded down to whole pixels;
            of pixels with one error all are kept or none.
        alignment: As for `residual`.

    Returns:
        Scalar, no unit: a mean over images. A degenerate image (`remove_shift_and_scale`) weighs 0.

    Raises:
        ValueError: `trim_fraction` is below 0 or not below 1.
    """
    return data_term(
        residual(pred, target, valid, alignment=alignment), trim_fraction=trim_fraction
    )


def data_term(
    wrong: Residual,
    *,
    trim_fraction: float = 0.0,
    trimmed: Bool[Tensor, " B"] | None = None,
    shares: Float[Tensor, " B"] | None = None,
) -> Float[Tensor, ""]:
    """Returns `scale_shift_invariant_loss` of maps whose residual is at hand.

    Args:
        wrong: From `residual`.
        trim_fraction: As for the loss.
        trimmed: The images of which pixels are ignored; None for all.
        shares: Of maps that are regions of images, as for `mean_over_images`.
    """
    if not 0 <= trim_fraction < 1:
        raise ValueError(
            f"scale_shift_invariant_loss: expected 0 <= trim_fraction < 1, got {trim_fraction}"
        )
    errors, kept = wrong.values.abs(), wrong.valid
    if trim_fraction:
        kept = _without_worst(errors.detach(), kept, trim_fraction, trimmed)
    means = torch.where(kept, errors, 0).sum(dim=(1, 2)) / kept.sum(dim=(1, 2)).clamp(min=1)
    return mean_over_images(means, wrong.usable, shares)


def _without_worst(
    errors: Float[Tensor, "B H W"],
    valid: Bool[Tensor, "B H W"],
    fraction: float,
    trimmed: Bool[Tensor, " B"] | None,
) -> Bool[Tensor, "B H W"]:
    parts = round(fraction * 1_000_000)  # whole numbers: 10 % of 10 is 1
    dropped = valid.sum(dim=(1, 2)) * parts // 1_000_000
    if trimmed is not None:
        dropped = dropped * trimmed
    most = valid[0].numel() * parts // 1_000_000
    # Only the worst are put in order, the best of them being the worst that is kept.
    worst = torch.where(valid, errors, -torch.inf).flatten(1).topk(most + 1).values
    limit = worst.gather(1, dropped[:, None])[:, :, None]
    return valid & ~(errors > limit)  # a NaN is not above any limit: it stays and shows
