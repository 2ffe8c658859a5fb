"""Writes a model in another format: `python -m dav2.models.export --help`.

What was written is read again and compared with the source, bit for bit, before it appears.
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

Format = Literal["safetensors", "upstream", "transformers"]

_ELSEWHERE_PX = (140, 196)
"""Height and width at which the difference in resized positions is shown."""

logger = logging.getLogger(__name__)


def export(model: "DepthAnything", out: Path, kind: Format) -> None:
    """Writes a model, whole or not at all.

    Args:
        model: What to write, on the CPU.
        out: A file; for Transformers a folder. An existing one is replaced.
        kind: `safetensors`: ours. `upstream`: a `.pth` for the authors' code. `transformers`: a
            folder for `pipeline("depth-estimation")`.

    Raises:
        ValueError: If the format cannot hold the model.
        RuntimeError: If what was written reads back as another model; then nothing is left.
    """
    from dav2.models.checkpoints import load, save
    from dav2.models.interchange import write_transformers, write_upstream

    with written_whole(out) as part:
        match kind:
            case "safetensors":
                save(model, part, {})
            case "upstream":
                write_upstream(model, part)
            case "transformers":
                write_transformers(model, part)
            case _:
                assert_never(kind)
        # What the authors' layout leaves open is told; the others say it themselves.
        config = model.config
        again, _ = load(part, max_depth_m=config.max_depth_m, version=config.version)
        _check_equal(model, again, out)


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
    logger.info("%s: %s, %s, reads back equal", options.out, model.config.encoder, kind)
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


def _check_equal(model: "DepthAnything", again: "DepthAnything", out: Path) -> None:
    import torch

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
    parser.add_argument("--out", type=Path, required=True, help="file, or folder for transformers")
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
    main(sys.argv[1:])
