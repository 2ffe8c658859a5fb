"""The metric term: scale-invariant error of logarithms.

Axes: B batch, H height, W width (pixels).
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dav2.losses.normalisation import mean_over_images

_LEAST_DEPTH_M = 1e-6


def silog_loss(
    pred_m: Float[Tensor, "B H W"],
    target_m: Float[Tensor, "B H W"],
    valid: Bool[Tensor, "B H W"],
    *,
    variance_focus: float = 0.5,
    shares: Float[Tensor, " B"] | None = None,
) -> Float[Tensor, ""]:
    """Root of the mean square, less a share of the squared mean, of log depth differences.

    Eigen et al. 2014 (arXiv:1406.2283), section 3.2, with a square root over it as in the metric
    code of Depth Anything V2 (`metric_depth/util/loss.py`, `SiLogLoss`). That code takes the
    statistics over all pixels of a batch; here each image has its own.

    Args:
        pred_m: Predicted depth, metres. A value below one micrometre counts as that.
        target_m: Reference depth, metres; positive where valid.
        valid: True where `target_m` counts: no sky, nothing beyond the model's largest depth.
        variance_focus: Share of the squared mean that is forgiven, 0 to 1: 1 makes the loss blind
            to one factor over the whole image.
        shares: Of maps that are regions of images, as for `mean_over_images`.

    Returns:
        Scalar, no unit: a mean over images. An image without a valid pixel weighs 0.

    Raises:
        ValueError: `variance_focus` is below 0 or above 1.
    """
    if not 0 <= variance_focus <= 1:
        raise ValueError(f"silog_loss: expected 0 <= variance_focus <= 1, got {variance_focus}")
    pred_m = torch.where(valid, pred_m.float(), 1).clamp(min=_LEAST_DEPTH_M)
    target_m = torch.where(valid, target_m.float(), 1)
    difference = pred_m.log() - target_m.log()
    count = valid.sum(dim=(1, 2))
    mean = difference.sum(dim=(1, 2)) / count.clamp(min=1)
    # Variance plus what is left of the squared mean: never negative, unlike the textbook form.
    centred = torch.where(valid, difference - mean[:, None, None], 0)
    square = centred.square().sum(dim=(1, 2)) / count.clamp(min=1)
    square = square + (1 - variance_focus) * mean.square()
    exact = square == 0  # a root has no slope there
    roots = torch.where(exact, 0, torch.where(exact, 1, square).sqrt())
    return mean_over_images(roots, count > 0, shares)
