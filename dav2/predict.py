"""Depth of photographs: `predict` from Python, `python -m dav2.predict` from the command line.

torch and numpy are imported where they are used, so that `--help` answers at once.

Axes: H height, W width (pixels).
"""

import argparse
import logging
import sys
from collections import defaultdict
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch
    from jaxtyping import Float32, UInt8

    from dav2.models.depth_anything import DepthAnything

_log = logging.getLogger(__name__)

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
# Matplotlib's inferno (CC0) at 33 even steps: perceptually uniform, dark to bright.
_COLOURS = """
000004 040312 0b0724 150b37 210c4a 2f0a5b 3d0965 4a0c6b 57106e 64156e 71196e 7d1e6d 8a226a 972766
a32c61 b0315b bc3754 c73e4c d24644 db503b e45a31 eb6628 f1731d f68013 f98e09 fb9d07 fcac11 fbbc21
f9cb35 f5db4c f2ea69 f3f68a fcffa4
"""


def predict(
    model: "DepthAnything",
    images: "Sequence[UInt8[np.ndarray, '_H _W 3']]",
    *,
    short_side_px: int,
    batch_size: int = 8,
    dtype: "torch.dtype | None" = None,
) -> "list[Float32[np.ndarray, '_H _W']]":
    """Predicts a depth map for each image, on the model's device.

    Images are resized so that the short side is `short_side_px` and both are multiples of 14; those
    of one size go through the model together; maps come back at the images' own resolution,
    bilinear with aligned corners as in the authors' code.

    Args:
        model: Left in the mode (training or evaluation) it came in.
        images: Upright RGB of any sizes.
        short_side_px: Size at which the model sees an image.
        batch_size: Most images at once.
        dtype: Precision for autocast (`torch.bfloat16`); None computes as the weights are.

    Returns:
        Maps in the order of `images`: relative depth (higher is closer, no unit) or metres,
        according to the model.

    Raises:
        ValueError: `batch_size` is below 1.
    """
    from dav2.data.transforms import prepare_size

    if batch_size < 1:
        raise ValueError(f"predict: expected batch_size >= 1, got {batch_size}")
    by_size = defaultdict(list)
    for index, image in enumerate(images):
        height, width = image.shape[:2]
        by_size[prepare_size(height, width, short_side_px=short_side_px)].append(index)
    maps: dict[int, Float32[np.ndarray, "_H _W"]] = {}
    was_training = model.training
    model.eval()
    try:
        for size, indices in by_size.items():
            for start in range(0, len(indices), batch_size):
                batch = indices[start : start + batch_size]
                found = _predict_batch(model, [images[index] for index in batch], size, dtype)
                maps.update(zip(batch, found, strict=True))
    finally:
        model.train(was_training)
    return [maps[index] for index in range(len(images))]


def colour_map(relative_depth: "Float32[np.ndarray, 'H W']") -> "UInt8[np.ndarray, 'H W 3']":
    """Paints a map from dark (its lowest value: far) to bright (its highest: close).

    Args:
        relative_depth: Finite; a constant map comes out dark.
    """
    import numpy as np

    low, high = float(relative_depth.min()), float(relative_depth.max())
    scaled = (relative_depth - low) / (high - low if high > low else 1.0)
    anchors = np.array([list(bytes.fromhex(colour)) for colour in _COLOURS.split()], np.float64)
    steps = np.linspace(0, 1, len(anchors))
    table = np.stack([np.interp(np.linspace(0, 1, 256), steps, column) for column in anchors.T], 1)
    coloured: np.ndarray = np.rint(table).astype(np.uint8)[np.rint(scaled * 255).astype(np.uint8)]
    return coloured


def main(arguments: Sequence[str]) -> int:
    """Predicts the images named on the command line; returns the exit status.

    Returns:
        0; 1 if an image could not be read (the others are done); 2 if nothing could be done.
    """
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        outputs = _outputs(options.paths, options.out)
        return _run(outputs, options)
    except (ValueError, OSError) as error:
        _log.error("%s", error)
        return 2


def _predict_batch(
    model: "DepthAnything",
    images: "Sequence[UInt8[np.ndarray, '_H _W 3']]",
    size: tuple[int, int],
    dtype: "torch.dtype | None",
) -> "list[Float32[np.ndarray, '_H _W']]":
    import numpy as np
    import torch
    import torch.nn.functional as F

    from dav2.data.transforms import normalise, resize_image

    weights = next(model.parameters())
    resized = np.stack([resize_image(image, size) for image in images])
    with torch.inference_mode():
        inputs = normalise(torch.from_numpy(resized).to(weights.device)).to(weights.dtype)
        with torch.autocast(weights.device.type, dtype, enabled=dtype is not None):
            maps = model(inputs)[:, None, None]
        own = [
            F.interpolate(depth, size=image.shape[:2], mode="bilinear", align_corners=True)
            for depth, image in zip(maps, images, strict=True)
        ]
        return [depth[0, 0].cpu().numpy() for depth in own]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dav2.predict",
        description="Predict depth: per image a 16-bit PNG (its range stands in predictions.json) "
        "and a coloured one, bright is close.",
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="image or folder")
    parser.add_argument("--weights", required=True, type=Path, help="checkpoint (.safetensors)")
    parser.add_argument("--out", required=True, type=Path, help="folder to write to")
    parser.add_argument(
        "--input-size",
        type=_positive,
        metavar="PX",
        help="short side at which the model sees an image (default: as the weights say)",
    )
    parser.add_argument(
        "--batch-size", type=_positive, default=4, metavar="N", help="images at once (default: 4)"
    )
    parser.add_argument(
        "--device", default="cpu", choices=("cpu", "cuda", "mps"), help="default: cpu"
    )
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16: faster, coarser")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text}")
    return int(text)


def _outputs(paths: Sequence[Path], out: Path) -> dict[Path, Path]:
    """Names each image's output, less its ending; a folder's own folders are kept."""
    outputs: dict[Path, Path] = {}
    for path in paths:
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in _SUFFIXES)
            if not found:
                raise ValueError(f"{path}: expected images ({' '.join(_SUFFIXES)}), got none")
            outputs |= {image: out / image.relative_to(path).with_suffix("") for image in found}
        else:
            outputs[path] = out / path.stem
    sources: dict[Path, Path] = {}
    for image, output in outputs.items():
        if output in sources:
            raise ValueError(f"{image}: expected another name, got that of {sources[output]}")
        sources[output] = image
    return outputs


def _run(outputs: dict[Path, Path], options: argparse.Namespace) -> int:
    import torch
    from tqdm import tqdm

    from dav2.data.files import write_json
    from dav2.models.checkpoints import load
    from dav2.models.device import chosen_device

    device = chosen_device(options.device, where="--device")
    model, metadata = load(options.weights)
    model.to(device)
    _check_writable(options.out)
    short_side_px = options.input_size or metadata.get(
        "short_side_px", model.encoder.config.native_px
    )
    ranges: dict[str, dict[str, float | str]] = {}
    todo = list(outputs)
    failed = 0
    with tqdm(total=len(todo), unit="image", disable=None) as progress:
        for start in range(0, len(todo), options.batch_size):
            names = todo[start : start + options.batch_size]
            images = {name: image for name in names if (image := _read(name)) is not None}
            failed += len(names) - len(images)
            maps = predict(
                model,
                list(images.values()),
                short_side_px=short_side_px,
                batch_size=options.batch_size,
                dtype=torch.bfloat16 if options.bf16 else None,
            )
            for name, depth in zip(images, maps, strict=True):
                label = outputs[name].relative_to(options.out).as_posix()
                ranges[label] = _write(depth, outputs[name], model.config.max_depth_m is not None)
            progress.update(len(names))
    write_json(ranges, options.out / "predictions.json")
    if failed:
        _log.error("%d of %d images could not be read", failed, len(todo))
    return 1 if failed else 0


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"{folder}: expected a folder to write to, got {error.strerror}") from None


def _read(path: Path) -> "UInt8[np.ndarray, 'H W 3'] | None":
    from dav2.data.images import decode_image

    try:
        return decode_image(path)
    except (ValueError, OSError) as error:
        _log.error("%s", error)
        return None


def _write(
    depth: "Float32[np.ndarray, 'H W']", output: Path, metric: bool
) -> dict[str, float | str]:
    import numpy as np
    from PIL import Image

    from dav2.data.files import written_whole
    from dav2.labeling.codec import encode_label

    encoded = encode_label(depth)
    closeness = 1 / np.maximum(depth, np.float32(1e-3)) if metric else depth
    coloured = BytesIO()
    Image.fromarray(colour_map(closeness)).save(coloured, "PNG")
    for ending, data in (("depth", encoded.data), ("colour", coloured.getvalue())):
        with written_whole(output.with_name(f"{output.name}_{ending}.png")) as written:
            written.write_bytes(data)
    kind = "depth in metres" if metric else "relative depth"
    return {"minimum": encoded.minimum, "maximum": encoded.maximum, "values": kind}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
