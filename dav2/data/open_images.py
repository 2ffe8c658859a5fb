"""Open Images V7 (Kuznetsova et al. 2020, arXiv:1811.00982): photographs by subset.

Axes: H height, W width (pixels).
The bucket of the release offers the images with boxes (1.74 million in training, longer side up to
1024 pixels) as `train_0.tar.gz` to `train_f.tar.gz`, to be gunzipped, with `<id>.jpg` inside; all
9 million are listed by address only, many of which no longer answer.
Unverified: whether the tars hold a folder of their own name; both forms are read.
"""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from jaxtyping import UInt64

from dav2.data.images import MAX_PIXELS
from dav2.data.option_values import check_text
from dav2.data.photographs import PhotographReader
from dav2.data.reader import stream_samples
from dav2.data.sample import SampleFiles
from dav2.data.storage import Storage

_SPLITS = ("train", "validation", "test")
_COLUMNS = ("ImageID", "Subset")
_IMAGE_ID = re.compile(r"[0-9a-f]{16}")
_CHUNK = 65_536


@dataclass(frozen=True, slots=True)
class OpenImagesOptions:
    """How subsets are told."""

    listing: str | None = None
    """CSV file below the root with columns ImageID and Subset, such as
    `train-images-boxable-with-rotation.csv`. None: the folder or tar tells the subset."""

    def __post_init__(self) -> None:
        """Checks what came from a file."""
        if self.listing is not None:
            check_text(self.listing, name="listing")


class OpenImages(PhotographReader):
    """Reads `<id>.jpg` in `<subset>/`, `<subset>_X/` and tars `<subset>_X.tar`, in place.

    Subsets are `train`, `validation` and `test`. With a listing, the photographs may lie anywhere,
    and those are read that it gives to the subset; it costs 8 bytes of memory an image. Which of
    its images were found is not checked: nobody holds all of them. The `Rotation` of the listing
    is not applied, as that of EXIF is.
    """

    _dataset = "open_images"
    _layout = "<id>.jpg, 16 hexadecimal digits, in a folder or a tar named after the subset"
    _pattern = re.compile(
        r"(?:.+/)?(?P<scene>(?P<split>train|validation|test)(?:_[0-9a-f])?)/"
        r"(?P<id>[0-9a-f]{16})\.jpg"
    )

    def __init__(
        self,
        root: Path | str | Storage,
        *,
        max_pixels: int = MAX_PIXELS,
        options: OpenImagesOptions = OpenImagesOptions(),
    ) -> None:
        """Prepares to read; opens nothing."""
        super().__init__(root, max_pixels=max_pixels)
        self._listing = options.listing
        if self._listing is not None:
            self._layout = "<id>.jpg, 16 hexadecimal digits"
            self._pattern = re.compile(r"(?:(?P<scene>.+)/)?(?P<id>[0-9a-f]{16})\.jpg")

    def list_samples(self, split: str) -> Iterator[SampleFiles]:
        """Yields the photographs of a subset: `train`, `validation` or `test`."""
        self._refuse_split(split, *_SPLITS)
        if self._listing is None:
            return self._stream(split)
        return stream_samples(
            self._listed(self._listing, split), where=self._storage.where(), split=split
        )

    def _listed(self, listing: str, split: str) -> Iterator[SampleFiles]:
        self._check_root()
        wanted = self._read_listing(listing, split)
        for files in self._matching(split, folder=""):
            number = np.uint64(int(files.sample_id, 16))
            place = int(np.searchsorted(wanted, number))
            if place < len(wanted) and wanted[place] == number:
                yield files

    def _read_listing(self, listing: str, split: str) -> UInt64[np.ndarray, " images"]:
        """Returns the ids of a subset as sorted numbers."""
        where = self._storage.where(listing)
        chunks: list[UInt64[np.ndarray, " chunk"]] = []
        waiting: list[int] = []
        try:
            with self._storage.open(listing) as stream:
                text = io.TextIOWrapper(cast("io.BufferedReader", stream), "utf-8-sig", newline="")
                rows = csv.DictReader(text)
                if missing := [name for name in _COLUMNS if name not in (rows.fieldnames or [])]:
                    raise ValueError(f"expected a column {missing[0]}, got none of that name")
                for row in rows:
                    if not _IMAGE_ID.fullmatch(row["ImageID"] or ""):
                        raise ValueError(f"expected ids of 16 digits, got {row['ImageID']!r:.40}")
                    if row["Subset"] == split:
                        waiting.append(int(row["ImageID"], 16))
                    if len(waiting) == _CHUNK:
                        chunks.append(np.array(waiting, np.uint64))
                        waiting = []
        except UnicodeDecodeError:
            raise ValueError(f"{where}: expected text in UTF-8, got other bytes") from None
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{where}: {error}") from None
        return np.sort(np.concatenate([*chunks, np.array(waiting, np.uint64)]))
