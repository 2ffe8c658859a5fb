"""Turns a label into 16-bit PNG bytes and back.

Axes: H, W pixels.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32

from dav2.data.png16 import decode_png16, encode_png16

CodecName = Literal["png16"]

_LEVELS = 65535


@dataclass(frozen=True, slots=True)
class EncodedLabel:
    """A label as bytes, with the two numbers that are needed to read it."""

    data: bytes
    minimum: float
    maximum: float


def encode_label(relative_depth: Float32[np.ndarray, "H W"]) -> EncodedLabel:
    """Encodes a map linearly between its own minimum and maximum, in 65,536 steps.

    The decoded map differs by at most 1/131070 of the range, half a step. A constant map is exact.

    Args:
        relative_depth: Inverse depth up to scale and shift, finite.

    Raises:
        ValueError: If a value is not finite.
    """
    minimum, maximum = float(relative_depth.min()), float(relative_depth.max())
    if not (np.isfinite(minimum) and np.isfinite(maximum)):
        num_bad = int(np.count_nonzero(~np.isfinite(relative_depth)))
        raise ValueError(f"label: expected finite values, got {num_bad} that are not")
    span = maximum - minimum
    scaled = (relative_depth.astype(np.float64) - minimum) * (_LEVELS / span if span > 0 else 0.0)
    return EncodedLabel(encode_png16(np.rint(scaled).astype(np.uint16)), minimum, maximum)


def decode_label(data: bytes, *, minimum: float, maximum: float) -> Float32[np.ndarray, "H W"]:
    """Returns the map that `encode_label` encoded.

    Args:
        data: The 16-bit PNG.
        minimum: Value of code 0.
        maximum: Value of code 65535.

    Raises:
        ValueError: If the bytes are not a 16-bit grey PNG, or the range is reversed.
    """
    if not minimum <= maximum:
        raise ValueError(f"label: expected minimum <= maximum, got {minimum} and {maximum}")
    codes = decode_png16(data).astype(np.float64)
    return (minimum + codes * ((maximum - minimum) / _LEVELS)).astype(np.float32)
