"""Ordering of point pairs: which of two pixels is closer.

Axes: H height, W width (pixels), P pairs, 2 row and column.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

CANDIDATES_PER_PAIR = 40
"""Random pairs drawn for each one wanted; most differ too little in depth."""


@dataclass(frozen=True, slots=True)
class PointPairs:
    """Pairs of pixels of one image, each with one point known to be closer.

    Attributes:
        closer: Row and column of the closer points.
        farther: Row and column of the farther points.
    """

    closer: Int[np.ndarray, "P 2"]
    farther: Int[np.ndarray, "P 2"]

    def upper_is_closer(self) -> Int[np.ndarray, " P"]:
        """Returns 1 where the closer point is the upper one, -1 where the lower, 0 where level."""
        sign: Int[np.ndarray, " P"] = np.sign(self.farther[:, 0] - self.closer[:, 0])
        return sign


def correct_pairs(
    relative_depth: Float[np.ndarray, "H W"], pairs: PointPairs
) -> Bool[np.ndarray, " P"]:
    """Returns which pairs a prediction orders rightly, whichever point is named first.

    DA-2K names the closer point first in every pair, so that "the first" would be always right.
    Here a pair counts only if the answer survives swapping its points, as strict comparison does: a
    tie, or a value that is no number, is wrong.

    Args:
        relative_depth: Prediction, higher is closer.
        pairs: Pixels inside it.
    """
    closer = relative_depth[pairs.closer[:, 0], pairs.closer[:, 1]]
    farther = relative_depth[pairs.farther[:, 0], pairs.farther[:, 1]]
    correct: Bool[np.ndarray, " P"] = closer > farther
    return correct


def balanced_accuracy(
    correct: Bool[np.ndarray, " P"], upper_is_closer: Int[np.ndarray, " P"]
) -> float:
    """Returns the mean of two accuracies: pairs whose upper point is closer, and whose lower is.

    No vertical ramp scores above 0.5. Level pairs count in both; where one kind is missing, the
    other alone decides.

    Args:
        correct: Result of `correct_pairs`.
        upper_is_closer: 1, -1 or 0 for level, as `PointPairs.upper_is_closer` gives it.

    Raises:
        ValueError: If there is no pair.
    """
    if not correct.size:
        raise ValueError("balanced accuracy: expected at least one pair, got none")
    kinds = [correct[upper_is_closer >= 0], correct[upper_is_closer <= 0]]
    return float(np.mean([kind.mean() for kind in kinds if kind.size]))


def sample_depth_pairs(
    depth: Float[np.ndarray, "H W"],
    *,
    pixels: Bool[np.ndarray, "H W"],
    num_pairs: int,
    min_ratio: float,
    seed: str,
) -> PointPairs:
    """Returns pairs from dense truth, in exactly half of which the upper point is closer.

    Args:
        depth: Reference depth, positive where evaluated.
        pixels: True on the pixels to draw from.
        num_pairs: Pairs wanted; fewer come back, or none, where the image does not offer them.
        min_ratio: Smallest ratio of the two depths.
        seed: Text that decides the draw, such as the sample's id.
    """
    rows, columns = np.nonzero(pixels)
    if rows.size < 2:
        return _none()
    rng = _generator("depth", seed)
    first, second = rng.integers(rows.size, size=(2, CANDIDATES_PER_PAIR * num_pairs))
    depths = depth[rows, columns].astype(np.float64)
    closer = np.where(depths[first] <= depths[second], first, second)
    farther = np.where(depths[first] <= depths[second], second, first)
    apart = depths[farther] > min_ratio * depths[closer]
    upper = np.flatnonzero(apart & (rows[closer] < rows[farther]))
    lower = np.flatnonzero(apart & (rows[closer] > rows[farther]))
    half = min(num_pairs // 2, upper.size, lower.size)
    kept = np.concatenate([upper[:half], lower[:half]])
    points = np.stack([rows, columns], axis=1)
    return PointPairs(closer=points[closer[kept]], farther=points[farther[kept]])


def sample_sky_pairs(
    sky: Bool[np.ndarray, "H W"],
    *,
    pixels: Bool[np.ndarray, "H W"],
    num_pairs: int,
    seed: str,
) -> PointPairs:
    """Returns pairs of a pixel with depth and a sky pixel, which is the farther one.

    Args:
        sky: True on sky.
        pixels: True on the pixels with depth to draw from; sky among them is left out.
        num_pairs: Pairs wanted; none come back where the image lacks sky, or all but sky.
        seed: Text that decides the draw, such as the sample's id.
    """
    far, near = np.argwhere(sky), np.argwhere(pixels & ~sky)
    if not len(far) or not len(near):
        return _none()
    rng = _generator("sky", seed)
    return PointPairs(
        closer=near[rng.integers(len(near), size=num_pairs)],
        farther=far[rng.integers(len(far), size=num_pairs)],
    )


def _generator(kind: str, seed: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{kind}:{seed}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def _none() -> PointPairs:
    empty = np.zeros((0, 2), dtype=np.int64)
    return PointPairs(closer=empty, farther=empty)
