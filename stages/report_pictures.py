"""Turns images and depth maps into pictures that lie inside a page.

Axes: H height, W width (pixels).
"""

import base64
import io
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image, ImageDraw

_UNKNOWN = 0  # palette entry of pixels without a value; transparent
_COLOURS = 255


def image_uri(image: UInt8[np.ndarray, "H W 3"], *, side_px: int, quality: int) -> str:
    """Returns an image as the address of a JPEG, its longer side at most `side_px`."""
    picture = Image.fromarray(image)
    picture.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality, optimize=True)
    return _address("image/jpeg", stream)


def depth_uri(
    inverse_depth: Float32[np.ndarray, "H W"],
    *,
    span: tuple[float, float],
    side_px: int,
    valid: Bool[np.ndarray, "H W"] | None = None,
) -> str:
    """Returns a map as the address of a PNG: near is bright, equal steps look equal (magma).

    Args:
        inverse_depth: Any unit, higher is closer.
        span: Values shown darkest and brightest.
        side_px: Largest longer side.
        valid: Pixels with a value; the others are transparent. None: all.
    """
    low, high = span
    scaled = (inverse_depth - low) / (high - low) if high > low else np.zeros_like(inverse_depth)
    codes = 1 + np.rint(np.clip(scaled, 0, 1) * (_COLOURS - 1)).astype(np.uint8)
    if valid is not None:
        codes = np.where(valid, codes, np.uint8(_UNKNOWN))
    return _palette_address(Image.fromarray(codes), colours(), side_px)


def error_uri(
    predicted: Float32[np.ndarray, "H W"],
    true: Float32[np.ndarray, "H W"],
    *,
    valid: Bool[np.ndarray, "H W"],
    side_px: int,
) -> str:
    """Returns where a prediction is too near (blue) and too far (red), as the address of a PNG.

    White is right, the full colours are half and twice the true depth, or beyond.

    Args:
        predicted: Inverse depth in the unit of `true`.
        true: Inverse depth.
        valid: Pixels with a truth; the others are transparent, and so is what is infinitely far.
        side_px: Largest longer side.
    """
    known = valid & (true > 0) & (predicted > 0)
    factor = np.divide(true, predicted, where=known, out=np.ones_like(true))
    scaled = (np.clip(np.log2(factor), -1, 1) + 1) / 2
    codes = 1 + np.rint(scaled * (_COLOURS - 1)).astype(np.uint8)
    picture = Image.fromarray(np.where(known, codes, np.uint8(_UNKNOWN)))
    return _palette_address(picture, error_colours(), side_px)


def shown_span(
    inverse_depth: Float32[np.ndarray, "H W"], valid: Bool[np.ndarray, "H W"] | None = None
) -> tuple[float, float]:
    """Returns the 2nd and 98th percentile, between which a map's colours are spread."""
    values = inverse_depth if valid is None else inverse_depth[valid]
    if not values.size:
        return 0.0, 1.0
    low, high = np.percentile(values, [2, 98])
    return float(low), float(high)


def with_points(
    image: UInt8[np.ndarray, "H W 3"], closer: tuple[int, int], farther: tuple[int, int]
) -> UInt8[np.ndarray, "H W 3"]:
    """Returns an image with two points (row, column): the closer light, the farther dark."""
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    radius = max(3, min(picture.size) // 32)
    for (row, column), fill, edge in (
        (closer, (255, 255, 255), (0, 0, 0)),
        (farther, (0, 0, 0), (255, 255, 255)),
    ):
        box = [column - radius, row - radius, column + radius, row + radius]
        draw.ellipse(box, fill=fill, outline=edge, width=max(1, radius // 3))
    return np.asarray(picture)


@cache
def colours() -> tuple[tuple[int, int, int], ...]:
    """Returns the colours from far to near, red, green and blue from 0 to 255."""
    from matplotlib import colormaps

    return _table(colormaps["magma"])


@cache
def error_colours() -> tuple[tuple[int, int, int], ...]:
    """Returns the colours from half to twice the true depth, likewise."""
    from matplotlib import colormaps

    return _table(colormaps["RdBu_r"])


def _table(colour_map: Any) -> tuple[tuple[int, int, int], ...]:
    table = colour_map(np.linspace(0.0, 1.0, _COLOURS), bytes=True)
    return tuple((int(red), int(green), int(blue)) for red, green, blue, _ in table)


def _palette_address(
    picture: Image.Image, table: tuple[tuple[int, int, int], ...], side_px: int
) -> str:
    picture.putpalette([128, 128, 128, *(channel for colour in table for channel in colour)])
    # Nearest: codes are names of colours, and edges stay where they are.
    picture.thumbnail((side_px, side_px), Image.Resampling.NEAREST)
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True, transparency=_UNKNOWN)
    return _address("image/png", stream)


def _address(kind: str, stream: io.BytesIO) -> str:
    return f"data:{kind};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
