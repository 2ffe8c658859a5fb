"""What the readers of datasets share: files by path, images, and checks of what was found.

Axes: H height, W width (pixels).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Real, UInt8

from dav2.data.images import MAX_PIXELS, decode_image
from dav2.data.sample import DepthSample, SampleFiles
from dav2.data.storage import Storage, open_storage

Options = TypeVar("Options")


@dataclass(frozen=True, slots=True)
class NoOptions:
    """Of readers that leave no choice."""


class FileReader:
    """The base of readers whose images are files, or members of tars."""

    def __init__(self, root: Path | str | Storage, *, max_pixels: int = MAX_PIXELS) -> None:
        """Prepares to read; opens nothing.

        Args:
            root: The dataset as published: a folder, `s3://bucket/prefix`, or opened storage.
            max_pixels: Larger images are refused by their header.
        """
        self._storage = open_storage(root)
        self._max_pixels = max_pixels

    def read_bytes(self, path: str) -> bytes:
        """Returns the bytes of a sample's file, or of the part that its path names."""
        return self._storage.read(path)

    def read_image(self, files: SampleFiles) -> UInt8[np.ndarray, "H W 3"]:
        """Returns the sample's image alone, upright RGB."""
        return decode_image(
            self.read_bytes(files.image),
            max_pixels=self._max_pixels,
            where=self._storage.where(files.image),
        )

    def _check_root(self) -> None:
        """Raises `FileNotFoundError` if the root is no folder, or a prefix without files."""
        next(self._storage.list_files(), None)

    def _refuse_split(self, split: str, *known: str) -> None:
        """Raises `ValueError` unless the split is one of those that the dataset has."""
        if split not in known:
            names = " or ".join(repr(name) for name in known)
            raise ValueError(f"{self._storage.where()}: expected split {names}, got {split!r}")


def unlabelled(
    files: SampleFiles, image: UInt8[np.ndarray, "H W 3"], *, dataset: str
) -> DepthSample:
    """Returns the sample of a photograph that has no depth."""
    return DepthSample(
        sample_id=files.sample_id,
        dataset=dataset,
        scene=files.scene,
        image=image,
        depth=None,
        valid=None,
        sky=None,
        intrinsics=None,
    )


def check_measured(
    stored: Real[np.ndarray, "H W"],
    valid: Bool[np.ndarray, "H W"],
    sky: Bool[np.ndarray, "H W"] | None,
    *,
    where: str,
) -> None:
    """Refuses a depth map in which nothing was measured; one that shows sky alone is let pass.

    Args:
        stored: What the file holds: depth, distance or disparity.
        valid: True where measured.
        sky: True where the source says sky.
        where: The depth file, for the message.

    Raises:
        ValueError: If no pixel is measured; says whether all are NaN, zero, or otherwise unusable.
    """
    below = np.ones_like(valid) if sky is None else ~sky
    if not below.any() or (valid & below).any():
        return
    if np.isnan(stored[below]).all():
        got = "NaN alone"
    elif not stored[below].any():
        got = "zeros alone"
    else:
        got = f"no usable value in {below.sum()} pixels"
    raise ValueError(f"{where}: expected depth with at least one measured pixel, got {got}")


def check_samples(samples: Iterable[SampleFiles], *, where: str, split: str) -> list[SampleFiles]:
    """Returns `samples` sorted by id; raises `ValueError` if there are none."""
    ordered = sorted(samples, key=lambda files: files.sample_id)
    if not ordered:
        raise ValueError(f"{where}: expected samples of split {split!r}, got none")
    return ordered


def stream_samples(
    samples: Iterable[SampleFiles], *, where: str, split: str
) -> Iterator[SampleFiles]:
    """Yields `samples` as they come, for sets too large to hold; raises if there are none."""
    found = False
    for sample in samples:
        found = True
        yield sample
    if not found:
        raise ValueError(f"{where}: expected samples of split {split!r}, got none")


def check_count(samples: list[SampleFiles], published: int, *, where: str, split: str) -> None:
    """Refuses a split that has more or fewer samples than the published one.

    Called where the data claims to be complete: where it brings the official list.

    Raises:
        ValueError: If the count differs.
    """
    if len(samples) != published:
        raise ValueError(
            f"{where}: expected the {published} samples of the published split {split!r}, "
            f"got {len(samples)}"
        )


def decode_text(data: bytes, *, where: str) -> str:
    """Returns the text of a table or a list; raises `ValueError` if it is not UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{where}: expected text in UTF-8, got other bytes") from None


def reader_options(kind: type[Options], values: Mapping[str, Any], *, where: str) -> Options:
    """Returns a reader's options from params.yaml as its own frozen dataclass.

    Args:
        kind: The dataclass; checks its values itself.
        values: By name.
        where: Root of the source, for the message.

    Raises:
        ValueError: If a name is unknown or missing, or a value does not fit.
    """
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(values) - known):
        raise ValueError(
            f"{where}: expected options of the reader ({', '.join(sorted(known)) or 'none'}), "
            f"got {unknown[0]!r}"
        )
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"{where}: options: {error}") from None
    except ValueError as error:
        raise ValueError(f"{where}: options: {error}") from None
