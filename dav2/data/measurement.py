"""Reads one sample and says what a manifest should hold of it, whatever its state."""

import hashlib
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from dav2.data.files import sha256_of
from dav2.data.manifest import MANIFEST_SCHEMA
from dav2.data.sample import Reader, SampleFiles
from dav2.data.statistics import depth_statistics, image_statistics

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
    )
)
"""The columns of a manifest that come from a sample's bytes."""


def measure_sample(reader: Reader, files: SampleFiles, *, root: Path) -> dict[str, Any]:
    """Returns the measured columns of one sample.

    A sample that cannot be read has a one-line `reason` with paths relative to the root, and
    whatever else could be determined.

    Args:
        reader: Reader of the dataset under `root`.
        files: One of its samples.
        root: Folder of the dataset.
    """
    row: dict[str, Any] = dict.fromkeys(MEASURED_COLUMNS)
    try:
        row["image_hash"] = _hash_of(root / files.image)
        row["content_hash"] = _content_hash(root, files)
        row["bytes"] = sum(
            (root / name).stat().st_size for name in (files.image, files.depth) if name
        )
        sample = reader.read(files)
        row |= asdict(image_statistics(sample.image))
        row["height"], row["width"] = sample.image.shape[:2]
        if sample.depth is not None:
            row |= asdict(depth_statistics(sample))
    except (ValueError, OSError) as error:
        row["reason"] = _reason(error, root)
        row |= _image_alone(reader, files)
    return row


def _image_alone(reader: Reader, files: SampleFiles) -> dict[str, Any]:
    try:
        image = reader.read_image(files)
    except (ValueError, OSError):
        return {}
    return {"height": image.shape[0], "width": image.shape[1], **asdict(image_statistics(image))}


def _content_hash(root: Path, files: SampleFiles) -> str:
    """Returns a SHA-256 over the digests of all files in the order image, depth, others."""
    names = [files.image, *([files.depth] if files.depth else []), *files.extra]
    digest = hashlib.sha256()
    for name in names:
        digest.update(_hash_of(root / name).encode())
    return digest.hexdigest()


def _hash_of(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a file, got nothing there")
    status = path.stat()
    return _file_hash(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=16)
def _file_hash(path: Path, size: int, mtime_ns: int) -> str:
    """Remembers the last few: tables and annotations belong to every sample of a dataset."""
    return sha256_of(path)


def _reason(error: ValueError | OSError, root: Path) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        where = error.filename or "a file"
        text = f"{where}: expected a readable file, got {error.strerror}"
    else:
        text = str(error)
    return " ".join(text.replace(f"{root}/", "").split())
