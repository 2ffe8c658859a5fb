"""The semantic term: a student's tokens stay near those of a frozen encoder.

Axes: B batch, N patches, C channels.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from dav2.losses.normalisation import mean_over_images


def feature_alignment_loss(
    student: Float[Tensor, "B N C"],
    frozen: Float[Tensor, "B N C"],
    *,
    tolerance: float = 0.85,
    chosen: Bool[Tensor, " B"] | None = None,
) -> Float[Tensor, ""]:
    """Mean cosine distance between tokens, where they are not close enough already.

    Yang et al. 2024 (arXiv:2401.10891), section 3.3. A token whose cosine is above the tolerance
    is left out: it may differ, because parts of one object differ in depth. The mean is taken over
    the tokens that are left.

    Args:
        student: Final patch tokens of the encoder in training.
        frozen: Those of DINOv2 of the same size; gets no gradient.
        tolerance: Cosine above which a token is left out.
        chosen: The images that the term is about; None for all.

    Returns:
        Scalar, no unit: a mean over images. An image whose tokens are all left out, or that is not
        chosen, weighs 0.

    Raises:
        ValueError: `tolerance` is below -1 or above 1.
    """
    if not -1 <= tolerance <= 1:
        raise ValueError(f"feature_alignment_loss: expected -1 <= tolerance <= 1, got {tolerance}")
    cosines = F.cosine_similarity(student.float(), frozen.detach().float(), dim=2)
    far = ~(cosines > tolerance)
    count = far.sum(dim=1)
    means = torch.where(far, 1 - cosines, 0).sum(dim=1) / count.clamp(min=1)
    usable = count > 0 if chosen is None else (count > 0) & chosen
    return mean_over_images(means, usable)
