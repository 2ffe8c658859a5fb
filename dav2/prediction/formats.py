"""Files that one prediction becomes, each written whole or not at all.

Axes: H height, W width (pixels).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any, assert_never

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from dav2.data.files import written_whole
from dav2.labeling.codec import encode_label
from dav2.prediction.colours import colour_map, to_8_bits, to_closeness
from dav2.prediction.options import Format
from dav2.prediction.points import FARTHEST, Focal, encode_ply, relative_to_depth


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """An image with its map."""

    image: UInt8[np.ndarray, "H W 3"]
    values: Float32[np.ndarray, "H W"]
    """Metres, or relative depth; finite."""
    is_metric: bool
    focal: Focal
    """Of the camera, for points."""


def check_libraries(formats: Sequence[Format], *, with_video: bool) -> None:
    """Raises `ValueError` with what to install, if a library is missing that these need."""
    if "exr" in formats:
        _require("OpenEXR", "openexr", why="--format exr")
    if with_video:
        _require("av", "av", why="videos")


def ending(kind: Format) -> str:
    """Returns what follows the name of an image in the name of a file."""
    match kind:
        case "png16":
            return "_depth.png"
        case "npy":
            return "_depth.npy"
        case "exr":
            return "_depth.exr"
        case "color":
            return "_colour.png"
        case "controlnet":
            return "_controlnet.png"
        case "ply":
            return "_points.ply"
        case _:
            assert_never(kind)


def write(prediction: Prediction, output: Path, formats: Sequence[Format]) -> dict[str, Any]:
    """Writes a prediction in each format.

    Args:
        prediction: What to write.
        output: Path of the files, less their endings.
        formats: Which.

    Returns:
        Its entry in predictions.json: kind of values, minimum and maximum (which `png16` needs to
        be read), formats, and the focal length where points were written.

    Raises:
        ValueError: A value is not finite; nothing is written then.
    """
    values = prediction.values
    num_bad = int(np.count_nonzero(~np.isfinite(values)))
    if num_bad:
        raise ValueError(
            f"expected finite values of the model, got {num_bad} of {values.size} that are not"
        )
    for kind in formats:
        with written_whole(output.with_name(output.name + ending(kind))) as written:
            _write_one(prediction, written, kind)
    entry: dict[str, Any] = {
        "values": "depth in metres" if prediction.is_metric else "relative depth",
        "minimum": float(values.min()),
        "maximum": float(values.max()),
        "formats": sorted(formats),
    }
    if "ply" in formats:
        entry["focal_px"] = prediction.focal.length_px
        entry["focal_source"] = prediction.focal.source
    return entry


def _write_one(prediction: Prediction, path: Path, kind: Format) -> None:
    values, is_metric = prediction.values, prediction.is_metric
    match kind:
        case "png16":
            path.write_bytes(encode_label(values).data)
        case "npy":
            np.save(path, values)
        case "exr":
            _write_exr(values, path, is_metric=is_metric)
        case "color":
            path.write_bytes(_png(colour_map(to_closeness(values, is_metric=is_metric))))
        case "controlnet":
            grey = to_8_bits(to_closeness(values, is_metric=is_metric))
            path.write_bytes(_png(np.repeat(grey[..., None], 3, axis=2)))
        case "ply":
            path.write_bytes(_ply(prediction))
        case _:
            assert_never(kind)


def _ply(prediction: Prediction) -> bytes:
    if prediction.is_metric:
        depth, comment = prediction.values, "metres"
    else:
        depth = relative_to_depth(prediction.values)
        comment = f"scale and shift unknown: drawn from 1 (nearest) to {FARTHEST:g}"
    focal_px = prediction.focal.length_px
    return encode_ply(depth, prediction.image, focal_px=focal_px, comment=comment)


def _write_exr(values: Float32[np.ndarray, "H W"], path: Path, *, is_metric: bool) -> None:
    import OpenEXR  # type: ignore[import-not-found]  # has no stubs

    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    channel = "Z" if is_metric else "Y"
    OpenEXR.File(header, {channel: np.ascontiguousarray(values)}).write(str(path))


def _png(image: UInt8[np.ndarray, "H W 3"]) -> bytes:
    stream = BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def _require(module: str, package: str, *, why: str) -> None:
    try:
        import_module(module)
    except ImportError:
        raise ValueError(
            f"{why}: expected the package {package}, got none (pip install {package})"
        ) from None
