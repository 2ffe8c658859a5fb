"""How far the colours painted into masked patches are from those that were there.

Axes: B batch, H height, W width (pixels), N patches (row by row).
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dav2.models.encoder import PATCH_PX


def masked_pixel_loss(
    pred: Float[Tensor, "B 3 H W"],
    images: Float[Tensor, "B 3 H W"],
    masked: Bool[Tensor, "B N"],
) -> Float[Tensor, ""]:
    """Mean absolute error over the colours of masked patches; visible ones do not count.

    Xie et al. 2022 (arXiv:2111.09886, SimMIM), section 3.4: the L1 distance on masked pixels,
    divided by their number. Here it is a mean over images, the same where all have as many masked.

    Args:
        pred: Painted colours, normalised.
        images: True colours, normalised likewise.
        masked: True where a patch was masked.

    Returns:
        Scalar, in deviations of the normalisation. An image without a masked patch weighs 0.
    """
    error = (pred - images).abs().mean(1)
    counted = masked_pixels(masked, error.shape[1], error.shape[2])
    sums = torch.where(counted, error, 0.0).flatten(1).sum(1)
    return (sums / counted.flatten(1).sum(1).clamp_min(1)).mean()


def masked_pixels(
    masked: Bool[Tensor, "B N"], height: int, width: int
) -> Bool[Tensor, "B {height} {width}"]:
    """Returns which pixels lie in a masked patch.

    Args:
        masked: True where a patch is masked.
        height: Of the image, pixels; a multiple of the patch.
        width: Likewise.
    """
    grid = masked.view(len(masked), height // PATCH_PX, width // PATCH_PX)
    return grid.repeat_interleave(PATCH_PX, 1).repeat_interleave(PATCH_PX, 2)
