"""Checkpoints: a model's weights and what is known of them, in one safetensors file.

The file carries one metadata key holding sorted JSON: with several keys safetensors writes them in
random order, and two equal models would not be equal files.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dav2.data.files import written_whole
from dav2.models.depth_anything import DepthAnything, ModelConfig
from dav2.models.encoder import EncoderName

_KEY = "dav2"
_HEAD = "head."
_SHOWN = 3


def save(model: DepthAnything, path: Path, metadata: Mapping[str, Any]) -> None:
    """Writes a model to one safetensors file, whole.

    The same weights and metadata give the same bytes. Weights are written as float32.

    Args:
        model: The model; its architecture is recorded beside the weights.
        path: File to write. An existing one is replaced.
        metadata: What else to remember (domain, fingerprint, input size...), JSON-able.

    Raises:
        ValueError: `metadata` is not JSON-able, or holds NaN.
    """
    described = {
        "model": {
            "encoder": model.config.encoder,
            "head": "relative" if model.config.max_depth_m is None else "metric",
            "max_depth_m": model.config.max_depth_m,
        },
        "metadata": dict(metadata),
    }
    try:
        text = json.dumps(described, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected JSON-able metadata, got {error}") from None
    weights = {
        name: tensor.detach().to("cpu", torch.float32).contiguous()
        for name, tensor in model.state_dict().items()
    }
    with written_whole(path) as written:
        save_file(weights, written, metadata={_KEY: text})


def load(path: Path) -> tuple[DepthAnything, dict[str, Any]]:
    """Reads a model that `save` wrote, on the CPU, in evaluation mode.

    The header is compared with the model before any weight is read. Draws no random number.

    Returns:
        The model, and the metadata given to `save`.

    Raises:
        FileNotFoundError: No file at `path`.
        ValueError: Not a checkpoint of ours, truncated, or its weights do not fit its model; one
            line that says what is missing and what is left over.
    """
    config, metadata = _describe(path)
    with torch.device("meta"):
        model = DepthAnything(config)
    _check_fit(path, model.state_dict())
    # Copies, because tensors that share memory with the file would change or vanish with it.
    weights = {name: tensor.clone() for name, tensor in _tensors(path).items()}
    model.load_state_dict(weights, assign=True)
    model.head.to(memory_format=torch.channels_last)
    return model.eval(), metadata


def load_encoder_weights(model: DepthAnything, path: Path, *, with_head: bool = False) -> None:
    """Starts a model from another's weights.

    A metric model starts from a student's encoder; its head starts anew unless `with_head`, as in
    the authors' code.

    Args:
        model: Changed in place.
        path: Checkpoint that `save` wrote, of the same encoder, relative or metric.
        with_head: Takes the head's weights too.

    Raises:
        FileNotFoundError: No file at `path`.
        ValueError: As `load`, or the weights belong to another encoder.
    """
    _describe(path)
    wanted = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if with_head or not name.startswith(_HEAD)
    }
    _check_fit(path, wanted, ignored=None if with_head else _HEAD)
    weights = _tensors(path)
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(weights[name])


def _describe(path: Path) -> tuple[ModelConfig, dict[str, Any]]:
    """Returns architecture and metadata from the header."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a checkpoint, got no file")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
    except SafetensorError as error:
        raise ValueError(f"{path}: expected a whole safetensors file, got {error}") from None
    if text is None:
        raise ValueError(f"{path}: expected a checkpoint with metadata key {_KEY!r}, got none")
    try:
        described = json.loads(text)
        fields, metadata = described["model"], dict(described["metadata"])
        encoder, head, max_depth_m = (fields[name] for name in ("encoder", "head", "max_depth_m"))
        if encoder not in get_args(EncoderName):
            raise ValueError(f"encoder {encoder!r}")
        if head != ("relative" if max_depth_m is None else "metric"):
            raise ValueError(f"head {head!r} with max_depth_m {max_depth_m!r}")
        return ModelConfig(encoder, None if max_depth_m is None else float(max_depth_m)), metadata
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: expected metadata of a dav2 model, got {type(error).__name__}: {error}"
        ) from None


def _check_fit(path: Path, wanted: Mapping[str, Tensor], *, ignored: str | None = None) -> None:
    """Compares names, shapes and dtypes of a file with a model's, without reading weights.

    Names that start with `ignored` do not count.
    """
    with safe_open(path, framework="pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        found = {
            name: (list(entry.get_shape()), entry.get_dtype())
            for name, entry in slices.items()
            if ignored is None or not name.startswith(ignored)
        }
    expected = {name: (list(tensor.shape), "F32") for name, tensor in wanted.items()}
    missing, left_over = expected.keys() - found.keys(), found.keys() - expected.keys()
    different = [
        f"{name} {found[name]} for {expected[name]}"
        for name in expected.keys() & found.keys()
        if found[name] != expected[name]
    ]
    if missing or left_over or different:
        raise ValueError(
            f"{path}: expected the {len(expected)} weights of the model, got {len(found)}: "
            f"missing {_shown(missing)}, left over {_shown(left_over)}, "
            f"of another shape or type {_shown(different)}"
        )


def _shown(names: Iterable[str]) -> str:
    ordered = sorted(names)
    listed = ordered[:_SHOWN] + (["..."] if len(ordered) > _SHOWN else [])
    return f"{len(ordered)} ({', '.join(listed)})" if ordered else "none"


def _tensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
