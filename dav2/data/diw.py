"""Depth in the Wild (Chen et al. 2016, arXiv:1604.03901): photographs with one ordered pair each.

Axes: H height, W width (pixels).
A list takes two lines for a photograph: its path, and `y_A,x_A,y_B,x_B,relation,width,height`.
Points count from 1; the relation `>` says that A is farther away than B, `<` that it is closer.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import cast

from dav2.data.da2k import PointPair
from dav2.data.images import MAX_PIXELS
from dav2.data.option_values import check_text
from dav2.data.reader import FileReader, decode_text, stream_samples, unlabelled
from dav2.data.sample import DepthSample, SampleFiles
from dav2.data.storage import Storage

_MAX_LINE_BYTES = 4096
_PAIR = re.compile(r"(\d{1,6}),(\d{1,6}),(\d{1,6}),(\d{1,6}),([<>]),(\d{1,6}),(\d{1,6})")
_ENTRY = re.compile(r"(?P<listing>.+\.csv)#(?P<first>\d{1,12})\+(?P<count>\d{1,4})")


@dataclass(frozen=True, slots=True)
class DiwOptions:
    """Where the lists lie."""

    annotations: str = "DIW_Annotations"
    """Folder of `DIW_train.csv`, `DIW_val.csv` and `DIW_test.csv`, relative to the root."""

    def __post_init__(self) -> None:
        check_text(self.annotations, name="annotations")


class Diw(FileReader):
    """Reads `DIW_Annotations/DIW_<split>.csv` and the photographs that it names.

    Those lie in `DIW_test/` and `DIW_train_val/` and end in `.thumb`, whatever their format. Splits
    are `train`, `val` and `test`. A sample's further file is its entry of the list, named by its
    place, `DIW_Annotations/DIW_test.csv#<first byte>+<bytes>`, so that nothing grows with the list.
    Neither the number of entries (some 420,000 for training, 74,441 for testing) nor that a
    photograph is listed once is checked.

    Unverified: the order of width and height in an entry; one of the two must be the photograph's.
    """

    def __init__(
        self,
        root: Path | str | Storage,
        *,
        max_pixels: int = MAX_PIXELS,
        options: DiwOptions = DiwOptions(),
    ) -> None:
        """Prepares to read; opens nothing."""
        super().__init__(root, max_pixels=max_pixels)
        self._annotations = options.annotations

    def list_samples(self, split: str) -> Iterator[SampleFiles]:
        """Yields the listed photographs in the list's order."""
        next(self._storage.list_files())  # a missing root is told before a missing list
        self._refuse_split(split, "train", "val", "test")
        listing = f"{self._annotations}/DIW_{split}.csv"
        return stream_samples(self._list(listing), where=self._storage.where(listing), split=split)

    def read(self, files: SampleFiles) -> DepthSample:
        """Returns the photograph; it has no depth map. Checks that its pair lies inside it."""
        image = self.read_image(files)
        self.pairs(files, size=(image.shape[0], image.shape[1]))
        return unlabelled(files, image, dataset="diw")

    def read_bytes(self, path: str) -> bytes:
        """Returns the bytes of a photograph, or those of one entry of a list."""
        entry = _ENTRY.fullmatch(path)
        if entry is None:
            return super().read_bytes(path)
        with self._storage.open(entry["listing"]) as stream:
            stream.seek(int(entry["first"]))
            return stream.read(int(entry["count"]))

    def pairs(self, files: SampleFiles, *, size: tuple[int, int]) -> list[PointPair]:
        """Returns the pair of one photograph.

        Args:
            files: A listed sample.
            size: Height and width of the upright image.

        Raises:
            ValueError: If the list has changed since, or the pair does not fit the image.
        """
        where = self._storage.where(files.extra[0])
        name, _, text = decode_text(self.read_bytes(files.extra[0]), where=where).partition("\n")
        pair = _PAIR.fullmatch(text.strip())
        if pair is None or str(PurePosixPath(name.strip())) != files.image:
            raise ValueError(
                f"{where}: expected {files.image} and y_A,x_A,y_B,x_B,relation,width,height, "
                f"got {name.strip()!r:.100} and {text.strip()!r:.100}"
            )
        first, second = ((int(pair[i]) - 1, int(pair[i + 1]) - 1) for i in (1, 3))
        stated = (int(pair[7]), int(pair[6]))
        if size not in (stated, stated[::-1]):
            raise ValueError(
                f"{where}: expected points in an image of {size[0]} x {size[1]} (height x width), "
                f"got {stated[0]} x {stated[1]}"
            )
        for row, column in (first, second):
            if not (0 <= row < size[0] and 0 <= column < size[1]):
                raise ValueError(
                    f"{where}: expected points inside {size[0]} x {size[1]} (height x width), "
                    f"got [{row}, {column}]"
                )
        if pair[5] == "<":
            return [PointPair(closer=first, farther=second, first_is_closer=True)]
        return [PointPair(closer=second, farther=first, first_is_closer=False)]

    def _list(self, listing: str) -> Iterator[SampleFiles]:
        place = 0
        with self._storage.open(listing) as stored:
            # Of its own, as lines of a remote file can be as long as the file.
            lines = io.BufferedReader(cast("io.RawIOBase", stored))
            while line := lines.readline(_MAX_LINE_BYTES):
                where = f"{self._storage.where(listing)}: byte {place}"
                count = len(line) + len(lines.readline(_MAX_LINE_BYTES))
                if count == len(line) or not line.endswith(b"\n"):
                    raise ValueError(f"{where}: expected a path and a pair, got one line of both")
                path = PurePosixPath(decode_text(line, where=where).strip())
                if path.is_absolute() or ".." in path.parts or not path.name:
                    raise ValueError(
                        f"{where}: expected the path of a photograph below the root, "
                        f"got {str(path)!r:.100}"
                    )
                yield SampleFiles(
                    sample_id=str(path),
                    scene="" if path.parent == PurePosixPath() else str(path.parent),
                    image=str(path),
                    extra=(f"{listing}#{place}+{count}",),
                )
                place += count
