"""Under which names others keep our weights.

A layout is one function from our name to theirs, so that reading and writing are one table.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from dav2.models.encoder import EncoderName, encoder_config

ENCODER, HEAD = "encoder.", "head."


@dataclass(frozen=True, slots=True)
class Layout:
    """How somebody's file names weights."""

    title: str
    names_of: Callable[[str], tuple[str, ...]]
    """From our name of a weight to theirs; several are parts of ours, one below the other; none is
    a weight that they leave out and that is zero here."""
    with_head: bool = True
    family: Literal["dinov2", "beit", "sam"] = "dinov2"
    """Of encoders that are kept so."""
    left_over: str = r"(?!)"
    """Pattern of the names in their files that no weight of ours has."""
    swiglu: tuple[tuple[str, str], ...] = ()
    """What it calls the layers of a SwiGLU (`for_size`): part of our name of it, and theirs."""


def _upstream(name: str) -> tuple[str, ...]:
    if name.startswith(HEAD):
        return (f"depth_head.{name.removeprefix(HEAD)}",)
    return (f"pretrained.{_dinov2(name)[0]}",)


def _dinov2(name: str) -> tuple[str, ...]:
    name = name.removeprefix(ENCODER)
    return ("register_tokens" if name == "reg_token" else name,)


def _timm(name: str) -> tuple[str, ...]:
    return () if name.endswith("mask_token") else (name.removeprefix(ENCODER),)


_TRANSFORMERS = [
    (r"encoder\.(cls|mask)_token", r"backbone.embeddings.\1_token"),
    (r"encoder\.pos_embed", r"backbone.embeddings.position_embeddings"),
    (r"encoder\.patch_embed\.proj\.(.*)", r"backbone.embeddings.patch_embeddings.projection.\1"),
    (r"encoder\.norm\.(.*)", r"backbone.layernorm.\1"),
    (r"encoder\.blocks\.(\d+)\.attn\.proj\.(.*)", r"@\1.attention.output.dense.\2"),
    (r"encoder\.blocks\.(\d+)\.ls([12])\.gamma", r"@\1.layer_scale\2.lambda1"),
    (r"encoder\.blocks\.(\d+)\.(norm[12]|mlp)\.(.*)", r"@\1.\2.\3"),
    (r"head\.projects\.(\d)\.(.*)", r"neck.reassemble_stage.layers.\1.projection.\2"),
    (r"head\.resize_layers\.(\d)\.(.*)", r"neck.reassemble_stage.layers.\1.resize.\2"),
    (r"head\.scratch\.output_conv1\.(.*)", r"head.conv1.\1"),
    (r"head\.scratch\.output_conv2\.0\.(.*)", r"head.conv2.\1"),
    (r"head\.scratch\.output_conv2\.2\.(.*)", r"head.conv3.\1"),
]
"""Ours to theirs; `@` is `backbone.encoder.layer.`. The names are those of published files, which
Transformers itself translates when it reads and writes them."""


def _transformers(name: str) -> tuple[str, ...]:
    if found := re.fullmatch(r"encoder\.blocks\.(\d+)\.attn\.qkv\.(weight|bias)", name):
        block, kind = found.groups()
        parts = ("query", "key", "value")
        layer = f"backbone.encoder.layer.{block}.attention.attention"
        return tuple(f"{layer}.{part}.{kind}" for part in parts)
    if found := re.fullmatch(r"head\.scratch\.layer(\d)_rn\.weight", name):
        return (f"neck.convs.{int(found[1]) - 1}.weight",)
    if found := re.fullmatch(r"head\.scratch\.refinenet(\d)\.(\w+)\.(.*)", name):
        number, part, rest = found.groups()
        theirs = {"out_conv": "projection", "resConfUnit1": "residual_layer1"}
        inner = rest.replace("conv", "convolution")
        layer = f"neck.fusion_stage.layers.{4 - int(number)}"  # theirs begin with the coarsest
        return (f"{layer}.{theirs.get(part, 'residual_layer2')}.{inner}",)
    for pattern, replacement in _TRANSFORMERS:
        if re.fullmatch(pattern, name):
            translated = re.sub(pattern, replacement, name)
            return (translated.replace("@", "backbone.encoder.layer."),)
    raise ValueError(
        f"{name}: expected a weight that Transformers' Depth Anything has, got another"
    )


_DINOV2_SWIGLU = ((".mlp.fc1.", ".mlp.w12."), (".mlp.fc2.", ".mlp.w3."))
_TRANSFORMERS_SWIGLU = ((".mlp.fc1.", ".mlp.weights_in."), (".mlp.fc2.", ".mlp.weights_out."))

UPSTREAM = Layout("the authors' layout", _upstream, swiglu=_DINOV2_SWIGLU)
TRANSFORMERS = Layout("Transformers' layout", _transformers, swiglu=_TRANSFORMERS_SWIGLU)
DINOV2 = Layout("DINOv2's layout", _dinov2, with_head=False, swiglu=_DINOV2_SWIGLU)
TIMM = Layout("timm's layout", _timm, with_head=False)
BEIT_TABLE = "blocks.0.attn.relative_position_bias_table"
"""Tells BEiT's files from others."""

BEIT = Layout(
    "timm's layout of BEiT",
    _timm,
    with_head=False,
    family="beit",
    # A classifier on the mean of all tokens, and what old files say of places.
    left_over=r"(fc_norm|head)\..*|blocks\.\d+\.attn\.relative_position_index",
)
SAM = Layout("timm's layout of SAM", _timm, with_head=False, family="sam", left_over=r"neck\..*")


def for_size(layout: Layout, encoder: EncoderName) -> Layout:
    """Returns the layout of an encoder's file: the giant's perceptrons have other names."""
    if not encoder_config(encoder).swiglu:
        return layout

    def names_of(name: str) -> tuple[str, ...]:
        names = layout.names_of(name)
        for ours, theirs in layout.swiglu:
            names = tuple(entry.replace(ours, theirs) for entry in names)
        return names

    return replace(layout, names_of=names_of)
