"""Points worth asking about: one for each object of an image, or scattered over its smooth parts.

Axes: H height, W width (pixels), N points, 2 row and column.
"""

import csv
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import Image

from dav2.data.images import MAX_PIXELS

_METADATA = "metadata.csv"


def mask_points(
    folder: Path, image: str, *, size: tuple[int, int], min_area: float
) -> Int[np.ndarray, "N 2"]:
    """Returns a point of each object of an image.

    Objects come as one label image, `<image without suffix>.png` (0 is no object), or as a folder
    of that name with a PNG each, as Segment Anything writes them. Beside those stands the point
    that an object was found by (`metadata.csv`), which V2's DA-2K takes; without it, or where it is
    outside the object, the point farthest from the object's border is taken.

    Args:
        folder: Of the masks.
        image: POSIX path of the image, below that of all images.
        size: Height and width of the image.
        min_area: Smaller objects are left out; a share of the image.

    Raises:
        FileNotFoundError: If the image has no masks.
        ValueError: If one is of another size, or not of integers.
    """
    stem = folder / PurePosixPath(image).with_suffix("")
    if stem.is_dir():
        objects = _single_objects(stem, size)
    elif (path := Path(f"{stem}.png")).is_file():
        labels = _read(path, size)
        objects = ((labels == label, None) for label in np.unique(labels) if label)
    else:
        raise FileNotFoundError(f"{stem}: expected {stem.name}.png or a folder of masks, got none")
    points = []
    for mask, prompt in objects:
        if mask.sum() >= max(1.0, min_area * mask.size):
            points.append(prompt if prompt is not None and mask[prompt] else deepest(mask))
    return np.array(sorted(set(points)), dtype=np.int64).reshape(-1, 2)


def deepest(mask: Bool[np.ndarray, "H W"]) -> tuple[int, int]:
    """Returns the pixel of a mask that is farthest from what is outside, the image's border too."""
    from scipy.ndimage import distance_transform_edt  # type: ignore[import-untyped]

    distance = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(int(distance.argmax()), mask.shape)
    return int(row), int(column)


def scattered_points(
    inverse_depth: Float[np.ndarray, "H W"], *, count: int, rng: np.random.Generator
) -> Int[np.ndarray, "N 2"]:
    """Returns pixels whose neighbours are as near as they: a person can point at them.

    Args:
        inverse_depth: 1/m, 0 where nothing is known.
        count: Most points.
        rng: Decides them.
    """
    known = inverse_depth > 0
    inner = known[1:-1, 1:-1].copy()
    centre = np.where(known, inverse_depth, 1.0)[1:-1, 1:-1]
    for down in range(3):
        for right in range(3):
            beside = np.s_[down : down + centre.shape[0], right : right + centre.shape[1]]
            inner &= known[beside] & (np.abs(inverse_depth[beside] - centre) <= _STEADY * centre)
    candidates = np.argwhere(inner) + 1
    chosen = rng.permutation(len(candidates))[:count]
    return candidates[chosen]


_STEADY = 0.07
"""Relative change of inverse depth from pixel to pixel, below which a surface is smooth."""


def _single_objects(
    folder: Path, size: tuple[int, int]
) -> Iterator[tuple[Bool[np.ndarray, "H W"], tuple[int, int] | None]]:
    prompts = _prompts(folder / _METADATA)
    for path in sorted(folder.glob("*.png")):
        yield _read(path, size) > 0, prompts.get(path.stem)


def _prompts(path: Path) -> dict[str, tuple[int, int]]:
    """Returns row and column by the name of the object; of Segment Anything's `metadata.csv`."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as stream:
        try:
            return {
                row["id"]: (
                    int(float(row["point_input_y"])),
                    int(float(row["point_input_x"])),
                )
                for row in csv.DictReader(stream)
            }
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}: expected columns id, point_input_x and point_input_y of numbers, "
                f"got {error}"
            ) from None


def _read(path: Path, size: tuple[int, int]) -> Int[np.ndarray, "H W"]:
    with Image.open(path) as opened:
        if opened.width * opened.height > MAX_PIXELS:
            raise ValueError(f"{path}: expected at most {MAX_PIXELS} pixels, got {opened.size}")
        if opened.mode not in ("1", "L", "P", "I", "I;16"):
            raise ValueError(f"{path}: expected one channel of integers, got mode {opened.mode}")
        values = np.asarray(opened).astype(np.int64)
    if values.shape != size:
        raise ValueError(
            f"{path}: expected {size[0]} x {size[1]} (height x width), got "
            f"{values.shape[0]} x {values.shape[1]}"
        )
    return values
