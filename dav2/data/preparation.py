"""How an image becomes what a model sees: our way, and that of the authors' inference code.

Axes: H height, W width (pixels), 3 colours.
"""

import math
from typing import Literal, assert_never

import numpy as np
from jaxtyping import Float32, UInt8

from dav2.data.transforms import prepare_size, resize_image

Preparation = Literal["authors", "antialiased"]
"""`authors`: as the Depth Anything V2 code does it, hence what the published models saw.
`antialiased`: as this project trains, and nearly as Transformers does it."""

_MULTIPLE = 14


def prepared_size(
    height: int, width: int, *, short_side_px: int, preparation: Preparation
) -> tuple[int, int]:
    """Returns the height and width at which a model sees an image.

    The short side becomes `short_side_px`, the long side follows the aspect, both are multiples of
    14. The two ways differ where a side lies half way between multiples, and where `short_side_px`
    is no multiple: the authors then never go below it (`depth_anything_v2/util/transform.py`,
    `Resize` with `lower_bound`).

    Args:
        height: Height of the image, pixels.
        width: Width of the image, pixels.
        short_side_px: Wanted short side.
        preparation: Which way.

    Raises:
        ValueError: If a side is below 1.
    """
    nearest = prepare_size(height, width, short_side_px=short_side_px, multiple=_MULTIPLE)
    match preparation:
        case "antialiased":
            return nearest
        case "authors":
            scale = max(short_side_px / height, short_side_px / width)
            return (
                _authors_side(scale * height, short_side_px),
                _authors_side(scale * width, short_side_px),
            )
        case _:
            assert_never(preparation)


def prepared_image(
    image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int], *, preparation: Preparation
) -> Float32[np.ndarray, "h w 3"] | UInt8[np.ndarray, "h w 3"]:
    """Returns an image at the size at which a model sees it.

    The authors' resizing is bicubic without antialiasing (OpenCV's `INTER_CUBIC` of floating
    point). At a third of the size it differs from an antialiased one by five levels in the mean.

    Args:
        image: Colours, 0 to 255.
        size: Of `prepared_size`.
        preparation: Which way.

    Returns:
        Colours, for `dav2.data.transforms.normalise`; the authors' are not rounded, and lie beyond
        0 and 255 where the kernel overshoots.

    Raises:
        ValueError: If a side of `size` is below 1.
    """
    match preparation:
        case "antialiased":
            return resize_image(image, size)
        case "authors":
            return _cubic(image, size)
        case _:
            assert_never(preparation)


def _authors_side(wanted_px: float, short_side_px: int) -> int:
    side = round(wanted_px / _MULTIPLE) * _MULTIPLE  # halves to the even number, as numpy
    return side if side >= short_side_px else math.ceil(wanted_px / _MULTIPLE) * _MULTIPLE


def _cubic(
    image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]
) -> Float32[np.ndarray, "h w 3"]:
    if min(size) < 1:
        raise ValueError(f"resize: expected a size of at least 1 x 1, got {size[0]} x {size[1]}")
    import torch
    from torch.nn import functional

    colours = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    resized = functional.interpolate(colours, size=size, mode="bicubic", align_corners=False)
    return resized[0].permute(1, 2, 0).contiguous().numpy()
