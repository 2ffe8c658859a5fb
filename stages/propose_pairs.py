"""Proposes point pairs for a test set like DA-2K, and writes pages to answer them on.

`python -m stages.propose_pairs photos pairs --masks masks --predictions a --predictions b` asks
about objects that two models order differently; `--depth depths` about what known depth tells
apart. Images lie in `<scenario>/<file>` below the folder. Docs: docs/evaluation.md.

Axes: H height, W width (pixels).
"""

import argparse
import logging
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, UInt8

from dav2.annotation.points import mask_points, scattered_points
from dav2.annotation.proposals import Proposal, balanced_proposals, propose_pairs
from dav2.data.files import write_json, written_whole
from dav2.data.images import decode_image
from dav2.data.map_folder import read_map
from stages.program import run
from stages.review_page import write_review_pages

if TYPE_CHECKING:
    from stages.evaluated_model import EvaluatedModel

PROPOSALS = "proposals.json"
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_NUM_POINTS = 60
"""Scattered over an image without masks."""

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> None:
    """Writes `images/`, `proposals.json`, `proposed_annotations.json` and `review*.html`.

    Args:
        arguments: Of the command line.

    Raises:
        FileNotFoundError: If an image lacks its masks, its depth or a prediction.
        ValueError: If files do not fit, or too few of them are given.
    """
    options = _parse(arguments)
    _check(options)
    images = _images(options.images, options.scenario)
    models = _models(options.weights)
    candidates: dict[str, list[Proposal]] = {}
    with written_whole(options.output) as folder:
        for name, path in images.items():
            data = path.read_bytes()
            pixels = decode_image(data, where=str(path))
            candidates[name] = _candidates(name, path, pixels, options, models)
            kept = folder / name
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, kept)
        chosen = balanced_proposals(candidates, pairs_per_image=options.pairs_per_image)
        pairs = [proposal.described() for proposal in chosen]
        write_json({"pairs": pairs, "images": sorted(images)}, folder / PROPOSALS)
        write_json(_annotations(chosen), folder / "proposed_annotations.json")
        pages = write_review_pages(
            [proposal.asked() for proposal in chosen],
            sorted(images),
            folder,
            pairs_per_page=options.pairs_per_page,
            is_embedded=options.embed,
        )
    logger.info(
        "%d pairs of %d images (%d disputed or far apart enough), %d page(s): %s",
        len(chosen),
        len(images),
        sum(map(len, candidates.values())),
        len(pages),
        options.output / pages[0].name,
    )


def _candidates(
    name: str,
    path: Path,
    pixels: UInt8[np.ndarray, "H W 3"],
    options: argparse.Namespace,
    models: "Mapping[str, EvaluatedModel]",
) -> list[Proposal]:
    """Returns what can be asked about one image."""
    size = (pixels.shape[0], pixels.shape[1])
    within = path.relative_to(options.images).as_posix()
    truth: Float32[np.ndarray, "H W"] | None = None
    if options.depth is not None:
        depth = read_map(options.depth, within, size=size, values_per_unit=options.values_per_unit)
        truth = np.divide(1, depth, out=np.zeros_like(depth), where=depth > 0)
    predictions = {
        folder.name: read_map(folder, within, size=size) for folder in options.predictions
    }
    predictions |= {key: _predicted(model, pixels) for key, model in models.items()}
    if options.masks is not None:
        points = mask_points(options.masks, within, size=size, min_area=options.min_area)
    else:
        assert truth is not None  # `_check`
        rng = np.random.default_rng([options.seed, len(name), *name.encode()])
        points = scattered_points(truth, count=_NUM_POINTS, rng=rng)
    return propose_pairs(
        name,
        points,
        size=size,
        models=predictions,
        truth=truth,
        min_ratio=options.min_ratio,
        seed=options.seed,
    )


def _models(paths: Sequence[Path]) -> "dict[str, EvaluatedModel]":
    if not paths:
        return {}
    from stages.evaluated_model import load_evaluated

    return {path.stem: load_evaluated(path) for path in paths}


def _predicted(
    model: "EvaluatedModel", pixels: UInt8[np.ndarray, "H W 3"]
) -> Float32[np.ndarray, "H W"]:
    """Returns inverse depth, of a relative model up to scale."""
    from dav2.predict import predict

    (values,) = predict(
        model.network,
        [pixels],
        short_side_px=model.trained_px,
        preparation=model.preparation,
    )
    return values if model.domain is None else 1 / np.maximum(values, np.float32(1e-6))


def _images(folder: Path, scenario: str) -> dict[str, Path]:
    """Returns the images by their name in DA-2K, `images/<scenario>/<file>`."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected a folder of images, got none")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        within = path.relative_to(folder)
        if path.suffix.lower() not in _SUFFIXES or any(p.startswith(".") for p in within.parts):
            continue
        parent = "_".join(within.parts[:-1]) or scenario
        name = f"images/{parent}/{path.name}"
        if name in found:
            raise ValueError(f"{path}: expected one image {name}, got {found[name]} too")
        found[name] = path
    if not found:
        raise ValueError(f"{folder}: expected images ({', '.join(_SUFFIXES)}), got none")
    return found


def _annotations(chosen: Sequence[Proposal]) -> dict[str, list[dict[str, Any]]]:
    """Returns DA-2K's annotations as proposed; answered by nobody."""
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in chosen:
        ends = [list(entry.point1), list(entry.point2)]
        near, far = ends if entry.proposed == "point1" else ends[::-1]
        pair = {"point1": near, "point2": far, "closer_point": "point1"}
        found.setdefault(entry.image, []).append(pair)
    return found


def _check(options: argparse.Namespace) -> None:
    if options.output.exists():  # it may hold what people have answered
        raise ValueError(f"{options.output}: expected a folder that is not there yet, got one")
    names = [path.name for path in options.predictions] + [path.stem for path in options.weights]
    if len(set(names)) < len(names):
        raise ValueError(f"models: expected different names, got {', '.join(sorted(names))}")
    if options.depth is None and options.masks is None:
        raise ValueError("expected --depth, or --masks and two models, got neither")
    if options.depth is None and len(names) < 2:
        raise ValueError(f"--masks: expected two models to disagree, got {len(names)}")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stages.propose_pairs", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("images", type=Path, help="folder of <scenario>/<image>")
    parser.add_argument("output", type=Path, help="folder to write")
    parser.add_argument("--depth", type=Path, help="maps of known depth, by the images' paths")
    parser.add_argument("--values-per-unit", type=float, default=1.0, help="of those: 1000 for mm")
    parser.add_argument("--masks", type=Path, help="label images, or folders of masks (SAM's)")
    parser.add_argument("--min-area", type=float, default=0.001, help="of an object, of the image")
    for name, says in (
        ("--predictions", "maps of a model, repeatable"),
        ("--weights", "a model to run, repeatable"),
    ):
        parser.add_argument(name, type=Path, action="append", default=[], help=says)
    parser.add_argument("--min-ratio", type=float, default=3.0, help="of the depths of a pair (3)")
    parser.add_argument("--pairs-per-image", type=int, default=2, help="on average (2)")
    parser.add_argument("--pairs-per-page", type=int, default=200, help="at most (200)")
    parser.add_argument("--embed", action="store_true", help="images into the pages")
    parser.add_argument("--scenario", default="unsorted", help="of images in no folder")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    run("propose_pairs", main, sys.argv[1:])
