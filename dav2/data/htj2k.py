"""16-bit maps as High-Throughput JPEG 2000, without loss.

Axes: H height, W width (pixels).
A file is one codestream of ISO/IEC 15444-15, as OpenJPH writes it through imagecodecs; readers of
JPEG 2000 that know its part 15 (Pillow among them) open it. JPEG 2000 has no checksum of its own,
so a comment that other readers skip holds a CRC-32 of all other bytes.
"""

import struct
import zlib
from importlib import import_module
from types import ModuleType

import numpy as np
from jaxtyping import UInt16

from dav2.data.images import MAX_PIXELS

# SOC, then SIZ of part 1, A.5.1: capabilities, sizes and origins of image and tile, one component.
_HEADER = struct.Struct(">4H8IH3B")
_SOC, _SIZ, _SIZ_BYTES, _PART_15, _BITS_LESS_1 = 0xFF4F, 0xFF51, 41, 0x4000, 15
# COM of part 1, A.9.2: its length from here on, 0 for binary, then the CRC.
_COMMENT = struct.Struct(">3HI")
_COM, _COM_BYTES, _BINARY = 0xFF64, 8, 0
_BODY = _HEADER.size + _COMMENT.size


def encode_htj2k(values: UInt16[np.ndarray, "H W"]) -> bytes:
    """Returns values as an HTJ2K codestream.

    Needs the package imagecodecs, whose version may decide the bytes.

    Args:
        values: Any 16-bit values, at least one.

    Raises:
        ValueError: If H or W is 0, or imagecodecs is not installed.
    """
    height, width = values.shape
    if not values.size:
        raise ValueError(f"encode_htj2k: expected at least one pixel, got {height} x {width}")
    imagecodecs = _library("encode_htj2k", "write")
    stream: bytes = imagecodecs.htj2k_encode(np.ascontiguousarray(values), reversible=True)
    assert stream.startswith(_header(height, width)), "OpenJPH wrote another header"
    header, body = stream[: _HEADER.size], stream[_HEADER.size :]
    comment = _COMMENT.pack(_COM, _COM_BYTES, _BINARY, zlib.crc32(header + body))
    return header + comment + body


def decode_htj2k(
    data: bytes, *, max_pixels: int = MAX_PIXELS, where: str = "HTJ2K bytes"
) -> UInt16[np.ndarray, "H W"]:
    """Returns the values that `encode_htj2k` wrote.

    Needs the package imagecodecs.

    Args:
        data: The file's bytes.
        max_pixels: Largest accepted H x W.
        where: Name of the file, for messages.

    Raises:
        ValueError: If it is no such file, too large, truncated or damaged; or if imagecodecs is
            not installed. All but what a wrong sender hides behind a right checksum is told before
            anything is decoded.
    """
    height, width = _read_size(data, where)
    if not 0 < height * width <= max_pixels:
        raise ValueError(f"{where}: expected 1 to {max_pixels} pixels, got {width} x {height}")
    whole = f"{where}: expected a whole HTJ2K codestream, got {len(data)} bytes"
    comment = data[_HEADER.size : _BODY]
    sum_of_rest = zlib.crc32(data[_BODY:], zlib.crc32(data[: _HEADER.size]))
    if comment != _COMMENT.pack(_COM, _COM_BYTES, _BINARY, sum_of_rest):
        raise ValueError(f"{whole} that are truncated or damaged")
    imagecodecs = _library(where, "read")
    try:
        values = np.asarray(imagecodecs.htj2k_decode(data))
    except (imagecodecs.Htj2kError, ValueError, MemoryError):
        raise ValueError(f"{whole} that OpenJPH refuses") from None
    if values.shape != (height, width) or values.dtype != np.uint16:
        raise ValueError(
            f"{where}: expected {height} x {width} uint16, got {values.shape} {values.dtype}"
        )
    return values


def _read_size(data: bytes, where: str) -> tuple[int, int]:
    if len(data) >= _BODY:
        width, height = _HEADER.unpack_from(data)[4:6]
        if data.startswith(_header(height, width)):
            return height, width
    raise ValueError(
        f"{where}: expected an HTJ2K codestream of one 16-bit component, "
        f"got {len(data)} bytes that start with {data[:8]!r}"
    )


def _header(height: int, width: int) -> bytes:
    size, origin = (width, height), (0, 0)
    areas = (*size, *origin, *size, *origin)  # of the image, then of its one tile
    return _HEADER.pack(_SOC, _SIZ, _SIZ_BYTES, _PART_15, *areas, 1, _BITS_LESS_1, 1, 1)


def _library(where: str, purpose: str) -> ModuleType:
    try:
        return import_module("imagecodecs")
    except ImportError:
        raise ValueError(
            f"{where}: expected the package imagecodecs to {purpose} HTJ2K, got none "
            "(pip install imagecodecs)"
        ) from None
