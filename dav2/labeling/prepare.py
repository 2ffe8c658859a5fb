"""Brings photographs to the teacher's size and to the shard's.

Axes: B batch, H, W pixels of the image, h, w pixels of the teacher's input.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from dav2.data.images import EncodedImage, encode_jpeg, is_jpeg
from dav2.data.open import ManifestReader, SourceLocation
from dav2.data.transforms import prepare_size, resize_image
from dav2.labeling.codec import CodecName

_COLUMNS = ["sample_id", "source", "image", "height", "width"]
_SCALES = (1, 2, 4, 8)  # of libjpeg, as Pillow asks for them


@dataclass(frozen=True, slots=True)
class LabelingOptions:
    """The choices that decide a label's bytes."""

    short_side_px: int
    """Short side of the teacher's input, a multiple of 14; nothing is cropped."""
    jpeg_scaling: bool
    """Whether libjpeg decodes a large photograph at a half, a quarter or an eighth of its sides, as
    far as neither the teacher nor the shard needs more: other pixels, at less time."""
    image_short_side_px: int
    """Largest short side of an image in a shard; larger ones are reduced to it."""
    jpeg_quality: int
    """Of images that are encoded anew."""
    max_aspect_ratio: float
    """Longer side over shorter side; an image above it is quarantined."""
    batch_size: int
    """Images of one size that pass through the teacher together."""
    check_fraction: float
    """Share of samples whose label is compared with that of the mirrored image, and with that of
    the image at another resolution."""
    check_scale: float | None
    """Short side of that other resolution as a multiple of `short_side_px`; None: no such check."""
    codec: CodecName
    dtype: Literal["float32", "bfloat16"]
    """Arithmetic of the teacher's matrix products."""
    compile: bool
    """Whether the teacher is compiled for each shape of a whole batch (`Labeler`)."""


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """An image on its way to the teacher."""

    sample_id: str
    source: str
    jpeg: bytes
    """As it will stand in the shard."""
    jpeg_size: tuple[int, int]
    """Height and width of the image in the shard, pixels."""
    label_size: tuple[int, int]
    """Height and width of the label, pixels."""
    teacher_input: UInt8[np.ndarray, "h w 3"]
    is_checked: bool
    """Whether the label is compared with other answers of the teacher."""
    rescaled_input: UInt8[np.ndarray, "_ _ 3"] | None
    """At the other resolution, if there is such a check of this sample."""


class Preparer:
    """Reads images and brings them to the teacher's and to the shard's size; safe in threads."""

    def __init__(
        self,
        manifest: pd.DataFrame,
        sources: Mapping[str, SourceLocation],
        options: LabelingOptions,
    ) -> None:
        self._reader = ManifestReader(manifest, sources)
        self._rows = cast("list[dict[str, Any]]", manifest[_COLUMNS].to_dict("records"))
        self._options = options
        self._at_least_px = _needed_px(options) if options.jpeg_scaling else None

    def size_of(self, row: int) -> tuple[int, int]:
        """Returns the teacher's input size of a place in the manifest; (0, 0) if it is refused."""
        height, width = self._rows[row]["height"], self._rows[row]["width"]
        if not _has_allowed_shape(height, width, self._options.max_aspect_ratio):
            return 0, 0
        return prepare_size(height, width, short_side_px=self._options.short_side_px)

    def prepare(self, row: int) -> PreparedImage:
        """Returns the image at a place of the manifest, ready for the teacher and for the shard.

        Raises:
            ValueError: If it cannot be decoded, differs in size from its row, or is too elongated.
            ChangedFileError: If it is not the file that was ingested.
            OSError: If the file cannot be read.
        """
        entry, options = self._rows[row], self._options
        if self.size_of(row) == (0, 0):
            raise ValueError(
                f"{entry['image']}: expected sides of 1 px or more and an aspect ratio of at most "
                f"{options.max_aspect_ratio}, got {entry['height']} x {entry['width']} px"
            )
        image, data = self._reader.read_ingested(row, at_least_px=self._at_least_px)
        size = height, width = entry["height"], entry["width"]
        scales = (1,) if self._at_least_px is None else _SCALES
        if image.shape[:2] not in {(-(-height // scale), -(-width // scale)) for scale in scales}:
            raise ValueError(
                f"{entry['image']}: expected {height} x {width} px as in the manifest, "
                f"got {image.shape[0]} x {image.shape[1]} px"
            )
        jpeg, jpeg_size = self._jpeg(data, image, size)
        short_side_px = min(options.image_short_side_px, height, width)
        is_checked = _is_chosen(entry["sample_id"], options.check_fraction)
        return PreparedImage(
            sample_id=entry["sample_id"],
            source=entry["source"],
            jpeg=jpeg,
            jpeg_size=jpeg_size,
            label_size=prepare_size(height, width, short_side_px=short_side_px),
            teacher_input=resize_image(image, self.size_of(row)),
            is_checked=is_checked,
            rescaled_input=self._rescaled(image, size) if is_checked else None,
        )

    def _rescaled(
        self, image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]
    ) -> UInt8[np.ndarray, "_ _ 3"] | None:
        scale = self._options.check_scale
        if scale is None:
            return None
        short_side_px = max(1, round(scale * self._options.short_side_px))
        return resize_image(image, prepare_size(*size, short_side_px=short_side_px))

    def _jpeg(
        self, data: bytes, image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]
    ) -> tuple[bytes, tuple[int, int]]:
        height, width = size
        limit = self._options.image_short_side_px
        if min(height, width) > limit:
            factor = limit / min(height, width)
            height, width = (max(1, round(side * factor)) for side in (height, width))
            image = resize_image(image, (height, width))
        elif len(data) <= 3 * height * width and _is_upright_jpeg(data, max_pixels=height * width):
            return data, (height, width)
        return encode_jpeg(image, quality=self._options.jpeg_quality), (height, width)


def _needed_px(options: LabelingOptions) -> int:
    """Returns the shortest side that serves the teacher at each resolution, and the shard."""
    seen = options.short_side_px * max(1.0, options.check_scale or 1.0)
    return max(math.ceil(seen), options.image_short_side_px)


def _is_chosen(sample_id: str, fraction: float) -> bool:
    digest = hashlib.sha256(f"flip {sample_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64


def _has_allowed_shape(height: int, width: int, max_aspect_ratio: float) -> bool:
    return min(height, width) > 0 and max(height, width) <= max_aspect_ratio * min(height, width)


def _is_upright_jpeg(data: bytes, *, max_pixels: int) -> bool:
    """Returns whether bytes are a JPEG that shows the image as it is decoded."""
    if not is_jpeg(data):
        return False
    header = EncodedImage(data, max_pixels=max_pixels).header()
    return header.mode == "RGB" and header.orientation == 1
