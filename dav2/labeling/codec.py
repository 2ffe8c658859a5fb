"""Turns a label into bytes and back: integers between its minimum and maximum, packed without loss.

Axes: H, W pixels.
"""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal, assert_never

import numpy as np
from jaxtyping import Float32, UInt16

from dav2.data.htj2k import decode_htj2k, encode_htj2k
from dav2.data.png16 import decode_png16, encode_png16

CodecName = Literal["png16", "htj2k16", "htj2k12"]


@dataclass(frozen=True, slots=True)
class EncodedLabel:
    """A label as bytes, with what is needed to read it."""

    data: bytes
    minimum: float
    maximum: float
    codec: CodecName


def encode_label(
    relative_depth: Float32[np.ndarray, "H W"], codec: CodecName = "png16"
) -> EncodedLabel:
    """Encodes a map linearly between its own minimum and maximum, in steps of one size.

    The decoded map differs by at most half a step: 1/131070 of the range in 16 bits, 1/8190 in 12.
    A constant map is exact.

    Args:
        relative_depth: Inverse depth up to scale and shift, finite.
        codec: `png16`: 16-bit PNG, which everything reads. `htj2k16` and `htj2k12`: 16 and 12 bits
            in High-Throughput JPEG 2000, smaller and faster (`make bench-codecs`).

    Raises:
        ValueError: If a value is not finite, or a library is missing.
    """
    minimum, maximum = float(relative_depth.min()), float(relative_depth.max())
    if not (np.isfinite(minimum) and np.isfinite(maximum)):
        num_bad = int(np.count_nonzero(~np.isfinite(relative_depth)))
        raise ValueError(f"label: expected finite values, got {num_bad} that are not")
    span = maximum - minimum
    scale = max_code(codec) / span if span > 0 else 0.0
    codes = np.rint((relative_depth.astype(np.float64) - minimum) * scale).astype(np.uint16)
    return EncodedLabel(pack(codes, codec), minimum, maximum, codec)


def pack(codes: UInt16[np.ndarray, "H W"], codec: CodecName) -> bytes:
    """Returns integers, of a codec's steps between minimum and maximum, as its bytes.

    Raises:
        ValueError: If a library is missing.
    """
    match codec:
        case "png16":
            return encode_png16(codes)
        case "htj2k16" | "htj2k12":
            return encode_htj2k(codes)
        case _:
            assert_never(codec)


def decode_label(
    data: bytes, codec: CodecName = "png16", *, minimum: float, maximum: float
) -> Float32[np.ndarray, "H W"]:
    """Returns the map that `encode_label` encoded.

    Args:
        data: The bytes.
        codec: As it was encoded.
        minimum: Value of code 0.
        maximum: Value of the largest code.

    Raises:
        ValueError: If the bytes are not of this codec, the range is reversed, a code is too large
            for it, or a library is missing.
    """
    if not minimum <= maximum:
        raise ValueError(f"label: expected minimum <= maximum, got {minimum} and {maximum}")
    codes, largest = _unpack(data, codec), max_code(codec)
    if codes.max() > largest:
        raise ValueError(
            f"label: expected codes of at most {largest} in {codec}, got {codes.max()}"
        )
    return values_of(codes, codec, minimum=minimum, maximum=maximum)


def values_of(
    codes: UInt16[np.ndarray, "H W"], codec: CodecName, *, minimum: float, maximum: float
) -> Float32[np.ndarray, "H W"]:
    """Returns the map that integers stand for.

    Args:
        codes: Of a codec's steps between minimum and maximum.
        codec: Whose steps.
        minimum: Value of code 0.
        maximum: Value of the largest code.
    """
    step = (maximum - minimum) / max_code(codec)
    return (minimum + codes.astype(np.float64) * step).astype(np.float32)


def codec_version(codec: CodecName) -> str | None:
    """Returns the version of the library that decides a codec's bytes; None where we decide them.

    Raises:
        ValueError: If the library is not installed.
    """
    match codec:
        case "png16":
            return None
        case "htj2k16" | "htj2k12":
            try:
                return version("imagecodecs")
            except PackageNotFoundError:
                raise ValueError(
                    f"codec {codec}: expected the package imagecodecs, got none "
                    "(pip install imagecodecs)"
                ) from None
        case _:
            assert_never(codec)


def label_suffix(codec: CodecName) -> str:
    """Returns how the names of a codec's files end, after the sample's id."""
    match codec:
        case "png16":
            return ".depth.png"
        case "htj2k16" | "htj2k12":
            return ".depth.j2c"
        case _:
            assert_never(codec)


def max_code(codec: CodecName) -> int:
    """Returns the code of a label's maximum: a codec's steps between minimum and maximum."""
    match codec:
        case "png16" | "htj2k16":
            return 65535
        case "htj2k12":
            return 4095
        case _:
            assert_never(codec)


def _unpack(data: bytes, codec: CodecName) -> UInt16[np.ndarray, "H W"]:
    match codec:
        case "png16":
            return decode_png16(data)
        case "htj2k16" | "htj2k12":
            return decode_htj2k(data)
        case _:
            assert_never(codec)
