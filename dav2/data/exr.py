"""OpenEXR files, refused by their header before any pixel is read.

Axes: H height, W width (pixels).
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

_MAGIC = b"v/1\x01"
_MAX_CHANNELS = 32
# What OpenEXR lets through on damaged files, found by cutting and flipping bytes.
_DAMAGE = (RuntimeError, ValueError, OSError, TypeError, KeyError, IndexError)


def decode_exr(
    data: bytes, *, size: tuple[int, int], where: str, channel: str | None = None
) -> Float32[np.ndarray, "H W"]:
    """Returns one channel of an image of one part, half or float.

    Needs the package openexr. It reads its older releases by path only, hence the temporary file.

    Args:
        data: The file's bytes.
        size: Expected height and width of the data window.
        where: Name of the file, for messages.
        channel: Which channel; None takes the only one there is.

    Raises:
        ValueError: If it is no such file, of another size, has no such channel, or is damaged; or
            if openexr is not installed.
    """
    try:
        import OpenEXR  # type: ignore[import-not-found]  # has no stubs
    except ImportError:
        raise ValueError(
            f"{where}: expected the package openexr to read it, got none (pip install openexr)"
        ) from None
    if not data.startswith(_MAGIC):
        raise ValueError(f"{where}: expected an OpenEXR file, got {len(data)} other bytes")
    pixels: Any = None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.exr"
        path.write_bytes(data)
        try:
            header = OpenEXR.File(str(path), separate_channels=True, header_only=True)
            name, problem = _choose_channel(header, size, channel)
            if not problem:
                image = OpenEXR.File(str(path), separate_channels=True)
                pixels = image.channels()[name].pixels
        except _DAMAGE:
            problem = f"expected a whole OpenEXR file, got {len(data)} bytes that are damaged"
    if not problem and (pixels.shape != size or pixels.dtype.kind != "f"):
        problem = f"expected half or float values, got {pixels.dtype}"
    if problem:
        raise ValueError(f"{where}: {problem}")
    return np.asarray(pixels, np.float32)


def _choose_channel(file: Any, size: tuple[int, int], wanted: str | None) -> tuple[str, str]:
    """Returns the channel to read and what is wrong with the header, or ""."""
    if len(file.parts) != 1:
        return "", f"expected an OpenEXR file of one part, got {len(file.parts)}"
    header = file.parts[0].header
    (left, top), (right, bottom) = (tuple(map(int, end)) for end in header["dataWindow"])
    got = (bottom - top + 1, right - left + 1)
    if got != size:
        return "", (
            f"expected {size[0]} x {size[1]} values (height x width), as the image has pixels, "
            f"got {got[0]} x {got[1]}"
        )
    channels = {entry.name: entry for entry in header["channels"]}
    names = ", ".join(sorted(channels)[:_MAX_CHANNELS])
    if not 0 < len(channels) <= _MAX_CHANNELS:
        return "", f"expected 1 to {_MAX_CHANNELS} channels, got {len(channels)}"
    if wanted is None and len(channels) > 1:
        return "", f"expected one channel, or the name of which to read, got {names}"
    name = next(iter(channels)) if wanted is None else wanted
    if name not in channels:
        return "", f"expected a channel {name!r}, got {names}"
    if (channels[name].xSampling, channels[name].ySampling) != (1, 1):
        return "", f"expected channel {name!r} at full size, got a subsampled one"
    return name, ""
