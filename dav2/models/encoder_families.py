"""The encoders that the paper compares with DINOv2's: BEiT and Segment Anything (SAM), on timm.

Both have patches of 16 px. Everything else here has patches of 14 px, so they enlarge the image by
16/14: rows and columns of patches, and with them the tokens and the head's output, are those that
the other encoders have of the same image.

Axes: B batch, H height, W width (pixels), R rows and C columns of patches, N patches (row by row),
T class token and patches, D channels, h heads, L length of a side, S that of a stored one.
"""

import math
from typing import assert_never

import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.models import beit, vision_transformer_sam
from torch import Tensor, nn

from dav2.data.transforms import IMAGE_DEVIATION, IMAGE_MEAN
from dav2.models.encoder import (
    PATCH_PX,
    Encoder,
    EncoderConfig,
    EncoderName,
    Version,
    encoder_config,
    grid_of,
    through,
)

_THEIR_PATCH_PX = 16


def build_encoder(
    name: EncoderName, *, version: Version = 2
) -> "Encoder | BeitEncoder | SamEncoder":
    """Returns an encoder of any family, with random weights.

    Args:
        name: Which one.
        version: Of Depth Anything, which decides the blocks that are read.
    """
    config = encoder_config(name, version=version)
    match config.family:
        case "dinov2":
            return Encoder(name, version=version)
        case "beit":
            return BeitEncoder(config)
        case "sam":
            return SamEncoder(config)
        case _:
            assert_never(config.family)


class BeitEncoder(beit.Beit):  # type: ignore[misc]  # mypy does not follow timm: base is Any
    """BEiT (Bao et al. 2021, arXiv:2106.08254) that returns the patch tokens of four blocks.

    Parameters carry the names of timm's `beit_base_patch16_384` and `beit_large_patch16_384`. The
    norm in their files is of the mean of all tokens and belongs to the classifier: both are left
    out, and tokens are returned as the blocks leave them, as MiDaS 3.1 reads them.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(
            img_size=config.native_px // PATCH_PX * _THEIR_PATCH_PX,
            patch_size=_THEIR_PATCH_PX,
            embed_dim=config.width,
            depth=config.depth,
            num_heads=config.num_heads,
            num_classes=0,
            init_values=config.layer_scale,
            use_abs_pos_emb=False,
            use_rel_pos_bias=True,
        )
        self.config = config
        self.patch_embed.strict_img_size = False
        del self.fc_norm
        for block in self.blocks:
            block.attn = _BeitAttention(block.attn)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B N D"], ...]:
        """Returns the patch tokens of the layers named in the configuration, shallow to deep.

        Args:
            images: Normalised colours, as of all encoders; BEiT's own normalisation, with mean and
                deviation 0.5, is made of them here.

        Raises:
            ValueError: Height or width is not a multiple of 14.
        """
        grid = grid_of(images)
        channels = [
            2 * deviation * images[:, index] + (2 * mean - 1)
            for index, (mean, deviation) in enumerate(zip(IMAGE_MEAN, IMAGE_DEVIATION, strict=True))
        ]
        patches = self.patch_embed(_enlarged(torch.stack(channels, dim=1), grid))
        tokens = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1)
        features = []
        for index, block in enumerate(self.blocks):
            tokens = through(block, tokens, grid, is_kept=not self.grad_checkpointing)
            if index in self.config.layers:
                features.append(tokens[:, 1:])
        return tuple(features)


class SamEncoder(vision_transformer_sam.VisionTransformerSAM):  # type: ignore[misc]  # as above
    """The image encoder of Segment Anything (Kirillov et al. 2023, arXiv:2304.02643), likewise.

    Four blocks attend to the whole image, the others to windows of 14 x 14 patches. Parameters
    carry the names of timm's `samvit_base_patch16` and `samvit_large_patch16`. There is no norm
    after the blocks; the neck, which ends in 256 channels, is left out.
    """

    def __init__(self, config: EncoderConfig) -> None:
        step = config.depth // 4
        super().__init__(
            img_size=config.native_px // PATCH_PX * _THEIR_PATCH_PX,
            patch_size=_THEIR_PATCH_PX,
            embed_dim=config.width,
            depth=config.depth,
            num_heads=config.num_heads,
            num_classes=0,
            use_rel_pos=True,
            global_attn_indexes=tuple(range(step - 1, config.depth, step)),
            neck_chans=None,
        )
        self.config = config
        del self.neck, self.head
        for block in self.blocks:
            block.attn = _SamAttention(block.attn)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B N D"], ...]:
        """Returns the patch tokens of the layers named in the configuration, shallow to deep.

        Args:
            images: Normalised colours, as of all encoders.

        Raises:
            ValueError: Height or width is not a multiple of 14.
        """
        grid = grid_of(images)
        tokens = self.patch_embed(_enlarged(images, grid))
        tokens = tokens + self._positions(grid).to(tokens.dtype)
        features = []
        for index, block in enumerate(self.blocks):
            tokens = through(block, tokens, is_kept=not self.grad_checkpointing)
            if index in self.config.layers:
                features.append(tokens.flatten(1, 2))
        return tuple(features)

    def _positions(self, grid: tuple[int, int]) -> Float[Tensor, "1 R C D"]:
        stored: Tensor = self.pos_embed.float()
        if grid == stored.shape[1:3]:
            return stored
        channels_first = stored.permute(0, 3, 1, 2)
        resized = F.interpolate(channels_first, size=grid, mode="bicubic", antialias=True)
        return resized.permute(0, 2, 3, 1)


AnyEncoder = Encoder | BeitEncoder | SamEncoder


def _enlarged(
    images: Float[Tensor, "B 3 H W"], grid: tuple[int, int]
) -> Float[Tensor, "B 3 H2 W2"]:
    rows, columns = grid
    size = (rows * _THEIR_PATCH_PX, columns * _THEIR_PATCH_PX)
    return F.interpolate(images, size=size, mode="bicubic")


class _BeitAttention(nn.Module):
    """timm's attention of BEiT for any grid of patches, with its parameters and no buffers.

    timm's holds what its table says of one grid; this one resizes the table for each image.
    """

    def __init__(self, attention: beit.Attention) -> None:
        super().__init__()
        self.num_heads = attention.num_heads
        self.qkv, self.proj = attention.qkv, attention.proj
        self.q_bias, self.v_bias = attention.q_bias, attention.v_bias
        self.relative_position_bias_table = attention.relative_position_bias_table

    def forward(
        self, tokens: Float[Tensor, "B T D"], shared_rel_pos_bias: tuple[int, int]
    ) -> Float[Tensor, "B T D"]:
        """Mixes tokens.

        Args:
            tokens: Class token first.
            shared_rel_pos_bias: Rows and columns of patches: timm's blocks hand on what they get
                under this name.
        """
        biases = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])
        mixed = F.linear(tokens, self.qkv.weight, biases)
        query, key, value = _by_head(mixed, self.num_heads)
        bias = self._bias(*shared_rel_pos_bias).to(query.dtype)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        joined: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return joined

    def _bias(self, rows: int, columns: int) -> Float[Tensor, "1 h T T"]:
        """Returns what is added to the product of each query (row) and key (column).

        The table holds a row for each difference between the places of two patches, then one for
        the class token's look at patches, one for theirs at it, and one for its look at itself.
        """
        table: Tensor = self.relative_position_bias_table.float().T[None]
        side = math.isqrt(table.shape[2] - 3)
        differences = table[..., :-3].reshape(1, self.num_heads, side, side)
        size = (2 * rows - 1, 2 * columns - 1)
        if size != (side, side):
            differences = F.interpolate(differences, size=size, mode="bicubic")
        over_rows = _between(differences, rows, dim=2)
        patches = _between(over_rows, columns, dim=3)  # 1 h R C R C
        patches = patches.flatten(4).flatten(2, 3)
        to_patches, to_token, itself = (table[:, :, place, None, None] for place in (-3, -2, -1))
        num_patches = rows * columns
        first = torch.cat([itself, to_patches.expand(-1, -1, -1, num_patches)], dim=3)
        others = torch.cat([to_token.expand(-1, -1, num_patches, -1), patches], dim=3)
        return torch.cat([first, others], dim=2)


class _SamAttention(nn.Module):
    """timm's attention of SAM, with its parameters.

    timm's makes indices on the CPU in each block, for which a GPU waits.
    """

    def __init__(self, attention: vision_transformer_sam.Attention) -> None:
        super().__init__()
        self.num_heads = attention.num_heads
        self.qkv, self.proj = attention.qkv, attention.proj
        self.rel_pos_h, self.rel_pos_w = attention.rel_pos_h, attention.rel_pos_w

    def forward(self, tokens: Float[Tensor, "B R C D"]) -> Float[Tensor, "B R C D"]:
        rows, columns = tokens.shape[1:3]
        query, key, value = _by_head(self.qkv(tokens.flatten(1, 2)), self.num_heads)
        places = query.reshape(*query.shape[:2], rows, columns, -1)
        of_rows = torch.einsum("bhrcd,rdk->bhrck", places, _along(self.rel_pos_h, rows))
        of_columns = torch.einsum("bhrcd,cdk->bhrck", places, _along(self.rel_pos_w, columns))
        bias = of_rows[..., None] + of_columns[..., None, :]
        bias = bias.flatten(4).flatten(2, 3).to(query.dtype)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        joined: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return joined.reshape(tokens.shape)


def _by_head(mixed: Float[Tensor, "B T D3"], num_heads: int) -> Float[Tensor, "3 B h T D1"]:
    """Returns queries, keys and values, which lie side by side in each token."""
    batch, length, _ = mixed.shape
    return mixed.reshape(batch, length, 3, num_heads, -1).permute(2, 0, 3, 1, 4)


def _along(table: Float[Tensor, "S D"], length: int) -> Float[Tensor, "L D L"]:
    """Returns a table's channels for each query and key along one side of the grid."""
    resized = table.T[None]
    if table.shape[0] != 2 * length - 1:
        resized = F.interpolate(resized, size=2 * length - 1, mode="linear")
    return _between(resized[0].T, length, dim=0)


def _between(table: Tensor, length: int, *, dim: int) -> Tensor:
    """Returns values for each query and key from those for their differences.

    Args:
        table: Of 2 `length` - 1 differences, query minus key, the least first.
        length: Of a side of the grid.
        dim: Of the differences, which becomes that of queries; keys are appended.
    """
    return table.unfold(dim, length, 1).flip(-1)
