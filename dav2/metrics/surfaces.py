"""Whether predicted surfaces face the right way, and whether flat ones stay flat.

Axes: H height, W width (pixels), 3 coordinates.
"""

import numpy as np
from jaxtyping import Bool, Float

from dav2.data.sample import Intrinsics

MAX_STEP = 1.05
"""Ratio of depth between neighbours from which there is an edge rather than a surface."""
FLAT_TOLERANCE = 2e-3
"""Root mean square deviation of true inverse depth from a plane, of its mean, below which a patch
is flat."""
ANGLES_DEG = (11.25, 22.5, 30.0)

_BAND_PIXELS = 1 << 16  # what is worked out of them at once stays in a core's cache
_PATCHES_PER_SIDE = 24
_SMALLEST_PATCH_PX = 5

Vectors = tuple[Float[np.ndarray, "_H _W"], ...]
"""Three coordinates, each a map."""


def normal_errors(
    pred: Float[np.ndarray, "H W"],
    depth: Float[np.ndarray, "H W"],
    *,
    pixels: Bool[np.ndarray, "H W"],
    camera: Intrinsics,
) -> dict[str, float]:
    """Returns the angles between predicted and true surfaces, in degrees.

    Normals are the cross product of the central differences of the points along rows and columns,
    of the truth as of the prediction, where a pixel and its four neighbours are evaluated and the
    true depth steps by less than 5 % from pixel to pixel. Shares within 11.25, 22.5 and 30 degrees
    as of Fouhey et al. 2013 (Data-driven 3D primitives for single image understanding).

    Args:
        pred: Predicted depth, positive where evaluated, aligned.
        depth: Reference depth, metres.
        pixels: True on the pixels evaluated.
        camera: That of the image.

    Returns:
        `normal_mean_deg`, `normal_median_deg` and `normal_within_11`, `_22` and `_30` (shares);
        empty where there is no such pixel.
    """
    found = [
        _angles(pred[rows], depth[rows], pixels[rows], camera, first_row=rows.start)
        for rows in _bands(*depth.shape)
    ]
    angles = np.concatenate(found) if found else np.zeros(0)
    if not angles.size:
        return {}
    shares = {f"normal_within_{int(limit)}": float((angles < limit).mean()) for limit in ANGLES_DEG}
    return {
        "normal_mean_deg": float(angles.mean()),
        "normal_median_deg": float(np.median(angles)),
        **shares,
    }


def planarity_error(
    pred: Float[np.ndarray, "H W"],
    depth: Float[np.ndarray, "H W"],
    *,
    pixels: Bool[np.ndarray, "H W"],
) -> float:
    """Returns how far predictions bend what is flat.

    Of a pinhole camera a plane in space is a plane of inverse depth over the image. The map is cut
    into squares, 24 along its shorter side; of those that are evaluated throughout and flat in the
    truth, the deviation of predicted inverse depth from the plane that fits it best is taken, as a
    share of its mean. Unlike iBims-1's planarity (Koch et al. 2018, arXiv:1805.01328) this needs no
    masks of walls and floors; where the plane lies is left to the other measures.

    Args:
        pred: Predicted depth, positive where evaluated, aligned.
        depth: Reference depth, positive where evaluated.
        pixels: True on the pixels evaluated.

    Returns:
        A mean over flat squares, 0 where they are flat in the prediction too; NaN without any.
    """
    height, width = depth.shape
    side = max(_SMALLEST_PATCH_PX, min(height, width) // _PATCHES_PER_SIDE)
    deviations = []
    for top in range(0, height - side + 1, side):
        rows = slice(top, top + side)
        whole = _squares(pixels[rows], side).all(axis=(0, 2))
        safe = np.where(pixels[rows], depth[rows], 1.0)
        flat = whole & (_bending(safe, side) <= FLAT_TOLERANCE)
        if flat.any():
            bent = _bending(np.where(pixels[rows], pred[rows], 1.0), side)
            deviations.append(bent[flat])
    return float(np.concatenate(deviations).mean()) if deviations else float("nan")


def _bands(height: int, width: int) -> list[slice]:
    """Returns ranges of rows that overlap by two, so that each inner row is inside one once."""
    step = max(1, _BAND_PIXELS // width)
    return [
        slice(first, min(first + step + 2, height)) for first in range(0, max(height - 2, 0), step)
    ]


def _angles(
    pred: Float[np.ndarray, "H W"],
    depth: Float[np.ndarray, "H W"],
    pixels: Bool[np.ndarray, "H W"],
    camera: Intrinsics,
    *,
    first_row: int,
) -> Float[np.ndarray, " N"]:
    """Returns the angles of a band's inner pixels, degrees."""
    inner = pixels[1:-1, 1:-1].copy()
    safe = np.where(pixels, depth, 1.0)
    for rows, columns in ((0, 1), (2, 1), (1, 0), (1, 2)):
        beside = np.s_[
            rows : rows + inner.shape[0],
            columns : columns + inner.shape[1],
        ]
        step = safe[1:-1, 1:-1] / safe[beside]
        inner &= pixels[beside] & (np.maximum(step, 1 / step) < MAX_STEP)
    if not inner.any():
        return np.zeros(0)
    one = _normals(np.where(pixels, pred, 1.0), camera, first_row)
    other = _normals(safe, camera, first_row)
    crossed = _cross(one, other)
    across = crossed[0] ** 2 + crossed[1] ** 2 + crossed[2] ** 2
    along = one[0] * other[0] + one[1] * other[1] + one[2] * other[2]
    # Of the tangent: an arc cosine loses small angles.
    angles: Float[np.ndarray, " N"] = np.degrees(np.arctan2(np.sqrt(across[inner]), along[inner]))
    return angles


def _normals(depth: Float[np.ndarray, "H W"], camera: Intrinsics, first_row: int) -> Vectors:
    """Returns normals of the inner pixels, of any length."""
    height, width = depth.shape
    depth = depth.astype(np.float64)
    x = (np.arange(width) + 0.5 - camera.cx_px) / camera.fx_px
    y = (first_row + np.arange(height) + 0.5 - camera.cy_px) / camera.fy_px
    points = (x[None] * depth, y[:, None] * depth, depth)
    along = tuple(values[1:-1, 2:] - values[1:-1, :-2] for values in points)
    down = tuple(values[2:, 1:-1] - values[:-2, 1:-1] for values in points)
    return _cross(along, down)


def _cross(one: Vectors, other: Vectors) -> Vectors:
    return (
        one[1] * other[2] - one[2] * other[1],
        one[2] * other[0] - one[0] * other[2],
        one[0] * other[1] - one[1] * other[0],
    )


def _squares(row: Bool[np.ndarray, "S W"] | Float[np.ndarray, "S W"], side: int) -> np.ndarray:
    """Returns the squares of one row of them, S x N x S."""
    number = row.shape[1] // side
    return row[:, : number * side].reshape(side, number, side)


def _bending(depth: Float[np.ndarray, "S W"], side: int) -> Float[np.ndarray, " N"]:
    """Returns, per square, the deviation of inverse depth from its plane, of its mean."""
    inverse = _squares(1.0 / depth.astype(np.float64), side)
    centred = np.arange(side) - (side - 1) / 2
    across, down = centred[None, None, :], centred[:, None, None]
    squares = side * float((centred**2).sum())
    mean = inverse.mean(axis=(0, 2))
    slope_x = (inverse * across).sum(axis=(0, 2)) / squares
    slope_y = (inverse * down).sum(axis=(0, 2)) / squares
    plane = mean[None, :, None] + slope_x[None, :, None] * across + slope_y[None, :, None] * down
    bending: Float[np.ndarray, " N"] = np.sqrt(((inverse - plane) ** 2).mean(axis=(0, 2))) / mean
    return bending
