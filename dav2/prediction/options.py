"""The options of `python -m dav2.predict`, without heavy imports: `--help` answers at once."""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from dav2.prediction.sources import IMAGE_SUFFIXES, VIDEO_SUFFIXES

Format = Literal["png16", "npy", "exr", "color", "controlnet", "ply"]
Precision = Literal["auto", "float32", "bfloat16"]
Preparation = Literal["authors", "antialiased"]  # of dav2.data.preparation, which is slow to import

_FORMATS = """formats:
  png16       16 bits, linear from the map's minimum to its maximum (predictions.json)
  npy         float32 H x W
  exr         OpenEXR, float32, channel Z in metres or Y of relative depth
  color       coloured, close is bright; of a video an .mp4
  controlnet  8 bits, three channels, inverse depth, close is white
  ply         point cloud with colours

Values are metres or relative depth (higher is closer) as the weights say. docs/predict.md explains
each format, tiles, video, focal length and the Python API."""


@dataclass(frozen=True, slots=True)
class Options:
    """The command line, checked."""

    paths: tuple[str, ...]
    weights: Path
    out: Path
    formats: tuple[Format, ...]
    input_size: int | None
    """Short side at which the model sees an image, pixels; None: as the weights say."""
    preparation: Preparation | None
    """How images are resized; None: as the model was trained."""
    tile: bool
    batch_size: int
    device: str
    precision: Precision
    max_depth_m: float | None
    version: Literal[1, 2] | None
    focal_px: float | None


def parse(arguments: Sequence[str]) -> Options:
    """Returns the options of a command line.

    Raises:
        SystemExit: As argparse does: for `--help`, or with one line on what is wrong.
    """
    given = _parser().parse_args(arguments)
    return Options(
        paths=tuple(given.paths),
        weights=given.weights,
        out=given.out,
        formats=given.format,
        input_size=given.input_size,
        preparation=given.preparation,
        tile=given.tile,
        batch_size=given.batch_size,
        device=given.device,
        precision=given.precision,
        max_depth_m=given.max_depth_m,
        version=given.version,
        focal_px=given.focal_px,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dav2.predict",
        description="Predict the depth of photographs and videos, at their own resolution.",
        epilog=_FORMATS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    known = " ".join(IMAGE_SUFFIXES + VIDEO_SUFFIXES)
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help=f"image, video, folder (searched to the bottom), or a pattern in quotes ({known})",
    )
    parser.add_argument(
        "--weights",
        required=True,
        type=Path,
        help="our .safetensors, the authors' .pth, or a folder of Transformers",
    )
    parser.add_argument("--out", required=True, type=Path, help="folder to write to")
    parser.add_argument(
        "--format",
        type=_formats,
        default="png16,color",
        metavar="F[,F...]",
        help="of the formats below, separated by commas (default: png16,color)",
    )
    parser.add_argument(
        "--input-size",
        type=_positive,
        metavar="PX",
        help="short side at which the model sees an image (default: as the weights say); 2 or 4 "
        "times as much draws finer edges: 1036 or 2072 for the released weights",
    )
    parser.add_argument(
        "--preparation",
        choices=get_args(Preparation),
        help="how images are resized: as the authors' code does, or antialiased as we train "
        "(default: as the model was trained)",
    )
    parser.add_argument(
        "--tile",
        action="store_true",
        help="for images far larger than that: whole, then in overlapping tiles at full resolution",
    )
    parser.add_argument(
        "--focal-px",
        type=_positive_number,
        metavar="PX",
        help="focal length for ply, in pixels of the original image (default: EXIF, else assumed)",
    )
    _add_model_options(parser)
    return parser


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--batch-size", type=_positive, default=4, metavar="N", help="images at once (default: 4)"
    )
    parser.add_argument(
        "--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="default: auto"
    )
    parser.add_argument(
        "--precision",
        default="auto",
        choices=get_args(Precision),
        help="default: auto, the fastest that is safe on the device",
    )
    parser.add_argument(
        "--max-depth-m",
        type=_positive_number,
        metavar="M",
        help="of an authors' .pth with a metric head and another name than it was published under",
    )
    parser.add_argument(
        "--version", type=int, choices=(1, 2), help="of Depth Anything, for an authors' .pth"
    )


def _formats(text: str) -> tuple[Format, ...]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in get_args(Format):
            raise argparse.ArgumentTypeError(
                f"expected formats of {', '.join(get_args(Format))}, got {name!r}"
            )
    return cast("tuple[Format, ...]", tuple(dict.fromkeys(names)))


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text}")
    return int(text)


def _positive_number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return number
