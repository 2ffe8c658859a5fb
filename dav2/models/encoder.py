"""The image encoder: DINOv2's vision transformer on timm, and small ones of the same shape.

Axes: B batch, H height, W width (pixels), N patches (row by row), T class token and patches,
C channels.
"""

from dataclasses import dataclass, replace
from typing import Literal, assert_never

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from timm.layers import Mlp, SwiGLUPacked
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

PATCH_PX = 14
"""Side of a patch: height and width of an image must be multiples of it."""

EncoderName = Literal[
    "vit64x4",
    "vit128x6",
    "vit192x8",
    "vits",
    "vitb",
    "vitl",
    "vitg",
    "vits_reg",
    "vitb_reg",
    "vitl_reg",
    "vitg_reg",
    "beitb",
    "beitl",
    "samb",
    "saml",
]

Version = Literal[1, 2]
"""Of Depth Anything: V1 reads the last four blocks, V2 four spread evenly."""


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """What tells one encoder from another."""

    width: int
    """Channels of a token."""
    depth: int
    """Number of blocks."""
    num_heads: int
    layers: tuple[int, int, int, int]
    """Indices of the blocks whose output the head reads."""
    native_px: int = 518
    """Side of the square image for whose grid position embeddings are stored."""
    family: Literal["dinov2", "beit", "sam"] = "dinov2"
    """`Encoder` computes the first, `dav2.models.encoder_families` the others."""
    layer_scale: float = 1.0
    """Start of the factors of each block's two branches; SAM has none."""
    swiglu: bool = False
    """SwiGLU in place of the two-layer perceptron (the giant model only)."""
    num_registers: int = 0
    """Register tokens (Darcet et al. 2023, arXiv:2309.16588), between class token and patches."""
    position_offset: float = 0.1
    """Patches by which DINOv2's code makes the grid of positions too large when it resizes it."""
    antialias_positions: bool = False
    """Resize positions with antialiasing, as DINOv2's code does for the models with registers."""
    from_scratch: bool = False
    """Start as suits training from nothing on few images: sine-cosine positions, since it would
    have to find out first where its patches lie, and Xavier weights, since timm's normal ones of
    deviation 0.02 are far too small for narrow layers (as in masked autoencoders, He et al. 2021,
    arXiv:2111.06377)."""


def encoder_config(name: EncoderName, *, version: Version = 2) -> EncoderConfig:
    """Returns the sizes of an encoder.

    `vits` to `vitg` are DINOv2's (Oquab et al. 2023, arXiv:2304.07193) with the layers that the
    Depth Anything V2 code reads (`depth_anything_v2/dpt.py`); those with `_reg` are the variants
    with register tokens that the paper compares in its Table 13. The small ones, named width x
    depth, are ours: heads of 32 or 64 channels, four layers spread evenly. `beitb` and `beitl` are
    BEiT's of 384 px, `samb` and `saml` those of Segment Anything (`dav2.models.encoder_families`).

    Args:
        name: Which one.
        version: 1 for V1's layers, the last four.
    """
    config = _evenly(name)
    if version == 1:
        first = config.depth - 4
        return replace(config, layers=(first, first + 1, first + 2, first + 3))
    return config


def _evenly(name: EncoderName) -> EncoderConfig:
    match name:
        case "vit64x4":
            return EncoderConfig(64, 4, 2, (0, 1, 2, 3), native_px=168, from_scratch=True)
        case "vit128x6":
            return EncoderConfig(128, 6, 4, (1, 2, 4, 5), native_px=168, from_scratch=True)
        case "vit192x8":
            return EncoderConfig(192, 8, 3, (1, 3, 5, 7), native_px=168, from_scratch=True)
        case "vits":
            return EncoderConfig(384, 12, 6, (2, 5, 8, 11))
        case "vitb":
            return EncoderConfig(768, 12, 12, (2, 5, 8, 11))
        case "vitl":
            return EncoderConfig(1024, 24, 16, (4, 11, 17, 23))
        case "vitg":
            return EncoderConfig(1536, 40, 24, (9, 19, 29, 39), swiglu=True)
        case "vits_reg":
            return _with_registers(_evenly("vits"))
        case "vitb_reg":
            return _with_registers(_evenly("vitb"))
        case "vitl_reg":
            return _with_registers(_evenly("vitl"))
        case "vitg_reg":
            return _with_registers(_evenly("vitg"))
        case "beitb":
            return _beit(_evenly("vitb"), layer_scale=0.1)
        case "beitl":
            return _beit(_evenly("vitl"), layer_scale=1e-5)
        case "samb":
            return _sam(_evenly("vitb"))
        case "saml":
            return _sam(_evenly("vitl"))
        case _:
            assert_never(name)


def _with_registers(config: EncoderConfig) -> EncoderConfig:
    return replace(config, num_registers=4, position_offset=0.0, antialias_positions=True)


def _beit(config: EncoderConfig, *, layer_scale: float) -> EncoderConfig:
    return replace(
        config,
        layers=_quarters(config),
        native_px=24 * PATCH_PX,
        family="beit",
        layer_scale=layer_scale,
    )


def _sam(config: EncoderConfig) -> EncoderConfig:
    return replace(config, layers=_quarters(config), family="sam", native_px=64 * PATCH_PX)


def _quarters(config: EncoderConfig) -> tuple[int, int, int, int]:
    # Where MiDaS 3.1 reads BEiT, and the blocks of SAM that attend to the whole image.
    step = config.depth // 4
    return step - 1, 2 * step - 1, 3 * step - 1, 4 * step - 1


class Encoder(VisionTransformer):  # type: ignore[misc]  # mypy does not follow timm: base is Any
    """A vision transformer that returns the patch tokens of four of its blocks.

    Weights are random: nothing is ever downloaded. Parameters carry timm's names, which are
    DINOv2's but for the giant model's `mlp.fc1` and `mlp.fc2` (DINOv2: `mlp.w12` and `mlp.w3`,
    same shapes, same order). `mask_token` is used and trained on masked images alone
    (`dav2.models.masked_image_model`). LayerScale starts at 1 as in the Depth Anything V2 code;
    DINOv2's own 1e-5 belongs to its much longer training.

    `position_offset` may be set to 0 for the features that Transformers computes: it leaves out
    DINOv2's offset, so they differ wherever positions are resized.
    """

    def __init__(self, name: EncoderName, *, version: Version = 2) -> None:
        config = encoder_config(name, version=version)
        if config.family != "dinov2":
            raise ValueError(
                f"{name}: expected an encoder of DINOv2's kind, which masked images and exports "
                f"to onnx and pt2 need, got one of {config.family}"
            )
        super().__init__(
            img_size=config.native_px,
            patch_size=PATCH_PX,
            embed_dim=config.width,
            depth=config.depth,
            num_heads=config.num_heads,
            num_classes=0,
            init_values=config.layer_scale,
            dynamic_img_size=True,
            # A packed SwiGLU halves its hidden width: 1536 channels get DINOv2's 4096.
            mlp_ratio=2 * 2.66667 if config.swiglu else 4.0,
            mlp_layer=SwiGLUPacked if config.swiglu else Mlp,
            act_layer=nn.SiLU if config.swiglu else nn.GELU,
        )
        self.config = config
        self.position_offset = config.position_offset
        self.mask_token = nn.Parameter(torch.zeros(1, config.width), requires_grad=False)
        if config.num_registers:
            # Not timm's own, whose position embeddings are laid out otherwise than DINOv2's.
            self.reg_token = nn.Parameter(torch.zeros(1, config.num_registers, config.width))
            nn.init.normal_(self.reg_token, std=1e-6)
        if config.from_scratch:
            self._start_from_scratch()

    def forward(
        self, images: Float[Tensor, "B 3 H W"], masked: Bool[Tensor, "B N"] | None = None
    ) -> tuple[Float[Tensor, "B N C"], ...]:
        """Returns the patch tokens of the layers named in the configuration, shallow to deep.

        Each passes through the final layer norm, as DINOv2's `get_intermediate_layers` does; class
        token and registers take part in attention and are left out here.

        Args:
            images: Normalised colours.
            masked: True where the mask token takes a patch's place, as in DINOv2: before positions
                are added. None: nowhere.

        Raises:
            ValueError: Height or width is not a multiple of the patch.
        """
        rows, columns = grid_of(images)
        patches = self.patch_embed(images).flatten(1, 2)
        if masked is not None:
            patches = torch.where(masked[..., None], self.mask_token.to(patches.dtype), patches)
        tokens = torch.cat([self.cls_token.expand(patches.shape[0], -1, -1), patches], dim=1)
        tokens = tokens + self._positions(rows, columns).to(tokens.dtype)
        num_registers = self.config.num_registers
        if num_registers:
            registers = self.reg_token.expand(tokens.shape[0], -1, -1)
            tokens = torch.cat([tokens[:, :1], registers, tokens[:, 1:]], dim=1)
        features = []
        for index, block in enumerate(self.blocks):
            tokens = through(block, tokens, is_kept=not self.grad_checkpointing)
            if index in self.config.layers:
                features.append(self.norm(tokens[:, 1 + num_registers :]))
        return tuple(features)

    def _start_from_scratch(self) -> None:
        side = self.config.native_px // PATCH_PX
        with torch.no_grad():
            self.pos_embed.copy_(_sincos_positions(side, width=self.config.width))
        for layer in self.blocks.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
        # The patches' projection is a linear layer of all colours of a patch.
        nn.init.xavier_uniform_(self.patch_embed.proj.weight.flatten(1))

    def _positions(self, rows: int, columns: int) -> Float[Tensor, "1 T C"]:
        """Position embeddings for a grid, resized exactly as DINOv2's code does.

        DINOv2 passes bicubic interpolation a scale that is 0.1 of a patch too large, without
        antialiasing; its weights have only ever seen that. timm's own resizing differs by up to
        1e-2 away from the native size.
        """
        side = self.config.native_px // PATCH_PX
        stored: Tensor = self.pos_embed.float()
        if rows == columns == side:
            return stored
        grid = stored[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        antialias, offset = self.config.antialias_positions, self.position_offset
        if offset == 0:
            grid = F.interpolate(grid, size=(rows, columns), mode="bicubic", antialias=antialias)
        else:
            scale = ((rows + offset) / side, (columns + offset) / side)
            grid = F.interpolate(grid, scale_factor=scale, mode="bicubic", antialias=antialias)
        return torch.cat([stored[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


def grid_of(images: Float[Tensor, "B 3 H W"]) -> tuple[int, int]:
    """Returns rows and columns of patches of images.

    Raises:
        ValueError: Height or width is not a multiple of the patch.
    """
    height, width = images.shape[-2:]
    if height % PATCH_PX or width % PATCH_PX or not height or not width:
        raise ValueError(
            f"encoder: expected images with sides that are multiples of {PATCH_PX} px, "
            f"got {height} x {width}"
        )
    return height // PATCH_PX, width // PATCH_PX


def through(block: nn.Module, tokens: Tensor, *rest: object, is_kept: bool) -> Tensor:
    """Returns what a block makes of tokens.

    Args:
        block: Draws no random number.
        tokens: Of any shape; the result has the same.
        rest: What else the block takes.
        is_kept: Whether what it computes on the way is kept for gradients, or computed again.
    """
    if not is_kept and torch.is_grad_enabled():
        # No block draws a random number, so there is no state of random numbers to keep.
        again: Tensor = checkpoint(
            block, tokens, *rest, use_reentrant=False, preserve_rng_state=False
        )
        return again
    result: Tensor = block(tokens, *rest)
    return result


def _sincos_positions(side: int, *, width: int) -> Float[Tensor, "1 T C"]:
    """Sines and cosines of row and column at `width / 4` frequencies; zero for the class token."""
    frequencies = 10_000.0 ** -(torch.arange(width // 4, dtype=torch.float32) / (width // 4))
    angles = torch.arange(side, dtype=torch.float32)[:, None] * frequencies
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows = waves[:, None].expand(-1, side, -1)
    columns = waves[None].expand(side, -1, -1)
    grid = torch.cat([rows, columns], dim=2).flatten(0, 1)
    return torch.cat([torch.zeros(1, width), grid])[None]
