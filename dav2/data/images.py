"""Image files to upright RGB and back, refused by their header before any decoder runs.

Axes: H height, W width (pixels, upright).
"""

import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

MAX_PIXELS = 100_000_000
"""Larger images are refused by default: a decompression bomb of 630 kB decodes to 324 MP."""

_ORIENTATION_TAG = 0x0112
_EXIF_IFD = 0x8769
_FOCAL_35MM_TAG = 0xA405
# EXIF 2.32, table 6: what turns the stored picture upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_JPEG_START = b"\xff\xd8\xff"
_PNG_END = b"IEND\xaeB`\x82"
# What Pillow's plugins let through on damaged files, found by cutting and flipping bytes.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What an image file says of itself."""

    format: str
    """JPEG, PNG or WEBP."""
    mode: str
    """Channels as stored, by Pillow's names: RGB, L (grey), CMYK, RGBA, P (palette), I;16, ..."""
    height: int
    """Of the upright image, pixels."""
    width: int
    orientation: int
    """EXIF's, 1 to 8; 1 where there is none, a damaged one, or one behind the pixels of a PNG."""
    focal_35mm: float | None
    """EXIF's focal length for a frame of 36 x 24 mm, in millimetres; None where it is not told."""


class EncodedImage:
    """An image file whose header has been read; nothing else is decoded until asked for."""

    def __init__(
        self, data: bytes, *, max_pixels: int = MAX_PIXELS, where: str = "image bytes"
    ) -> None:
        """Reads the header.

        Args:
            data: JPEG, PNG or WebP, told by its first bytes, whatever its name.
            max_pixels: Largest accepted H x W.
            where: Name of the bytes, for messages.

        Raises:
            ValueError: If it is no such image, too large, or its header is damaged.
        """
        self._picture = _open(data, where, max_pixels)
        self._data = data
        self._where = where

    def header(self) -> ImageHeader:
        """Returns what the file says of itself, without decoding it."""
        picture = self._picture
        try:
            # Pillow would decode a PNG to look for EXIF behind its pixels.
            is_early = picture.format != "PNG" or "exif" in picture.info
            tags = picture.getexif() if is_early else Image.Exif()
            orientation = tags.get(_ORIENTATION_TAG, 1)
            focal = tags.get_ifd(_EXIF_IFD).get(_FOCAL_35MM_TAG)
        except _DAMAGE:
            orientation, focal = 1, None
        turned = orientation in _UPRIGHT
        width, height = picture.size if not turned or orientation < 5 else picture.size[::-1]
        return ImageHeader(
            format=str(picture.format),
            mode=picture.mode,
            height=height,
            width=width,
            orientation=orientation if turned else 1,
            focal_35mm=float(focal) if isinstance(focal, int | float) and 0 < focal < 1e4 else None,
        )

    def decode(self, *, at_least_px: int | None = None) -> UInt8[np.ndarray, "H W 3"]:
        """Returns the image as `decode_image`; once only, as it takes the header apart."""
        picture = self._picture
        try:
            if at_least_px is not None:
                picture.draft(None, (at_least_px, at_least_px))
            picture.load()
            if picture.format == "PNG" and _PNG_END not in self._data:
                raise OSError("Pillow accepts a PNG whose last bytes are missing")
        except _DAMAGE:
            raise ValueError(
                f"{self._where}: expected a whole {picture.format} image, "
                f"got one of {len(self._data)} bytes that is truncated or damaged"
            ) from None
        return _to_rgb(_upright(picture))


def decode_image(
    source: Path | bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    where: str = "image bytes",
    at_least_px: int | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """Returns an image file as upright RGB.

    JPEG, PNG and WebP, told by their first bytes, whatever the name. EXIF orientation is applied; a
    damaged EXIF block counts as none. Grey is repeated, CMYK converted, 16 bits are cut to the
    upper 8, alpha is dropped (as OpenCV does, and with it the authors' code); of an animation the
    first frame is read.

    Args:
        source: The file, or its bytes.
        max_pixels: Largest accepted H x W, checked before anything is decoded.
        where: Name of the bytes, for messages.
        at_least_px: Where full size is not needed: a JPEG may come 2, 4 or 8 times smaller, as
            libjpeg decodes it faster, with a shorter side of at least this; None for full size.

    Raises:
        FileNotFoundError: If `source` is a path without a file.
        ValueError: If it is no such image, too large, truncated or damaged.
    """
    where = where if isinstance(source, bytes) else str(source)
    if isinstance(source, Path) and not source.is_file():
        raise FileNotFoundError(f"{where}: expected an image file, got nothing there")
    data = source if isinstance(source, bytes) else source.read_bytes()
    return EncodedImage(data, max_pixels=max_pixels, where=where).decode(at_least_px=at_least_px)


def is_jpeg(data: bytes) -> bool:
    """Returns whether bytes start as a JPEG does."""
    return data.startswith(_JPEG_START)


def encode_jpeg(image: UInt8[np.ndarray, "H W 3"], *, quality: int) -> bytes:
    """Returns an RGB image as a baseline JPEG (4:2:0) without metadata.

    Args:
        image: Upright RGB.
        quality: 1 to 95 in libjpeg's scale.

    Raises:
        ValueError: If `quality` is outside 1 to 95.
    """
    if not 1 <= quality <= 95:
        raise ValueError(f"encode_jpeg: expected quality 1 to 95, got {quality}")
    stream = BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality, subsampling="4:2:0")
    return stream.getvalue()


def _open(data: bytes, where: str, max_pixels: int) -> ImageFile.ImageFile:
    """Reads the header only. Pillow's own `open` is avoided: its limits are process-wide."""
    opener: type[ImageFile.ImageFile]
    if is_jpeg(data):
        opener = JpegImagePlugin.JpegImageFile
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        opener = PngImagePlugin.PngImageFile
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        # The plugin allocates the canvas while it opens the file.
        _check_size(_webp_size(data, where), where, max_pixels)
        opener = WebPImagePlugin.WebPImageFile
    else:
        got = f"{len(data)} bytes that start with {data[:8]!r}" if data else "an empty file"
        raise ValueError(f"{where}: expected a JPEG, PNG or WebP image, got {got}")
    try:
        picture = opener(BytesIO(data))
    except _DAMAGE:
        raise ValueError(
            f"{where}: expected a readable {opener.format} header, got a damaged one "
            f"({len(data)} bytes)"
        ) from None
    _check_size(picture.size, where, max_pixels)
    return picture


def _check_size(size: tuple[int, int], where: str, max_pixels: int) -> None:
    width, height = size
    if not 0 < width * height <= max_pixels:
        raise ValueError(
            f"{where}: expected an image of 1 to {max_pixels} pixels, got {width} x {height}"
        )


def _webp_size(data: bytes, where: str) -> tuple[int, int]:
    """Returns width and height by the WebP container specification (RFC 9649)."""
    kind, body = data[12:16], data[20:30]
    if kind == b"VP8X" and len(body) == 10:
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L" and len(body) >= 5:
        packed = int.from_bytes(body[1:5], "little")
        return 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    if kind == b"VP8 " and len(body) == 10:
        width, height = struct.unpack("<HH", body[6:10])
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError(f"{where}: expected a readable WEBP header, got a damaged one")


def _upright(picture: Image.Image) -> Image.Image:
    try:
        orientation = picture.getexif().get(_ORIENTATION_TAG, 1)
    except _DAMAGE:
        return picture
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return picture if turn is None else picture.transpose(turn)


def _to_rgb(picture: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    if picture.mode in ("I;16", "I;16B", "I;16L", "I"):
        grey = (np.asarray(picture).astype(np.uint32) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if picture.mode == "P":
        # Through RGBA, as the palette may hold its own transparency.
        picture = picture.convert("RGBA")
    if picture.mode != "RGB":  # Pillow would copy it
        picture = picture.convert("RGB")
    return np.array(picture)  # a copy: torch warns of arrays that are read-only
