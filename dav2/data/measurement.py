"""Reads one sample and says what a manifest should hold of it, whatever its state."""

import hashlib
from dataclasses import fields
from typing import Any

from dav2.data.consistency import ConsistencyStatistics, consistency_statistics
from dav2.data.images import EncodedImage, ImageHeader
from dav2.data.manifest import MANIFEST_SCHEMA
from dav2.data.sample import Reader, SampleFiles
from dav2.data.statistics import (
    DepthStatistics,
    ImageStatistics,
    depth_statistics,
    image_statistics,
)

_STATISTICS_SIDE_PX = 80  # shorter side that statistics of a large photograph are taken at
MEASURED_COLUMNS = tuple(
    name
    for name in MANIFEST_SCHEMA.names
    if name
    not in (
        "sample_id",
        "source",
        "dataset",
        "domain",
        "split",
        "scene",
        "image",
        "depth",
        "extra",
        "decoder",
        "nearest_bits",
    )
)
"""The columns of a manifest that come from a sample's bytes."""


def measure_sample(
    reader: Reader, files: SampleFiles, *, where: str, max_pixels: int
) -> dict[str, Any]:
    """Returns the measured columns of one sample.

    A sample that cannot be read has a one-line `reason` with paths relative to the root, and
    whatever else could be determined.

    Args:
        reader: Reader of the dataset; over remembering storage, each file is read once.
        files: One of its samples.
        where: The root's full name, which reasons leave out.
        max_pixels: Larger images are refused, as by the reader.
    """
    row: dict[str, Any] = dict.fromkeys(MEASURED_COLUMNS)
    try:
        encoded = _encoded(_contents(reader, files, row), files.image, max_pixels)
        header = encoded.header() if encoded is not None else None
        if header is not None:
            row |= {
                "image_format": header.format,
                "image_mode": header.mode,
                "exif_orientation": header.orientation,
                "exif_focal_35mm": header.focal_35mm,
            }
        if encoded is not None and header is not None and _may_be_reduced(files, header):
            row |= {"height": header.height, "width": header.width}
            image = encoded.decode(at_least_px=statistics_side_px(header))
            row |= _columns(image_statistics(image))
        else:
            sample = reader.read(files)
            row["height"], row["width"] = sample.image.shape[:2]
            row |= _columns(image_statistics(sample.image))
            if sample.depth is not None:
                row |= _columns(depth_statistics(sample)) | _columns(consistency_statistics(sample))
    except (ValueError, OSError) as error:
        row["reason"] = _reason(error, where)
        if row["image_hash"] is not None and (files.depth or files.extra):
            row |= _image_alone(reader, files)
    return row


def statistics_side_px(header: ImageHeader) -> int | None:
    """Returns the shorter side that statistics of an image need at least; None for full size."""
    is_large = min(header.height, header.width) >= 2 * _STATISTICS_SIDE_PX
    return _STATISTICS_SIDE_PX if header.format == "JPEG" and is_large else None


def _encoded(data: bytes, path: str, max_pixels: int) -> EncodedImage | None:
    """Returns an image file; None if it is none that the reader would take as it is."""
    try:
        return EncodedImage(data, max_pixels=max_pixels, where=path)
    except ValueError:
        return None


def _may_be_reduced(files: SampleFiles, header: ImageHeader) -> bool:
    """Returns whether a sample is one large JPEG alone: nothing needs its full size."""
    return statistics_side_px(header) is not None and files.is_image_alone


def _contents(reader: Reader, files: SampleFiles, row: dict[str, Any]) -> bytes:
    """Fills in size and hashes; returns the image's bytes.

    `content_hash` is over the digests of image, depth and others, in this order.
    """
    image = reader.read_bytes(files.image)
    row["image_hash"] = hashlib.sha256(image).hexdigest()
    depth = [reader.read_bytes(files.depth)] if files.depth else []
    others = [reader.read_bytes(name) for name in files.extra]
    digests = [hashlib.sha256(content).hexdigest() for content in (*depth, *others)]
    text = "".join([row["image_hash"], *digests])
    row["content_hash"] = hashlib.sha256(text.encode()).hexdigest()
    row["bytes"] = len(image) + sum(map(len, depth))
    return image


def _columns(
    statistics: ImageStatistics | DepthStatistics | ConsistencyStatistics,
) -> dict[str, Any]:
    """Returns statistics by name; `asdict` takes ten times as long, as it copies what it finds."""
    return {field.name: getattr(statistics, field.name) for field in fields(statistics)}


def _image_alone(reader: Reader, files: SampleFiles) -> dict[str, Any]:
    try:
        image = reader.read_image(files)
    except (ValueError, OSError):
        return {}
    return {"height": image.shape[0], "width": image.shape[1], **_columns(image_statistics(image))}


def _reason(error: ValueError | OSError, root: str) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        where = error.filename or "a file"
        text = f"{where}: expected a readable file, got {error.strerror}"
    else:
        text = str(error)
    return " ".join(text.replace(f"{root}/", "").split())
