"""Point pairs in the manner of DA-2K, balanced so that no vertical ramp can win.

Axes: H height, W width (pixels), N draws.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32

MIN_RATIO = 1.3
_NUM_DRAWS = 4000
_KEPT = 3


def draw_pairs(
    depth: Float32[np.ndarray, "H W"],
    usable: Bool[np.ndarray, "H W"],
    rng: np.random.Generator,
    *,
    thin: bool = False,
) -> dict[str, list[list[list[int]]]]:
    """Returns candidate pairs of one image, up to three of each kind.

    Args:
        depth: Metres.
        usable: Where a person could tell the depth.
        rng: Source of randomness.
        thin: The nearer point may lie on something narrower than three pixels.

    Returns:
        Under `upper` the pairs whose nearer point is the higher in the image, under `lower` the
        others; each pair is [row, column] of the nearer point, then of the farther.
    """
    height, width = depth.shape
    rows, columns = (
        rng.integers(height, size=(2, _NUM_DRAWS)),
        rng.integers(width, size=(2, _NUM_DRAWS)),
    )
    values = depth[rows, columns]
    swap = values[0] > values[1]
    near = np.where(swap, 1, 0)
    order = np.stack([near, 1 - near])
    rows, columns = np.take_along_axis(rows, order, 0), np.take_along_axis(columns, order, 0)
    values = np.take_along_axis(values, order, 0)
    steady = usable & _steady(depth, 9)
    loose = usable & _steady(depth, 3) if thin else steady
    apart = np.hypot(rows[0] - rows[1], columns[0] - columns[1]) >= 0.15 * width
    good = loose[rows[0], columns[0]] & steady[rows[1], columns[1]] & apart
    with np.errstate(invalid="ignore"):
        good &= values[1] > MIN_RATIO * values[0]
    step = rows[1] - rows[0]
    found = {}
    for name, wanted in (("upper", step >= 0.05 * height), ("lower", step <= -0.05 * height)):
        chosen = np.flatnonzero(good & wanted)[:_KEPT]
        found[name] = [
            [[int(rows[end, index]), int(columns[end, index])] for end in (0, 1)]
            for index in chosen
        ]
    return found


def balanced_annotations(
    candidates: Mapping[str, Mapping[str, Sequence[Any]]], *, pairs_per_image: int
) -> dict[str, list[dict[str, Any]]]:
    """Returns DA-2K's annotations: in each scenario half of the pairs have the upper point closer.

    Args:
        candidates: For each image, `images/<scenario>/<name>.jpg`, what `draw_pairs` returned.
        pairs_per_image: How many on average; fewer where a scenario lacks one kind.
    """
    scenarios: dict[str, list[str]] = {}
    for path in sorted(candidates):
        scenarios.setdefault(path.split("/")[1], []).append(path)
    annotations: dict[str, list[dict[str, Any]]] = {}
    for paths in scenarios.values():
        queues = {
            kind: [
                (path, candidates[path][kind][rank])
                for rank in range(_KEPT)
                for path in paths
                if rank < len(candidates[path][kind])
            ]
            for kind in ("upper", "lower")
        }
        count = min(len(paths) * pairs_per_image // 2, *(len(queue) for queue in queues.values()))
        for queue in queues.values():
            for path, (near, far) in queue[:count]:
                pair = {"point1": near, "point2": far, "closer_point": "point1"}
                annotations.setdefault(path, []).append(pair)
    return annotations


def _steady(depth: Float32[np.ndarray, "H W"], num_agreeing: int) -> Bool[np.ndarray, "H W"]:
    """Returns where so many of the 3 x 3 depths about a pixel are within 7 % of its own."""
    height, width = depth.shape
    padded = np.pad(depth, 1, mode="edge")
    agreeing = np.zeros(depth.shape, dtype=np.int64)
    with np.errstate(invalid="ignore"):
        for row in range(3):
            for column in range(3):
                other = padded[row : row + height, column : column + width]
                agreeing += np.abs(other - depth) <= 0.07 * depth
    return np.asarray(np.isfinite(depth) & (agreeing >= num_agreeing))
