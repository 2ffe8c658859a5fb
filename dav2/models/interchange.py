"""Weights as others keep them: the authors, Transformers, DINOv2 and timm.

A layout says under which names a file keeps each of our weights, so that reading and writing are
one table and lose no bit. Encoder, head and sizes follow from the weights. What no weight tells
(whether a head of the authors is metric, and which version reads which blocks) follows from the
names under which the files were published, or is given.
"""

import math
import pickle
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never, cast, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dav2.data.files import write_json, written_whole
from dav2.models.depth_anything import DepthAnything, ModelConfig
from dav2.models.encoder import PATCH_PX, EncoderName, Version, encoder_config
from dav2.models.layouts import (
    BEIT,
    BEIT_TABLE,
    DINOV2,
    ENCODER,
    SAM,
    TIMM,
    TRANSFORMERS,
    UPSTREAM,
    Layout,
    for_size,
)
from dav2.models.transformers_folder import folder_files, read_config

_SHOWN = 3

PUBLISHED_MAX_DEPTH_M = {"metric_hypersim": 20.0, "metric_vkitti": 80.0}
"""Of the authors' metric models, by a part of the file's name (`metric_depth/README.md`)."""


@dataclass(frozen=True, slots=True, eq=False)
class ForeignWeights:
    """Somebody's weights under our names."""

    config: ModelConfig
    weights: dict[str, Tensor]
    """float32, those of the whole model or of its encoder alone."""
    layout: Layout


def read_foreign(
    path: Path, *, max_depth_m: float | None = None, version: Version | None = None
) -> ForeignWeights:
    """Reads weights that this project did not write.

    Args:
        path: A `.pth` of the authors (V1 or V2, relative or metric, bare or as their trainer saves
            it), a folder of Transformers, or an encoder of DINOv2 (`.pth`) or timm,
            BEiT's and SAM's among them.
        max_depth_m: Metres at which a metric head of the authors saturates. By default 20 or 80
            where the file has its published name, and else the head is relative: nothing in the
            weights tells the two apart. A folder of Transformers says it itself.
        version: Of a `.pth` of the authors; by default 1 where the name begins as V1's do.

    Raises:
        FileNotFoundError: If there is nothing at `path`.
        ValueError: In one line, if the file is damaged, of no known layout, or has not exactly the
            weights of one of our encoders and its head.
    """
    if path.is_dir():
        config, path = read_config(path), path / "model.safetensors"
        weights = _translated(_tensors_of(path), config, TRANSFORMERS, path)
        return ForeignWeights(config, weights, TRANSFORMERS)
    tensors = _tensors_of(path)
    layout = _layout_of(tensors, path)
    encoder = _encoder_of(tensors, layout, path)
    if layout.with_head:
        max_depth_m = _max_depth(path) if max_depth_m is None else max_depth_m
        version = _version(path) if version is None else version
    config = ModelConfig(encoder, max_depth_m, version or 2)
    return ForeignWeights(config, _translated(tensors, config, layout, path), layout)


def upstream_weights(model: DepthAnything) -> dict[str, Tensor]:
    """Returns a model's weights as the authors' `load_state_dict` takes them."""
    return _foreign(model, UPSTREAM)


def write_upstream(model: DepthAnything, path: Path) -> None:
    """Writes a `.pth` for the authors' code; V1 or V2, relative or metric is for its user to know.

    Raises:
        ValueError: If the encoder is none of theirs.
    """
    config = model.encoder.config
    if config.native_px != encoder_config("vits").native_px or config.family != "dinov2":
        raise ValueError(
            f"{path}: expected an encoder that the authors' code knows, got {model.config.encoder}"
        )
    with written_whole(path) as written:
        torch.save(upstream_weights(model), written)


def write_transformers(model: DepthAnything, folder: Path) -> None:
    """Writes a folder for Transformers' `pipeline("depth-estimation")`.

    Raises:
        ValueError: If Transformers cannot express the model (`folder_files`).
    """
    files = folder_files(model)
    with written_whole(folder) as written:
        written.mkdir()
        for name, content in files.items():
            write_json(content, written / name)
        weights = {
            name: value.contiguous() for name, value in _foreign(model, TRANSFORMERS).items()
        }
        save_file(weights, written / "model.safetensors", metadata={"format": "pt"})


def check_fit(path: Path, found: Mapping[str, object], expected: Mapping[str, object]) -> None:
    """Compares names of weights, and their shapes or whatever else is given of each.

    Raises:
        ValueError: With one line that says what is missing, left over and of another shape.
    """
    missing, left_over = expected.keys() - found.keys(), found.keys() - expected.keys()
    different = [
        f"{name} {found[name]} for {expected[name]}"
        for name in expected.keys() & found.keys()
        if found[name] != expected[name]
    ]
    if missing or left_over or different:
        raise ValueError(
            f"{path}: expected the {len(expected)} weights of the model, got {len(found)}: "
            f"missing {shown(missing)}, left over {shown(left_over)}, "
            f"of another shape or type {shown(different)}"
        )


def is_pickle(path: Path) -> bool:
    """Returns whether a file is what `torch.save` writes, rather than safetensors."""
    with path.open("rb") as stream:
        return stream.read(2) in (b"PK", b"\x80\x02")


def shown(names: Iterable[str]) -> str:
    """Returns how many names there are, and the first few."""
    ordered = sorted(names)
    listed = ordered[:_SHOWN] + (["..."] if len(ordered) > _SHOWN else [])
    return f"{len(ordered)} ({', '.join(listed)})" if ordered else "none"


def _tensors_of(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a checkpoint, got no file")
    try:
        if not is_pickle(path):
            return load_file(path)
        # Never a stranger's pickle with code in it.
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path}: expected a whole checkpoint, got {reason}") from None
    for wrapper in ("model", "state_dict"):  # what the authors' trainer saves beside optimisers
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ValueError(f"{path}: expected weights by name, got {type(content).__name__}")
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def _layout_of(tensors: Mapping[str, Tensor], path: Path) -> Layout:
    if "pretrained.pos_embed" in tensors:
        return UPSTREAM
    if BEIT_TABLE in tensors:
        return BEIT
    if "blocks.0.attn.rel_pos_h" in tensors:
        return SAM
    if "pos_embed" in tensors:
        return DINOV2 if "mask_token" in tensors else TIMM
    if any(name.startswith("backbone.embeddings.") for name in tensors):
        raise ValueError(
            f"{path}: expected the folder of a model of Transformers, got its weights alone; "
            "name the folder, which holds config.json too"
        )
    raise ValueError(
        f"{path}: expected weights of Depth Anything, DINOv2 or timm, got {shown(tensors)}"
    )


def _encoder_of(tensors: Mapping[str, Tensor], layout: Layout, path: Path) -> EncoderName:
    """Returns the encoder of the weights' width, depth, side of its grid and registers."""
    prefix = layout.names_of("encoder.pos_embed")[0].removesuffix("pos_embed")
    blocks = {
        int(found[1])
        for name in tensors
        if (found := re.match(re.escape(prefix) + r"blocks\.(\d+)\.", name))
    }
    width, places = _width_and_places(tensors, layout, prefix)
    registers = tensors.get(f"{prefix}register_tokens")
    num_registers = registers.shape[1] if registers is not None and registers.ndim == 3 else 0
    for name in get_args(EncoderName):
        config = encoder_config(name)
        side = config.native_px // PATCH_PX
        sizes = (config.width, config.depth, side * side, config.num_registers)
        is_same = sizes == (width, len(blocks), places, num_registers)
        if is_same and config.family == layout.family:
            return cast(EncoderName, name)
    raise ValueError(
        f"{path}: expected the sizes of one of {', '.join(get_args(EncoderName))}, got "
        f"{width} channels, {len(blocks)} blocks, {places} positions, {num_registers} registers "
        f"in {layout.title}"
    )


def _width_and_places(
    tensors: Mapping[str, Tensor], layout: Layout, prefix: str
) -> tuple[int, int]:
    """Returns channels of a token and patches of the stored grid; zeros of what has neither."""
    shape = tuple(tensors[f"{prefix}pos_embed"].shape) if f"{prefix}pos_embed" in tensors else ()
    match layout.family:
        case "dinov2":  # 1, class token and patches, channels
            return (shape[2], shape[1] - 1) if len(shape) == 3 else (0, 0)
        case "beit":  # all differences between rows and columns of two patches, and three more
            token, table = tensors.get("cls_token"), tensors[BEIT_TABLE]
            side = (math.isqrt(max(table.shape[:1].numel() - 3, 0)) + 1) // 2
            return (0 if token is None else token.shape[-1:].numel()), side * side
        case "sam":  # 1, rows, columns, channels
            return (shape[3], shape[1] * shape[2]) if len(shape) == 4 else (0, 0)
        case _:
            assert_never(layout.family)


def _max_depth(path: Path) -> float | None:
    for part, metres in PUBLISHED_MAX_DEPTH_M.items():
        if part in path.name:
            return metres
    return None


def _version(path: Path) -> Version:
    # Published as depth_anything_vits14.pth, and depth_anything_v2_vits.pth.
    return 1 if re.match(r"depth_anything_vit[sbl]14", path.name) else 2


def _own_weights(config: ModelConfig, layout: Layout) -> dict[str, Tensor]:
    """Returns the weights that a file of this layout decides, without their values."""
    with torch.device("meta"):
        model = DepthAnything(config)
    return {
        name: value
        for name, value in model.state_dict().items()
        if layout.with_head or name.startswith(ENCODER)
    }


def _translated(
    tensors: Mapping[str, Tensor], config: ModelConfig, layout: Layout, path: Path
) -> dict[str, Tensor]:
    own, names_of = _own_weights(config, layout), for_size(layout, config.encoder).names_of
    expected: dict[str, tuple[int, ...]] = {}
    for name, value in own.items():
        theirs = names_of(name)
        for part in theirs:
            expected[part] = (value.shape[0] // len(theirs), *value.shape[1:])
    found = {
        name: tuple(value.shape)
        for name, value in tensors.items()
        if not re.fullmatch(layout.left_over, name)
    }
    check_fit(path, found, expected)
    weights = {}
    for name, value in own.items():
        parts = [tensors[part] for part in names_of(name)]
        joined = torch.cat(parts) if parts else torch.zeros(value.shape)
        # Copies, because tensors that share memory with the file would change or vanish with it.
        weights[name] = joined.to(torch.float32, copy=True)
    return weights


def _foreign(model: DepthAnything, layout: Layout) -> dict[str, Tensor]:
    names_of = for_size(layout, model.config.encoder).names_of
    foreign: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        theirs = names_of(name)
        parts = value.detach().to("cpu", torch.float32).chunk(len(theirs)) if theirs else ()
        foreign |= {part: tensor.clone() for part, tensor in zip(theirs, parts, strict=True)}
    return foreign
