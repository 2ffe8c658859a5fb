"""Predictions that look at no image: what every model must beat.

Axes: H height, W width (pixels), R rows and C columns of the training mean.
"""

from typing import Literal, assert_never

import numpy as np
from jaxtyping import Bool, Float, Float32

BaselineName = Literal["constant", "ramp", "row_mean", "pixel_mean"]

GRID = (96, 128)
"""Rows and columns of the training mean."""


class TrainingMean:
    """The mean map of a training set, on a common grid, from one pass over its samples.

    Maps are sampled at the nearest pixel of each cell's centre: an average over a cell would
    invent depths that no sample has, and mix measured with unmeasured pixels.
    """

    def __init__(self) -> None:
        self._sum = np.zeros(GRID)
        self._count = np.zeros(GRID, dtype=np.int64)

    def add(self, values: Float[np.ndarray, "H W"], *, valid: Bool[np.ndarray, "H W"]) -> None:
        """Adds one map, read where `valid`."""
        rows, columns = (
            ((np.arange(num_cells) + 0.5) * size / num_cells).astype(np.int64)
            for num_cells, size in zip(GRID, values.shape, strict=True)
        )
        cells = np.ix_(rows, columns)
        known = valid[cells]
        self._sum += np.where(known, values[cells], 0.0)
        self._count += known

    def value(self) -> Float[np.ndarray, "R C"]:
        """Returns the mean of each cell; a cell that nothing reached has the mean of all.

        Raises:
            ValueError: If no valid pixel was added.
        """
        if not self._count.any():
            raise ValueError("training mean: expected at least one valid pixel, got none")
        overall = self._sum.sum() / self._count.sum()
        mean = np.full(GRID, overall)
        np.divide(self._sum, self._count, out=mean, where=self._count > 0)
        return mean


def normalised_inverse_depth(
    inverse_depth: Float32[np.ndarray, "H W"], *, valid: Bool[np.ndarray, "H W"]
) -> Float[np.ndarray, "H W"]:
    """Returns inverse depth between 0 and 1 by its own extremes where valid.

    So every map has the same say in the training mean, as in the loss of the models; of raw 1/m
    rooms would decide everything, their inverse depth being ten times that of streets. A constant
    map is 0 everywhere.

    Args:
        inverse_depth: 1/m, 0 on sky.
        valid: True where measured, sky included; at least one pixel.
    """
    values = inverse_depth.astype(np.float64)
    low, high = values[valid].min(), values[valid].max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def baseline_map(
    name: BaselineName, height: int, width: int, *, mean: Float[np.ndarray, "R C"]
) -> Float32[np.ndarray, "H W"]:
    """Returns the prediction of one baseline for any image of a size.

    Args:
        name: `constant`: the mean of the training mean. `ramp`: rises linearly from 0 at the top
            row to 1 at the bottom, the inverse depth of flat ground up to scale and shift;
            independent of `mean`. `row_mean`: the mean over columns. `pixel_mean`: all of it.
        height: Rows of the image.
        width: Columns of the image.
        mean: Training mean; the prediction is in its unit.
    """
    match name:
        case "constant":
            small = np.full((1, 1), mean.mean())
        case "ramp":
            column = np.linspace(0.0, 1.0, height, dtype=np.float32)[:, None]
            return np.repeat(column, width, axis=1)
        case "row_mean":
            small = mean.mean(axis=1, keepdims=True)
        case "pixel_mean":
            small = mean
        case _:
            assert_never(name)
    return _resized(_resized(small, height).T, width).T.astype(np.float32)


def _resized(values: Float[np.ndarray, "R C"], size: int) -> Float[np.ndarray, "H C"]:
    """Returns values with `size` rows: linear between the centres of the rows, level outside."""
    old = values.shape[0]
    position = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
    above = np.floor(position).astype(np.int64)
    below = np.minimum(above + 1, old - 1)
    weight = (position - above)[:, None]
    resized: Float[np.ndarray, "H C"] = (1 - weight) * values[above] + weight * values[below]
    return resized
