"""Checkpoints: a model's weights and what is known of them, in one safetensors file.

`load` also reads what others wrote (`dav2.models.interchange`).

The file carries one metadata key holding sorted JSON: with several keys safetensors writes them in
random order, and two equal models would not be equal files.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dav2.data.files import written_whole
from dav2.models.depth_anything import DepthAnything, ModelConfig
from dav2.models.encoder import Encoder, EncoderName, Version
from dav2.models.interchange import ForeignWeights, check_fit, is_pickle, read_foreign
from dav2.models.layouts import HEAD

_KEY = "dav2"
_NO_HEAD = "none"


def save(model: DepthAnything, path: Path, metadata: Mapping[str, Any]) -> None:
    """Writes a model to one safetensors file, whole.

    The same weights and metadata give the same bytes. Weights are written as float32.

    Args:
        model: The model; its architecture is recorded beside the weights.
        path: File to write. An existing one is replaced.
        metadata: What else to remember (domain, fingerprint, input size...), JSON-able.

    Raises:
        ValueError: `metadata` is not JSON-able, or holds NaN.
        OSError: If it cannot be written, as on a full disk; what was there stays.
    """
    head = "relative" if model.config.max_depth_m is None else "metric"
    described = {
        "encoder": model.config.encoder,
        "head": head,
        "max_depth_m": model.config.max_depth_m,
        "version": model.config.version,
    }
    _write(model.state_dict(), path, {"model": described, "metadata": dict(metadata)})


def save_encoder(
    encoder: Encoder, path: Path, *, name: EncoderName, metadata: Mapping[str, Any]
) -> None:
    """Writes an encoder alone, for `load_encoder_weights`; else as `save`.

    Args:
        encoder: The encoder.
        path: File to write. An existing one is replaced.
        name: Its size, recorded beside the weights.
        metadata: As `save`.

    Raises:
        ValueError: As `save`.
    """
    described = {"encoder": name, "head": _NO_HEAD, "max_depth_m": None, "version": 2}
    weights = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    _write(weights, path, {"model": described, "metadata": dict(metadata)})


def _write(weights: Mapping[str, Tensor], path: Path, described: Mapping[str, Any]) -> None:
    try:
        text = json.dumps(described, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected JSON-able metadata, got {error}") from None
    kept = {
        name: tensor.detach().to("cpu", torch.float32).contiguous()
        for name, tensor in weights.items()
    }
    with written_whole(path) as written:
        try:
            save_file(kept, written, metadata={_KEY: text})
        except SafetensorError as error:
            raise OSError(
                f"{path}: expected to write weights, got {error} (is the disk full?)"
            ) from None


def load(
    path: Path, *, max_depth_m: float | None = None, version: Version | None = None
) -> tuple[DepthAnything, dict[str, Any]]:
    """Reads a model, on the CPU, in evaluation mode; draws no random number.

    The names and shapes of the weights are compared with the model's before it is filled.

    Args:
        path: What `save` wrote, a `.pth` of the authors, or a folder of Transformers.
        max_depth_m: Of a `.pth` with a metric head (`dav2.models.interchange.read_foreign`).
        version: Of a `.pth`, likewise.

    Returns:
        The model, and the metadata given to `save`; none of a model that others wrote.

    Raises:
        FileNotFoundError: Nothing at `path`.
        ValueError: Damaged, of no known layout, an encoder alone, or its weights do not fit its
            model; one line that says what is missing and what is left over.
    """
    if not _is_own(path):
        foreign = read_foreign(path, max_depth_m=max_depth_m, version=version)
        _check_head(path, foreign)
        return _filled(_unfilled(foreign.config), foreign.weights), {}
    config, metadata = _describe(path, with_head=True)
    model = _unfilled(config)
    _check_own_fit(path, model.state_dict())
    # Copies, because tensors that share memory with the file would change or vanish with it.
    weights = {name: tensor.clone() for name, tensor in _tensors(path).items()}
    return _filled(model, weights), metadata


def load_encoder_weights(model: DepthAnything, path: Path, *, with_head: bool = False) -> None:
    """Starts a model from another's weights.

    A metric model starts from a student's encoder; its head starts anew unless `with_head`, as in
    the authors' code.

    Args:
        model: Changed in place.
        path: As `load` reads them, or an encoder alone, of `save_encoder`, DINOv2 or timm; of the
            same encoder, relative or metric.
        with_head: Takes the head's weights too.

    Raises:
        FileNotFoundError: Nothing at `path`.
        ValueError: As `load`, or the weights belong to another encoder.
    """
    wanted = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if with_head or not name.startswith(HEAD)
    }
    if _is_own(path):
        _describe(path, with_head=with_head)
        _check_own_fit(path, wanted, ignored=None if with_head else HEAD)
        weights = _tensors(path)
    else:
        foreign = read_foreign(path)
        if with_head:
            _check_head(path, foreign)
        if foreign.config.encoder != model.config.encoder:
            raise ValueError(
                f"{path}: expected weights of {model.config.encoder}, "
                f"got those of {foreign.config.encoder}"
            )
        weights = foreign.weights
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(weights[name])


def _unfilled(config: ModelConfig) -> DepthAnything:
    with torch.device("meta"):
        return DepthAnything(config)


def _filled(model: DepthAnything, weights: dict[str, Tensor]) -> DepthAnything:
    model.load_state_dict(weights, assign=True)
    model.head.to(memory_format=torch.channels_last)
    return model.eval()


def _check_head(path: Path, foreign: ForeignWeights) -> None:
    if not foreign.layout.with_head:
        raise ValueError(
            f"{path}: expected a whole model, got an encoder alone in {foreign.layout.title}"
        )


def _is_own(path: Path) -> bool:
    """Returns whether a file is to be read as one that `save` wrote, whole or damaged."""
    if path.is_dir():
        return False
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a checkpoint, got no file")
    if is_pickle(path):
        return False
    try:
        with safe_open(path, framework="pt") as file:
            return _KEY in (file.metadata() or {})
    except SafetensorError as error:
        raise ValueError(f"{path}: expected a whole safetensors file, got {error}") from None


def _describe(path: Path, *, with_head: bool) -> tuple[ModelConfig, dict[str, Any]]:
    """Returns architecture and metadata from the header; refuses what lacks a head it must have."""
    with safe_open(path, framework="pt") as file:
        text = file.metadata()[_KEY]
    try:
        described = json.loads(text)
        fields, metadata = described["model"], dict(described["metadata"])
        encoder, head, max_depth_m = (fields[name] for name in ("encoder", "head", "max_depth_m"))
        if encoder not in get_args(EncoderName):
            raise ValueError(f"encoder {encoder!r}")
        allowed = ("relative", _NO_HEAD) if max_depth_m is None else ("metric",)
        if head not in allowed:
            raise ValueError(f"head {head!r} with max_depth_m {max_depth_m!r}")
        version = fields.get("version", 2)
        if version not in get_args(Version):
            raise ValueError(f"version {version!r}")
        max_depth_m = None if max_depth_m is None else float(max_depth_m)
        config = ModelConfig(encoder, max_depth_m, version)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: expected metadata of a dav2 model, got {type(error).__name__}: {error}"
        ) from None
    if with_head and head == _NO_HEAD:
        raise ValueError(f"{path}: expected a whole model, got an encoder alone")
    return config, metadata


def _check_own_fit(path: Path, wanted: Mapping[str, Tensor], *, ignored: str | None = None) -> None:
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
    check_fit(path, found, {name: (list(value.shape), "F32") for name, value in wanted.items()})


def _tensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
