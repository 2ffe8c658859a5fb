"""How an image becomes what a model sees, where that is a choice."""

from dataclasses import dataclass
from typing import Literal

from dav2.data.preparation import Preparation
from dav2.metrics.depth import ImageCrop

Upsampling = Literal["aligned", "centred"]


@dataclass(frozen=True, slots=True)
class ModelInput:
    """How an image becomes what a model sees, and its map one of the image's size."""

    short_side_px: int
    size_px: tuple[int, int] | None = None
    """Height and width, in place of the short side; multiples of 14."""
    preparation: Preparation = "authors"
    upsampling: Upsampling = "aligned"
    """`aligned`: bilinear with aligned corners; `centred`: with centres of pixels."""
    with_flip: bool = False
    """Whether the map is the mean of the image's and of the mirrored image's."""
    image_crop: ImageCrop = "none"
    """Part of the image that the model sees."""
