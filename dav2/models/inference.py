"""Makes a model ready to predict as fast as its device safely can.

Axes: B batch, T tokens, C channels.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from timm.layers import Attention
from torch import Tensor, nn

from dav2.models.depth_anything import DepthAnything

Precision = Literal["auto", "float32", "bfloat16"]

_CHUNK = 256
"""Queries at once: their weights over all tokens then fit a core's cache."""


def prepare(model: DepthAnything, *, device: str, precision: Precision = "auto") -> None:
    """Moves a model to a device and a precision for prediction, in place.

    It cannot be trained or saved bit-exactly afterwards. Measured in docs/performance.md.

    Args:
        model: Relative or metric, float32.
        device: As `dav2.models.device.chosen_device` returns it.
        precision: Of the weights; `auto` is bfloat16 where the device computes in it, else
            float32. The last layer and the depth stay float32.
    """
    model.eval().requires_grad_(False)
    if precision == "bfloat16" or (precision == "auto" and _has_bfloat16(device)):
        model.to(torch.bfloat16)
        if device == "cpu" and model.encoder.config.family == "dinov2":
            for block in model.encoder.blocks:
                block.attn = _ChunkedAttention(block.attn)
    model.to(device)


def _has_bfloat16(device: str) -> bool:
    """Returns whether a device has instructions for bfloat16: emulated, it is slow."""
    if device == "cpu":
        # Where an older torch cannot tell, there is none.
        capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return False


class _ChunkedAttention(nn.Module):
    """Self-attention, some queries at a time, for bfloat16 on a CPU.

    torch's fused attention computes in float32 there and gains nothing from bfloat16, and weights
    of all queries at once do not fit any cache.
    """

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.qkv, self.proj = attention.qkv, attention.proj
        self.num_heads = attention.num_heads

    def forward(
        self, tokens: Float[Tensor, "B T C"], attn_mask: None = None, is_causal: bool = False
    ) -> Float[Tensor, "B T C"]:
        assert attn_mask is None  # timm's blocks pass these on
        assert not is_causal
        batch, length, width = tokens.shape
        shape = (batch, length, 3, self.num_heads, width // self.num_heads)
        query, key, value = self.qkv(tokens).reshape(shape).permute(2, 0, 3, 1, 4).unbind(0)
        query = query * query.shape[-1] ** -0.5
        key = key.transpose(-2, -1)
        mixed = [(part @ key).softmax(dim=-1) @ value for part in query.split(_CHUNK, dim=2)]
        joined: Tensor = self.proj(torch.cat(mixed, dim=2).transpose(1, 2).flatten(2))
        return joined
