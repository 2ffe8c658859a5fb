"""The DPT head: four token maps of an encoder in, one depth map out.

Axes: B batch, N patches (row by row), C channels, h and w rows and columns of a map,
H height, W width (pixels).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dav2.models.encoder import PATCH_PX, EncoderName

_FIRST_BIAS = 1.0


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """Channel counts of a head."""

    features: int
    """Channels of the fusion path."""
    out_channels: tuple[int, int, int, int]
    """Channels to which each token map is projected, finest first."""
    hidden_channels: int = 32
    """Channels at full resolution, before the last layer."""


def head_config(encoder: EncoderName) -> HeadConfig:
    """Returns the channel counts that belong to an encoder.

    `vits` to `vitg` are the table of the Depth Anything V2 code (`run.py`), which BEiT's and SAM's
    share by width; the small ones are ours, cut so that the head does not outweigh the encoder.
    """
    match encoder:
        case "vit64x4":
            return HeadConfig(16, (16, 32, 48, 64), hidden_channels=8)
        case "vit128x6":
            return HeadConfig(32, (32, 48, 96, 128), hidden_channels=16)
        case "vit192x8":
            return HeadConfig(48, (48, 96, 192, 192), hidden_channels=16)
        case "vits" | "vits_reg":
            return HeadConfig(64, (48, 96, 192, 384))
        case "vitb" | "vitb_reg" | "beitb" | "samb":
            return HeadConfig(128, (96, 192, 384, 768))
        case "vitl" | "vitl_reg" | "beitl" | "saml":
            return HeadConfig(256, (256, 512, 1024, 1024))
        case "vitg" | "vitg_reg":
            return HeadConfig(384, (1536, 1536, 1536, 1536))
        case _:
            assert_never(encoder)


class DPTHead(nn.Module):
    """Dense prediction head of Depth Anything V2 (Ranftl et al. 2021, arXiv:2103.13413).

    Names, shapes and order of parameters are those of the authors' `depth_head`, the unused
    `refinenet4.resConfUnit1` included (never trained, kept so that weights travel both ways).
    The values differ from theirs by rounding alone: maps are channels-last, and each fusion's 1x1
    convolution runs before the upsampling instead of after it, which commutes because bilinear
    weights sum to one, and costs a quarter.
    """

    def __init__(self, width: int, config: HeadConfig, *, max_depth_m: float | None = None) -> None:
        """Builds a head with random weights.

        Args:
            width: Channels of a token.
            config: Channel counts.
            max_depth_m: None for relative depth, which ends in a ReLU; else metres at which the
                final sigmoid saturates.
        """
        super().__init__()
        self.max_depth_m = max_depth_m
        first, second, _, fourth = config.out_channels
        self.projects = nn.ModuleList(
            nn.Conv2d(width, channels, kernel_size=1) for channels in config.out_channels
        )
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(first, first, kernel_size=4, stride=4),
                nn.ConvTranspose2d(second, second, kernel_size=2, stride=2),
                nn.Identity(),
                nn.Conv2d(fourth, fourth, kernel_size=3, stride=2, padding=1),
            ]
        )
        self.scratch = _Scratch(config)
        if max_depth_m is None:
            # From random weights a final ReLU may start below zero everywhere and never learn.
            assert self.scratch.last.bias is not None
            nn.init.constant_(self.scratch.last.bias, _FIRST_BIAS)
        self.to(memory_format=torch.channels_last)

    def forward(
        self, features: Sequence[Float[Tensor, "B N C"]], grid: tuple[int, int]
    ) -> Float[Tensor, "B H W"]:
        """Returns a depth map at the resolution of the encoder's image.

        Args:
            features: Patch tokens of four layers, shallow to deep.
            grid: Rows and columns of patches.

        Returns:
            float32 whatever the precision of the rest: relative depth (higher is closer, no unit,
            not negative), or metres where the head is metric.
        """
        rows, columns = grid
        maps = [
            # Tokens are rows of channels already: a view, and channels-last.
            resize(project(tokens.reshape(tokens.shape[0], rows, columns, -1).permute(0, 3, 1, 2)))
            for tokens, project, resize in zip(
                features, self.projects, self.resize_layers, strict=True
            )
        ]
        # No map at high resolution keeps a name of its own: it would stay until the end.
        hidden = self.scratch.output_conv1(self.scratch.fuse(maps))
        hidden = _resize(hidden, (rows * PATCH_PX, columns * PATCH_PX))
        hidden = self.scratch.output_conv2[:2](hidden)
        last = self.scratch.last
        assert last.bias is not None
        # The last layer in float32: the eight bits of a bfloat16 would show as steps in the depth.
        with torch.autocast(hidden.device.type, enabled=False):
            depth = F.conv2d(hidden.float(), last.weight.float(), last.bias.float())[:, 0]
            if self.max_depth_m is None:
                return F.relu(depth)
            return depth.sigmoid() * self.max_depth_m


class _Scratch(nn.Module):
    """Fusion path and output layers, named as the authors name them."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        features = config.features
        first, second, third, fourth = config.out_channels
        self.layer1_rn = nn.Conv2d(first, features, kernel_size=3, padding=1, bias=False)
        self.layer2_rn = nn.Conv2d(second, features, kernel_size=3, padding=1, bias=False)
        self.layer3_rn = nn.Conv2d(third, features, kernel_size=3, padding=1, bias=False)
        self.layer4_rn = nn.Conv2d(fourth, features, kernel_size=3, padding=1, bias=False)
        self.refinenet1 = _Fusion(features)
        self.refinenet2 = _Fusion(features)
        self.refinenet3 = _Fusion(features)
        self.refinenet4 = _Fusion(features)
        self.refinenet4.resConfUnit1.requires_grad_(False)  # nothing coarser to add to
        self.output_conv1 = nn.Conv2d(features, features // 2, kernel_size=3, padding=1)
        self.output_conv2 = nn.Sequential(
            nn.Conv2d(features // 2, config.hidden_channels, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(config.hidden_channels, 1, kernel_size=1),
        )

    @property
    def last(self) -> nn.Conv2d:
        layer = self.output_conv2[2]
        assert isinstance(layer, nn.Conv2d)
        return layer

    def fuse(self, maps: Sequence[Float[Tensor, "B _C _h _w"]]) -> Float[Tensor, "B C h w"]:
        """Merges maps from the coarsest to the finest, and doubles the finest's resolution."""
        first = self.layer1_rn(maps[0])
        second = self.layer2_rn(maps[1])
        third = self.layer3_rn(maps[2])
        path = self.refinenet4(self.layer4_rn(maps[3]), None, _size_of(third))
        path = self.refinenet3(path, third, _size_of(second))
        path = self.refinenet2(path, second, _size_of(first))
        rows, columns = _size_of(first)
        fused: Tensor = self.refinenet1(path, first, (2 * rows, 2 * columns))
        return fused


class _Fusion(nn.Module):
    """Adds a finer map to the path, refines the sum and resizes it."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(features, features, kernel_size=1)
        self.resConfUnit1 = _Residual(features)
        self.resConfUnit2 = _Residual(features)

    def forward(
        self,
        path: Float[Tensor, "B C h w"],
        finer: Float[Tensor, "B C h w"] | None,
        size: tuple[int, int],
    ) -> Float[Tensor, "B C _h _w"]:
        if finer is not None:
            path = path + self.resConfUnit1(finer)
        return _resize(self.out_conv(self.resConfUnit2(path)), size)


class _Residual(nn.Module):
    """Two convolutions around the identity, each after a ReLU."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(features, features, kernel_size=3, padding=1)

    def forward(self, values: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        hidden = F.relu(self.conv1(F.relu(values)), inplace=True)
        refined: Tensor = self.conv2(hidden) + values
        return refined


def _size_of(values: Float[Tensor, "B C h w"]) -> tuple[int, int]:
    return values.shape[2], values.shape[3]


def _resize(values: Float[Tensor, "B C _h _w"], size: tuple[int, int]) -> Float[Tensor, "B C h w"]:
    return F.interpolate(values, size=size, mode="bilinear", align_corners=True)
