"""CutMix: a rectangle of each image is its neighbour's, and each region keeps its own label.

Yang et al. 2024 (arXiv:2401.10891, V1 of Depth Anything), section 3.2: unlabelled images, their
colours already changed, are mixed with probability 0.5; the affine-invariant loss is computed in
either region by itself, and the two are weighted by area. Rectangles are drawn as in the code that
the authors point to (UniMatch, `dataset/transform.py`), here for crops that need not be square.

Two things the paper leaves open. The gradient term, which V1 had not published, is taken within
regions alone: a pair of neighbours across the seam means nothing. Feature alignment goes on as
without CutMix: both encoders see the mixed image, token by token.

Axes: B batch, R regions (2 B), H height, W width (pixels), 3 colours.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

_AREAS = (0.02, 0.4)
_RATIOS = (0.3, 1 / 0.3)

NO_BOX = np.zeros(4, np.int64)
"""The rectangle of an image that stays whole."""


class Mixed(NamedTuple):
    """A batch of which rectangles were exchanged."""

    images: UInt8[Tensor, "B H W 3"]
    targets: Float[Tensor, "B H W"]
    valid: Bool[Tensor, "B H W"]
    inside: Bool[Tensor, "B H W"]
    """True where a pixel is the neighbour's."""


class Regions(NamedTuple):
    """Maps of which each counts in one region alone: first what is outside, then what is inside."""

    pred: Float[Tensor, "R H W"]
    target: Float[Tensor, "R H W"]
    valid: Bool[Tensor, "R H W"]
    shares: Float[Tensor, " R"]
    """Of the image's area; outside and inside sum to 1."""


def draw_box(
    probability: float, numbers: np.random.Generator, *, crop_px: tuple[int, int]
) -> Int64[np.ndarray, " 4"]:
    """Returns top, bottom, left and right of a rectangle, the ends exclusive, or `NO_BOX`.

    It covers 2 to 40 % of the view, evenly drawn, and is up to 3.3 times as high as wide or as wide
    as high, evenly in the logarithm. One that sticks out becomes less oblong, of the same area
    (UniMatch draws again, which makes large ones rarer).

    Args:
        probability: Of there being one.
        numbers: Random numbers of the sample.
        crop_px: Height and width of the view.
    """
    draws = numbers.random(5)
    if draws[0] >= probability:
        return NO_BOX
    height, width = crop_px
    area = height * width * (_AREAS[0] + (_AREAS[1] - _AREAS[0]) * draws[1])
    ratio = _RATIOS[0] * (_RATIOS[1] / _RATIOS[0]) ** draws[2]
    exact = min(max(math.sqrt(area * ratio), area / width), height)
    box_height, box_width = max(1, round(exact)), max(1, round(area / exact))
    top = int(draws[3] * (height - box_height + 1))
    left = int(draws[4] * (width - box_width + 1))
    return np.array([top, top + box_height, left, left + box_width])


def mix(
    images: UInt8[Tensor, "B H W 3"],
    targets: Float[Tensor, "B H W"],
    valid: Bool[Tensor, "B H W"],
    boxes: Int64[Tensor, "B 4"],
    pseudo: Bool[Tensor, " B"],
) -> Mixed:
    """Puts each image's neighbour into its rectangle; on the device where they lie.

    Neighbours are the first and second, third and fourth... of the batch. Processes take
    consecutive samples, so that their number does not change who meets whom, as long as each takes
    an even number. An image stays whole where it has no neighbour, or one of the other kind: what
    is done to pseudo-labels alone stays with them.

    Args:
        images: Colours, already distorted.
        targets: Of any scale: neighbours' need not be alike.
        valid: True where a target counts.
        boxes: From `draw_box`.
        pseudo: True where a teacher gave the target.
    """
    height, width = valid.shape[1:]
    own = torch.arange(len(images), device=images.device)
    neighbour = torch.where(own ^ 1 < len(images), own ^ 1, own)
    mixes = (neighbour != own) & (pseudo == pseudo[neighbour])
    top, bottom, left, right = boxes[:, :, None].unbind(1)
    rows = torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device)
    inside = ((rows >= top) & (rows < bottom))[:, :, None]
    inside = inside & ((columns >= left) & (columns < right))[:, None, :] & mixes[:, None, None]
    return Mixed(
        torch.where(inside[..., None], images[neighbour], images),
        torch.where(inside, targets[neighbour], targets),
        torch.where(inside, valid[neighbour], valid),
        inside,
    )


def split_regions(
    pred: Float[Tensor, "B H W"],
    target: Float[Tensor, "B H W"],
    valid: Bool[Tensor, "B H W"],
    inside: Bool[Tensor, "B H W"],
) -> Regions:
    """Returns each image twice, once for either region, so that any loss treats them apart."""
    part = inside.float().mean(dim=(1, 2))
    return Regions(
        pred.repeat(2, 1, 1),
        target.repeat(2, 1, 1),
        torch.cat([valid & ~inside, valid & inside]),
        torch.cat([1 - part, part]),
    )
