"""Sizes, resizing and normalisation of images and maps.

Axes: B batch, H height, W width (pixels), 3 colours.
"""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Int64, Shaped, UInt8

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor

IMAGE_MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's colours (red, green, blue), where 1 is white: what DINOv2 was trained with."""
IMAGE_DEVIATION = (0.229, 0.224, 0.225)
"""Standard deviation of ImageNet's colours, where 1 is white."""


def prepare_size(
    height: int, width: int, *, short_side_px: int, multiple: int = 14
) -> tuple[int, int]:
    """Returns the height and width at which a model sees an image.

    The short side becomes `short_side_px`, the long side follows the aspect, and both are rounded
    to the nearest multiple of the encoder's patch. The authors' inference code does the same, but
    rounds up where rounding would fall below `short_side_px`; for a multiple of 14 the two agree.

    Args:
        height: Height of the image, pixels.
        width: Width of the image, pixels.
        short_side_px: Wanted short side.
        multiple: Patch of the encoder, pixels.

    Raises:
        ValueError: If a side is below 1.
    """
    if min(height, width, short_side_px, multiple) < 1:
        raise ValueError(
            f"prepare_size: expected sides of at least 1, got {height} x {width}, "
            f"short side {short_side_px}, multiple {multiple}"
        )
    short = min(height, width)

    def rounded(side: int) -> int:
        # Integers throughout: floats would round differently on either side of a half.
        numerator, denominator = side * short_side_px, short * multiple
        return max(1, (2 * numerator + denominator) // (2 * denominator)) * multiple

    return rounded(height), rounded(width)


def resize_image(
    image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]
) -> UInt8[np.ndarray, "h w 3"]:
    """Returns an image at another size, bicubic with antialiasing.

    Args:
        image: Colours, 0 to 255.
        size: New height and width, pixels.

    Raises:
        ValueError: If a side of `size` is below 1.
    """
    _check_size(size, where="resize_image")
    if image.shape[:2] == size:
        return image
    import torch
    from torch.nn import functional

    # Shape 1 x 3 x H x W over H x W x 3 memory: torch has a vectorised path for exactly this.
    colours = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    resized = functional.interpolate(colours, size=size, mode="bicubic", antialias=True)
    return resized[0].permute(1, 2, 0).contiguous().numpy()


def resize_map(
    values: Shaped[np.ndarray, "H W"], size: tuple[int, int]
) -> Shaped[np.ndarray, "h w"]:
    """Returns a map at another size, each pixel taken from the nearest: no value is made up.

    Args:
        values: Depth, a mask or any other map.
        size: New height and width, pixels.

    Raises:
        ValueError: If a side of `size` is below 1.
    """
    _check_size(size, where="resize_map")
    height, width = values.shape
    if (height, width) == size:
        return values
    rows, columns = nearest(height, size[0]), nearest(width, size[1])
    return np.ascontiguousarray(values[rows[:, None], columns])


def nearest(side: int, new_side: int) -> Int64[np.ndarray, " new_side"]:
    """Returns the row (or column) of a map from which each of its resized map's is taken."""
    return (2 * np.arange(new_side) + 1) * side // (2 * new_side)


def normalise(
    images: "UInt8[Tensor, 'B H W 3'] | Float32[Tensor, 'B H W 3']",
) -> "Float32[Tensor, 'B 3 H W']":
    """Returns images as an encoder takes them: ImageNet's mean 0, deviation 1, channels first.

    The result keeps the memory order of its input (channels last), which convolutions like.

    Args:
        images: Colours, 0 to 255.
    """
    mean = constants(IMAGE_MEAN, images.device) * 255
    deviation = constants(IMAGE_DEVIATION, images.device) * 255
    return ((images.float() - mean) / deviation).permute(0, 3, 1, 2)


def constants(numbers: "Sequence[float]", device: "torch.device") -> "Float32[Tensor, ' N']":
    """Returns some numbers on a device, which `torch.tensor` would make the program wait for."""
    import torch

    return torch.cat([torch.full((1,), number, device=device) for number in numbers])


def _check_size(size: tuple[int, int], *, where: str) -> None:
    if min(size) < 1:
        raise ValueError(f"{where}: expected a size of at least 1 x 1, got {size[0]} x {size[1]}")
