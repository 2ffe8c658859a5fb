"""What an image's header says of its size and camera: nothing is decoded.

Axes: H height, W width (pixels, upright).
"""

import math
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

_FORMATS = ("JPEG", "PNG", "WEBP")
# EXIF 2.32: tables 4 and 8.
_ORIENTATION_TAG = 0x0112
_EXIF_FOLDER_TAG = 0x8769
_FOCAL_LENGTH_35MM_TAG = 0xA405
_LYING_ORIENTATIONS = (5, 6, 7, 8)
# What Pillow lets through on damaged metadata.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of an image before it is decoded."""

    size: tuple[int, int] | None = None
    """Height and width, upright; None where the header does not tell."""
    focal_35mm: float | None = None
    """Focal length in millimetres of a 35 mm film of the same diagonal; None where unknown."""


def read_header(path: Path) -> Header:
    """Returns what a file's header tells; an unreadable file tells nothing and is no error here."""
    try:
        with warnings.catch_warnings():
            # Of large images: the decoder has a limit of its own.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(path, formats=_FORMATS)
    except _DAMAGE:
        return Header()
    with picture:
        height, width = picture.height, picture.width
        orientation, focal_35mm = _read_exif(picture)
    lies = orientation in _LYING_ORIENTATIONS
    return Header((width, height) if lies else (height, width), focal_35mm)


def _read_exif(picture: Image.Image) -> tuple[object, float | None]:
    if picture.format == "PNG" and "exif" not in picture.info:
        return None, None  # Pillow would decode it all to look for a block behind the pixels
    try:
        exif = picture.getexif()
        focal = exif.get_ifd(_EXIF_FOLDER_TAG).get(_FOCAL_LENGTH_35MM_TAG)
        # The standard writes 0 for unknown.
        focal_35mm = float(focal) if focal else 0.0
        return exif.get(_ORIENTATION_TAG), focal_35mm if 0 < focal_35mm < math.inf else None
    except _DAMAGE:
        return None, None
