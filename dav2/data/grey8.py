"""8-bit greyscale PNG: masks, confidences and coarse disparity.

Axes: H height, W width (pixels).
"""

import numpy as np
from jaxtyping import UInt8

from dav2.data.images import decode_image

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BITS_AND_COLOUR = slice(24, 26)
_GREY8 = bytes((8, 0))


def decode_grey8(data: bytes, *, size: tuple[int, int], where: str) -> UInt8[np.ndarray, "H W"]:
    """Returns the values of an 8-bit greyscale PNG.

    Args:
        data: The file's bytes.
        size: Expected height and width.
        where: Name of the file, for messages.

    Raises:
        ValueError: If it is no such PNG, of another size, truncated or damaged; all but the last
            two are told from the header.
    """
    if not data.startswith(_SIGNATURE) or len(data) < 33:
        got = f"{len(data)} bytes that start with {data[:8]!r}"
        raise ValueError(f"{where}: expected an 8-bit greyscale PNG, got {got}")
    if data[_BITS_AND_COLOUR] != _GREY8:
        bits, colour = data[_BITS_AND_COLOUR]
        raise ValueError(
            f"{where}: expected an 8-bit greyscale PNG (colour type 0), "
            f"got {bits} bits of colour type {colour}"
        )
    width, height = (int.from_bytes(data[start : start + 4], "big") for start in (16, 20))
    if (height, width) != size:
        raise ValueError(
            f"{where}: expected {size[0]} x {size[1]} (height x width), got {height} x {width}"
        )
    return decode_image(data, max_pixels=size[0] * size[1], where=where)[..., 0]
