"""Focal lengths, and point clouds in PLY.

A pinhole camera at the origin that looks along +z, x to the right, y down (as OpenCV); its optical
axis passes through the middle of the image.

Axes: H height, W width (pixels), N points.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Shaped, UInt8

ASSUMED_VIEW_DEGREES = 60.0
"""Field of view along the longer side of an image of which nothing is known."""
FARTHEST = 10.0
"""Depth at which a relative cloud ends; its nearest point lies at 1."""

_FILM_DIAGONAL_MM = math.hypot(36, 24)  # 43.27
_POINT = np.dtype(
    [
        *((axis, "<f4") for axis in ("x", "y", "z")),
        *((colour, "u1") for colour in ("red", "green", "blue")),
    ]
)


@dataclass(frozen=True, slots=True)
class Focal:
    """A focal length and how it is known."""

    length_px: float
    """In pixels of the original image."""
    source: Literal["given", "exif", "assumed"]


def find_focal(
    size: tuple[int, int], *, given_px: float | None = None, focal_35mm: float | None = None
) -> Focal:
    """Returns the best focal length there is: given, of EXIF, or by an assumed field of view.

    EXIF's equivalent to 35 mm film relates diagonals (EXIF 2.32, tag 41989, after CIPA DCG-001):
    that of the image to the 43.27 mm of a 36 x 24 mm frame. It is that of the whole photograph: an
    image cut out of it, with the EXIF block kept, gets too short a length.

    Args:
        size: Height and width of the image, pixels.
        given_px: What the user says, pixels.
        focal_35mm: What EXIF says, mm.
    """
    if given_px is not None:
        return Focal(given_px, "given")
    if focal_35mm is not None:
        return Focal(focal_35mm / _FILM_DIAGONAL_MM * math.hypot(*size), "exif")
    return Focal(max(size) / 2 / math.tan(math.radians(ASSUMED_VIEW_DEGREES) / 2), "assumed")


def relative_to_depth(
    relative_depth: Float32[np.ndarray, "H W"],
) -> Float32[np.ndarray, "H W"]:
    """Returns depth of an assumed scale and shift, both of which relative depth leaves open.

    Inverse depth is taken to run linearly from 1 at the highest relative depth of the image down to
    1 / `FARTHEST` at its lowest: the nearest point lies at 1 (no unit), the farthest at 10. What is
    flat may come out curved, and distances between points mean nothing. A constant map lies at 1.

    Args:
        relative_depth: Inverse depth up to scale and shift, finite.
    """
    low, high = relative_depth.min(), relative_depth.max()
    if low == high:
        return np.ones_like(relative_depth)
    closeness = (relative_depth - low) / (high - low)
    inverse_depth = 1 / FARTHEST + (1 - 1 / FARTHEST) * closeness
    depth: np.ndarray = 1 / inverse_depth
    return depth


def encode_ply(
    depth: Float32[np.ndarray, "H W"],
    image: UInt8[np.ndarray, "H W 3"],
    *,
    focal_px: float,
    comment: str,
) -> bytes:
    """Returns one coloured point per pixel, row by row, as a binary little-endian PLY.

    Args:
        depth: Along the optical axis.
        image: Colours of the points.
        focal_px: Focal length.
        comment: What the unit is; one line.
    """
    points = _points(depth, image, focal_px)
    kinds = {"<f4": "float", "|u1": "uchar"}
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment {comment}",
        "comment x right, y down, z forward",
        f"element vertex {len(points)}",
        *(f"property {kinds[_POINT[name].str]} {name}" for name in _POINT.names or ()),
        "end_header",
    ]
    return ("\n".join(header) + "\n").encode("ascii") + points.tobytes()


def _points(
    depth: Float32[np.ndarray, "H W"], image: UInt8[np.ndarray, "H W 3"], focal_px: float
) -> Shaped[np.ndarray, " N"]:
    height, width = depth.shape
    # The centre of the upper left pixel is (0.5, 0.5), as in dav2.data.sample.Intrinsics.
    columns = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) / np.float32(focal_px)
    rows = (np.arange(height, dtype=np.float32) + 0.5 - height / 2) / np.float32(focal_px)
    points: np.ndarray[Any, Any] = np.empty((height, width), _POINT)
    points["x"] = columns * depth
    points["y"] = rows[:, None] * depth
    points["z"] = depth
    for index, colour in enumerate(("red", "green", "blue")):
        points[colour] = image[..., index]
    return points.reshape(-1)
