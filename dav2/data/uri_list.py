"""Photographs that a text file lists, one path a line.

Axes: H height, W width (pixels).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dav2.data.images import MAX_PIXELS
from dav2.data.option_values import check_text
from dav2.data.reader import FileReader, decode_text, stream_samples, unlabelled
from dav2.data.sample import DepthSample, SampleFiles
from dav2.data.storage import Storage

_MAX_LINE_BYTES = 4096
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


@dataclass(frozen=True, slots=True)
class UriListOptions:
    """Which photographs are read."""

    listing: str = "list.txt"
    """Text file below the root: UTF-8, one path a line; empty lines count for nothing."""

    def __post_init__(self) -> None:
        """Checks what came from a file."""
        check_text(self.listing, name="listing")


class UriList(FileReader):
    """Reads the images that the list names, in its order; a sample's scene is its folder.

    Paths are relative to the root, not to the list. A full address is taken where it begins with
    the root's own (`s3://bucket/prefix/a.jpg` below the root `s3://bucket/prefix`). Everything else
    is refused: every file must lie below the root, so that moving the root moves the data. Lines
    are taken literally, without percent-decoding. Whether a file exists shows when it is read.
    """

    def __init__(
        self,
        root: Path | str | Storage,
        *,
        max_pixels: int = MAX_PIXELS,
        options: UriListOptions = UriListOptions(),
    ) -> None:
        """Prepares to read; opens nothing."""
        super().__init__(root, max_pixels=max_pixels)
        self._listing = options.listing

    def list_samples(self, split: str) -> Iterator[SampleFiles]:
        """Yields the listed photographs; the only split is `all`."""
        self._refuse_split(split, "all")
        where = self._storage.where(self._listing)
        return stream_samples(self._list(), where=where, split=split)

    def read(self, files: SampleFiles) -> DepthSample:
        """Returns the photograph; it has no depth."""
        return unlabelled(files, self.read_image(files), dataset="uri_list")

    def _list(self) -> Iterator[SampleFiles]:
        for where, line in self._lines():
            path = PurePosixPath(self._below(line, where))
            scene = "" if path.parent == PurePosixPath() else str(path.parent)
            yield SampleFiles(sample_id=str(path), scene=scene, image=str(path))

    def _lines(self) -> Iterator[tuple[str, str]]:
        """Yields the lines with content, each with the name of its place."""
        number = 0
        self._check_root()
        with self._storage.open(self._listing) as stream:
            while data := stream.readline(_MAX_LINE_BYTES + 1):
                number += 1
                where = f"{self._storage.where(self._listing)}: line {number}"
                if len(data) > _MAX_LINE_BYTES:
                    raise ValueError(f"{where}: expected at most {_MAX_LINE_BYTES} bytes, got more")
                if line := decode_text(data, where=where).rstrip("\r\n"):
                    yield where, line

    def _below(self, line: str, where: str) -> str:
        """Returns a line as a path relative to the root."""
        path = line.removeprefix(f"{self._storage.where()}/") if _SCHEME.match(line) else line
        if any(ord(letter) < 32 or ord(letter) == 127 for letter in path):
            problem = "control characters"
        elif _SCHEME.match(path):
            problem = "an address elsewhere"
        elif path.startswith("/"):
            problem = "an absolute path"
        elif ".." in path.split("/"):
            problem = "a path with `..`"
        elif str(PurePosixPath(path)) == ".":
            problem = "no file"
        else:
            return path
        raise ValueError(
            f"{where}: expected a path relative to the root, as every file must lie below it, "
            f"got {problem}: {line!r:.200}"
        )
