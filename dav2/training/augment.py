"""Random views of samples: scale, crop and flip of image and target, colours and blur of the image.

Axes: B batch, H height, W width (pixels), 3 colours.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from dav2.data.transforms import constants, nearest, resize_image
from dav2.training.samples import TrainingSample

_GREY = (0.299, 0.587, 0.114)
# Rows: brightness and the two colour axes of YIQ, in which a change of hue is a rotation.
_YIQ = (0.299, 0.587, 0.114, 0.5959, -0.2746, -0.3213, 0.2115, -0.5227, 0.3112)
# Its inverse, written out: inverting on a GPU waits for it.
_RGB = (1.0, 0.956050217, 0.620755017, 1.0, -0.272052318, -0.64720571, 1.0, -1.10670435, 1.7044214)

Perturbed = Literal["all", "pseudo"]

AS_IS = np.array([1, 1, 1, 0, 0], np.float32)
"""The factors of an image whose colours stay."""


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """What is varied, and by how much."""

    short_side_px: int
    """Short side of an image before the crop, at scale 1."""
    crops_px: tuple[tuple[int, int], ...]
    """Heights and widths of what the model sees, multiples of 14; each batch has one of them."""
    max_scale: float = 1.0
    """Scales are drawn from 1 to this, evenly in their logarithm."""
    flip_probability: float = 0.5
    """Of mirroring left and right."""
    jitter_probability: float = 0.0
    """Of changing the colours."""
    brightness: float = 0.0
    """Factor between 1 - this and 1 + this; likewise contrast and saturation."""
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    """Largest turn of the hue, in turns (0.5 is the opposite colour)."""
    blur_probability: float = 0.0
    """Of a Gaussian blur."""
    blur_sigma_px: tuple[float, float] = (0.1, 2.0)
    """Smallest and largest deviation of the blur, pixels of the crop."""
    cutmix_probability: float = 0.0
    """Of a rectangle that is the neighbour's (`dav2.training.cutmix`)."""
    perturb: Perturbed = "all"
    """Which samples get other colours, blur and rectangles: in V1 the pseudo-labelled alone."""

    def __post_init__(self) -> None:
        """Checks what would otherwise fail far from here.

        Raises:
            ValueError: If there is no crop or one of no multiple of 14, or scales would shrink
                below 1.
        """
        sides = [side for crop in self.crops_px for side in crop]
        if not sides or any(side < 14 or side % 14 for side in sides) or self.max_scale < 1:
            crops = ", ".join(f"{height} x {width}" for height, width in self.crops_px) or "none"
            raise ValueError(
                f"augmentation: expected crops of multiples of 14 px and a scale from 1, "
                f"got {crops} and scale {self.max_scale}"
            )


def generator(seed: int, position: int) -> np.random.Generator:
    """Returns the random numbers of one position in the stream of samples, whoever asks."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, position], np.uint64)))


def draw_crop(config: AugmentConfig, numbers: np.random.Generator) -> tuple[int, int]:
    """Returns the size of a batch's views: photographs are upright as well as wide."""
    return config.crops_px[numbers.integers(len(config.crops_px))]


def random_view(
    sample: TrainingSample,
    config: AugmentConfig,
    numbers: np.random.Generator,
    *,
    crop_px: tuple[int, int],
) -> TrainingSample:
    """Returns a random part of a sample, image and target at the same size.

    Image and target are first brought to one size, so that a teacher's label and its image meet
    pixel on pixel, then cut. Where the crop would not fit, the scale grows until it does.
    """
    crop_height, crop_width = crop_px
    height, width = sample.image.shape[:2]
    scale = config.short_side_px / min(height, width)
    scale *= config.max_scale ** numbers.random()
    scale = max(scale, crop_height / height, crop_width / width)
    size = (
        max(crop_height, round(height * scale)),
        max(crop_width, round(width * scale)),
    )
    top = int(numbers.integers(size[0] - crop_height + 1))
    left = int(numbers.integers(size[1] - crop_width + 1))
    step = -1 if numbers.random() < config.flip_probability else 1
    rows, columns = slice(top, top + crop_height), slice(left, left + crop_width)
    # The maps' pixels are picked once, at their place in the crop: `resize_map`, then cut.
    label_height, label_width = sample.target.shape
    picked_rows = nearest(label_height, size[0])[rows, None]
    picked = picked_rows * label_width + nearest(label_width, size[1])[columns][::step]
    return TrainingSample(
        sample_id=sample.sample_id,
        image=np.ascontiguousarray(resize_image(sample.image, size)[rows, columns][:, ::step]),
        target=np.take(sample.target, picked),
        valid=np.take(sample.valid, picked),
        pseudo=sample.pseudo,
    )


def draw_colours(config: AugmentConfig, numbers: np.random.Generator) -> Float32[np.ndarray, " 5"]:
    """Returns brightness, contrast, saturation, hue (turns) and blur (pixels) for `distort`."""
    draws = numbers.random(7)
    factors = AS_IS.copy()
    if draws[0] < config.jitter_probability:
        spread = (config.brightness, config.contrast, config.saturation, config.hue)
        factors[:4] += np.array(spread) * (2 * draws[1:5] - 1)
    if draws[5] < config.blur_probability:
        low, high = config.blur_sigma_px
        factors[4] = low + (high - low) * draws[6]
    return factors


def distort(
    images: UInt8[Tensor, "B H W 3"],
    factors: Float[Tensor, "B 5"],
    *,
    max_sigma_px: float,
) -> UInt8[Tensor, "B H W 3"]:
    """Returns images with other colours, blurred; on the device where they lie.

    V1 of Depth Anything jitters the colours of unlabelled images and blurs them (Yang et al. 2024,
    arXiv:2401.10891, section 3.2). Brightness, contrast, saturation and hue follow each other
    in this order as one affine map of the colours, clipped once; PIL, which the authors use, clips
    after each and turns hue in HSV.

    Args:
        images: Colours, 0 to 255.
        factors: From `draw_colours`, one row an image.
        max_sigma_px: Largest blur that may occur; 0 for none at all.
    """
    colours = images.float()
    brightness, contrast, saturation, hue, sigma = factors.float().unbind(1)
    device = images.device
    grey = constants(_GREY, device)
    to_yiq = constants(_YIQ, device).view(3, 3)
    to_rgb = constants(_RGB, device).view(3, 3)
    angle = 2 * math.pi * hue
    turn = torch.zeros(len(images), 3, 3, device=device)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = saturation * angle.cos()
    turn[:, 2, 1] = saturation * angle.sin()
    turn[:, 1, 2] = -turn[:, 2, 1]
    scale = (brightness * contrast)[:, None, None]
    matrix = scale * (to_rgb @ turn @ to_yiq)
    mean_grey = (colours.mean((1, 2)) @ grey) * brightness
    shift = ((1 - contrast) * mean_grey)[:, None, None]
    result = torch.baddbmm(shift, colours.flatten(1, 2), matrix.transpose(1, 2))
    result = result.clamp(0, 255).view_as(colours)
    if max_sigma_px > 0:
        # On another device, counting them would wait for it.
        some = sigma.nonzero()[:, 0] if device.type == "cpu" else slice(None)
        result[some] = _blurred(result[some], sigma[some], max_sigma_px)
    return result.round().to(torch.uint8)


def _blurred(
    images: Float[Tensor, "B H W 3"], sigma: Float[Tensor, " B"], max_sigma_px: float
) -> Float[Tensor, "B H W 3"]:
    """Gaussian blur, each image its own; edges are continued."""
    if not len(images):
        return images
    batch, height, width, _ = images.shape
    radius = min(math.ceil(3 * max_sigma_px), height - 1, width - 1)
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    # A deviation of 0 leaves the middle alone: exp(-1e6) is 0.
    weights = torch.exp(-0.5 * (offsets / sigma.clamp_min(1e-3)[:, None]) ** 2)
    weights = (weights / weights.sum(1, keepdim=True)).repeat_interleave(3, dim=0)
    planes = images.permute(0, 3, 1, 2).reshape(1, batch * 3, height, width)
    planes = F.pad(planes, (radius, radius, radius, radius), mode="replicate")
    planes = F.conv2d(planes, weights[:, None, :, None], groups=batch * 3)
    planes = F.conv2d(planes, weights[:, None, None, :], groups=batch * 3)
    return planes.view(batch, 3, height, width).permute(0, 2, 3, 1)
