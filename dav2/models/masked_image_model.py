"""An encoder and a linear layer that paint what was masked of an image.

Axes: B batch, H height, W width (pixels), N patches (row by row).
"""

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dav2.models.encoder import PATCH_PX, Encoder, EncoderName


class MaskedImageModel(nn.Module):
    """SimMIM (Xie et al. 2022, arXiv:2111.09886) on our encoder: section 3.

    Masked patches enter the encoder as its mask token; one linear layer turns each token of the
    last block into the colours of its patch. Its mask token is trained; else it is the encoder that
    depth models have, of equal names.
    """

    def __init__(self, encoder: EncoderName) -> None:
        super().__init__()
        self.encoder = Encoder(encoder)
        self.encoder.mask_token.requires_grad_(True)
        self.head = nn.Linear(self.encoder.config.width, 3 * PATCH_PX**2)

    def forward(
        self, images: Float[Tensor, "B 3 H W"], masked: Bool[Tensor, "B N"]
    ) -> Float[Tensor, "B 3 H W"]:
        """Returns normalised colours of all patches; only those of masked ones mean something.

        Args:
            images: Normalised colours; what is masked is not looked at.
            masked: True where a patch is masked.

        Raises:
            ValueError: Height or width is not a multiple of the patch.
        """
        height, width = images.shape[-2:]
        colours = self.head(self.encoder(images, masked)[-1]).transpose(1, 2)
        grid = colours.reshape(len(images), -1, height // PATCH_PX, width // PATCH_PX)
        return F.pixel_shuffle(grid, PATCH_PX)
