"""Writes a model in another format: `python -m dav2.models.export --help`.

What was written is read again and compared with the source before it appears: weights bit for bit;
of a format that runs without our code the depth, at several sizes.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, assert_never, get_args

from dav2.data.files import written_whole

if TYPE_CHECKING:
    from dav2.models.depth_anything import DepthAnything

Format = Literal["safetensors", "upstream", "transformers", "onnx", "pt2"]

_ELSEWHERE_PX = (140, 196)
"""Height and width at which the difference in resized positions is shown."""

logger = logging.getLogger(__name__)


def export(model: "DepthAnything", out: Path, kind: Format) -> None:
    """Writes a model, whole or not at all.

    Args:
        model: What to write, on the CPU.
        out: A file; for Transformers a folder. An existing one is replaced.
        kind: `safetensors`: ours. `upstream`: a `.pth` for the authors' code. `transformers`: a
            folder for `pipeline("depth-estimation")`. `onnx`: a `.onnx`, or a folder with the
            weights beside it. `pt2`: a program of `torch.export`.

    Raises:
        ValueError: If the format cannot hold the model.
        RuntimeError: If what was written reads back as another model or computes another depth;
            then nothing is left. Or if a library is missing.
    """
    from dav2.models.checkpoints import save
    from dav2.models.exported import check_depth, write_onnx, write_program
    from dav2.models.interchange import write_transformers, write_upstream

    with written_whole(out) as part:
        match kind:
            case "safetensors":
                save(model, part, {})
                _check_equal(model, part, out)
            case "upstream":
                write_upstream(model, part)
                _check_equal(model, part, out)
            case "transformers":
                write_transformers(model, part)
                _check_equal(model, part, out)
            case "onnx":
                check_depth(model, write_onnx(model, part, name=str(out)), name=str(out))
            case "pt2":
                check_depth(model, write_program(model, part, name=str(out)), name=str(out))
            case _:
                assert_never(kind)


def transformers_difference(model: "DepthAnything") -> float:
    """Returns how far Transformers' depth is from ours where positions are resized.

    Its code leaves out DINOv2's offset (`dav2.models.encoder`). Measured on one image of noise of
    140 x 196 pixels, as a share of the range of the depth.
    """
    import torch

    images = torch.randn(1, 3, *_ELSEWHERE_PX, generator=torch.Generator().manual_seed(0))
    offset = model.encoder.position_offset
    try:
        with torch.no_grad():
            ours = model(images)
            model.encoder.position_offset = 0.0
            theirs = model(images)
    finally:
        model.encoder.position_offset = offset
    extent = float(ours.max() - ours.min())
    return float((ours - theirs).abs().max()) / extent if extent else 0.0


def main(arguments: Sequence[str]) -> None:
    """Exports as the command line says.

    Raises:
        SystemExit: With one line, if the source cannot be read or written so.
    """
    options = _parser().parse_args(arguments)
    from dav2.models.checkpoints import load

    try:
        model, _ = load(options.weights, max_depth_m=options.max_depth_m, version=options.version)
        export(model, options.out, options.format)
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"export: {error}") from None
    kind = "relative" if model.config.max_depth_m is None else f"{model.config.max_depth_m:g} m"
    runs = options.format in ("onnx", "pt2")
    checked = "computes the model's depth but for rounding" if runs else "reads back equal"
    logger.info("%s: %s, %s, %s", options.out, model.config.encoder, kind, checked)
    if options.format == "transformers":
        px = model.encoder.config.native_px
        logger.info(
            "Transformers resizes position embeddings otherwise: as ours at %d x %d, at %d x %d "
            "other by up to %.2g of the depth's range",
            px,
            px,
            *_ELSEWHERE_PX,
            transformers_difference(model),
        )


def _check_equal(model: "DepthAnything", part: Path, out: Path) -> None:
    import torch

    from dav2.models.checkpoints import load

    # What the authors' layout leaves open is told; the others say it themselves.
    config = model.config
    again, _ = load(part, max_depth_m=config.max_depth_m, version=config.version)
    weights, written = model.state_dict(), again.state_dict()
    differing = [name for name in weights if not torch.equal(weights[name], written[name])]
    if model.config != again.config or differing:
        raise RuntimeError(
            f"{out}: expected to read back {model.config}, got {again.config} "
            f"with {len(differing)} other weights {differing[:3]}"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dav2.models.export", description="Writes a model in another format."
    )
    parser.add_argument(
        "--weights",
        type=Path,
        required=True,
        help="our .safetensors, the authors' .pth, or a folder of Transformers",
    )
    parser.add_argument("--format", choices=get_args(Format), required=True)
    parser.add_argument(
        "--out", type=Path, required=True, help="file, or folder for transformers and large onnx"
    )
    parser.add_argument(
        "--max-depth-m",
        type=float,
        help="of an authors' .pth with a metric head and another name than it was published under",
    )
    parser.add_argument(
        "--version", type=int, choices=(1, 2), help="of Depth Anything, for an authors' .pth"
    )
    return parser


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for library in ("onnx_ir", "onnxscript"):  # one line for each node that they simplify
        logging.getLogger(library).setLevel(logging.WARNING)
    main(sys.argv[1:])
