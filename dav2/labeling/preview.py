"""Pictures of labels beside their photographs, for people: some, and the worst by each measure.

Axes: H, W pixels of the picture.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from dav2.data.shards import LabelledImage, ShardReader, read_index
from dav2.data.transforms import resize_image
from dav2.labeling.quality import worst_labels

_HEIGHT_PX = 140
_GAP_PX = 4


def draw_labels(folder: Path, *, num_samples: int) -> UInt8[np.ndarray, "H W 3"] | None:
    """Draws samples spread over a folder of shards, one a row: photograph, label (near is bright).

    Args:
        folder: Folder that `dav2.labeling.store.publish` made.
        num_samples: Most rows.

    Returns:
        Grey background, rows 140 px high; None if there is no label.
    """
    reader = ShardReader(folder)
    num_rows = min(num_samples, len(reader))
    return _draw(reader, [place * len(reader) // num_rows for place in range(num_rows)])


def draw_worst_labels(folder: Path, *, num_samples: int) -> dict[str, UInt8[np.ndarray, "H W 3"]]:
    """Draws the worst labels of a folder of shards by each measure, the worst on top.

    Args:
        folder: Folder that `dav2.labeling.store.publish` made.
        num_samples: Most rows of each.

    Returns:
        A picture as `draw_labels` makes for each measure of `worst_labels`.
    """
    reader = ShardReader(folder)
    index = read_index(folder / "manifest.parquet")
    pictures = {
        measure: _draw(reader, places)
        for measure, places in worst_labels(index, num_samples=num_samples).items()
    }
    return {measure: picture for measure, picture in pictures.items() if picture is not None}


def _draw(reader: ShardReader, places: Sequence[int]) -> UInt8[np.ndarray, "H W 3"] | None:
    if not places:
        return None
    rows = [_draw_row(reader.read(place)) for place in places]
    width = max(row.shape[1] for row in rows)
    height = len(rows) * (_HEIGHT_PX + _GAP_PX) - _GAP_PX
    picture = np.full((height, width, 3), 128, np.uint8)
    for place, row in enumerate(rows):
        top = place * (_HEIGHT_PX + _GAP_PX)
        picture[top : top + _HEIGHT_PX, : row.shape[1]] = row
    return picture


def _draw_row(sample: LabelledImage) -> UInt8[np.ndarray, "H W 3"]:
    height, width = sample.image.shape[:2]
    size = (_HEIGHT_PX, max(1, round(width * _HEIGHT_PX / height)))
    label = sample.relative_depth.astype(np.float64)
    span = label.max() - label.min()
    grey = (255 * (label - label.min()) / (span if span > 0 else 1)).round().astype(np.uint8)
    gap = np.full((_HEIGHT_PX, _GAP_PX, 3), 128, np.uint8)
    label_picture = resize_image(np.repeat(grey[..., None], 3, axis=2), size)
    return np.concatenate([resize_image(sample.image, size), gap, label_picture], axis=1)
