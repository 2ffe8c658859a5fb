"""The files beside the weights in a folder of Transformers' Depth Anything."""

import json
from pathlib import Path
from typing import Any, get_args

from dav2.data.transforms import IMAGE_DEVIATION, IMAGE_MEAN
from dav2.models.depth_anything import DepthAnything, ModelConfig
from dav2.models.dpt import head_config
from dav2.models.encoder import PATCH_PX, EncoderName, encoder_config

_PREPROCESSOR: dict[str, Any] = {
    "image_processor_type": "DPTImageProcessor",
    "do_resize": True,
    "size": {"height": 518, "width": 518},
    "keep_aspect_ratio": True,
    "ensure_multiple_of": PATCH_PX,
    "resample": 3,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": list(IMAGE_MEAN),
    "image_std": list(IMAGE_DEVIATION),
    "do_pad": False,
}


def read_config(folder: Path) -> ModelConfig:
    """Returns the architecture of a model that Transformers, or `folder_files`, described.

    Raises:
        FileNotFoundError: If the folder holds no `config.json`.
        ValueError: If it describes another kind of model, or one of other sizes.
    """
    described = folder / "config.json"
    try:
        fields: dict[str, Any] = json.loads(described.read_text(encoding="utf-8"))
        if fields["model_type"] != "depth_anything":
            raise ValueError(f"model_type {fields['model_type']!r}")
        backbone = fields["backbone_config"]
        sizes = (backbone["hidden_size"], backbone.get("num_hidden_layers", 12))
        layers = tuple(int(index) - 1 for index in backbone["out_indices"])
        metric = fields.get("depth_estimation_type", "relative") == "metric"
        max_depth_m = float(fields["max_depth"]) if metric else None
    except FileNotFoundError:
        raise FileNotFoundError(f"{described}: expected the configuration, got no file") from None
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{described}: expected the configuration of a Depth Anything model of Transformers, "
            f"got {type(error).__name__}: {error}"
        ) from None
    return _config_of(sizes, layers, max_depth_m, described)


def folder_files(model: DepthAnything) -> dict[str, dict[str, Any]]:
    """Returns the JSON files of a model's folder, by name; the weights go beside them.

    Raises:
        ValueError: If Transformers cannot express the model: BEiT, SAM, registers, or a metric
            head whose range is no whole number of metres.
    """
    encoder, head = model.encoder.config, head_config(model.config.encoder)
    max_depth_m = model.config.max_depth_m
    is_theirs = encoder.family == "dinov2" and not encoder.num_registers
    if not is_theirs or (max_depth_m is not None and max_depth_m != int(max_depth_m)):
        raise ValueError(
            "Transformers: expected an encoder of DINOv2's kind without registers and a range "
            f"of whole metres, got {model.config.encoder} and {max_depth_m} m"
        )
    config = {
        "architectures": ["DepthAnythingForDepthEstimation"],
        "model_type": "depth_anything",
        "backbone_config": {
            "model_type": "dinov2",
            "architectures": ["Dinov2Model"],
            "image_size": encoder.native_px,
            "patch_size": PATCH_PX,
            "hidden_size": encoder.width,
            "num_hidden_layers": encoder.depth,
            "num_attention_heads": encoder.num_heads,
            "mlp_ratio": 4,
            "use_swiglu_ffn": encoder.swiglu,
            "out_indices": [index + 1 for index in encoder.layers],
            "apply_layernorm": True,
            "reshape_hidden_states": False,
        },
        "patch_size": PATCH_PX,
        "reassemble_hidden_size": encoder.width,
        "reassemble_factors": [4, 2, 1, 0.5],
        "neck_hidden_sizes": list(head.out_channels),
        "fusion_hidden_size": head.features,
        "head_in_index": -1,
        "head_hidden_size": head.hidden_channels,
        "depth_estimation_type": "relative" if max_depth_m is None else "metric",
        "max_depth": 1 if max_depth_m is None else int(max_depth_m),
        "dtype": "float32",
    }
    return {"config.json": config, "preprocessor_config.json": _PREPROCESSOR}


def _config_of(
    sizes: tuple[int, int], layers: tuple[int, ...], max_depth_m: float | None, path: Path
) -> ModelConfig:
    for name in get_args(EncoderName):
        for version in (2, 1):  # where both fit, they read the same blocks
            config = encoder_config(name, version=version)
            if config.num_registers or config.family != "dinov2":
                continue
            if (config.width, config.depth) == sizes and config.layers == layers:
                return ModelConfig(name, max_depth_m, version)
    raise ValueError(
        f"{path}: expected the sizes and layers of one of {', '.join(get_args(EncoderName))}, "
        f"got {sizes[0]} channels, {sizes[1]} blocks, layers {list(layers)}"
    )
