"""A picture of some labels beside their photographs, for people.

Axes: H, W pixels of the picture.
"""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from dav2.data.shards import LabelledImage, ShardReader
from dav2.data.transforms import resize_image

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
    if not num_rows:
        return None
    rows = [_draw(reader.read(place * len(reader) // num_rows)) for place in range(num_rows)]
    width = max(row.shape[1] for row in rows)
    height = num_rows * (_HEIGHT_PX + _GAP_PX) - _GAP_PX
    picture = np.full((height, width, 3), 128, np.uint8)
    for place, row in enumerate(rows):
        top = place * (_HEIGHT_PX + _GAP_PX)
        picture[top : top + _HEIGHT_PX, : row.shape[1]] = row
    return picture


def _draw(sample: LabelledImage) -> UInt8[np.ndarray, "H W 3"]:
    height, width = sample.image.shape[:2]
    size = (_HEIGHT_PX, max(1, round(width * _HEIGHT_PX / height)))
    label = sample.relative_depth.astype(np.float64)
    span = label.max() - label.min()
    grey = (255 * (label - label.min()) / (span if span > 0 else 1)).round().astype(np.uint8)
    gap = np.full((_HEIGHT_PX, _GAP_PX, 3), 128, np.uint8)
    label_picture = resize_image(np.repeat(grey[..., None], 3, axis=2), size)
    return np.concatenate([resize_image(sample.image, size), gap, label_picture], axis=1)
