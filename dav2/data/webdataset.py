"""Photographs in any WebDataset: tars whose neighbouring members of one key make up a sample.

Axes: H height, W width (pixels).
By that convention a member's key is its path up to the first dot of the file's name, and what
follows the dot is its kind: `0001.jpg`, `0001.cls`, `0001.seg.png` are three parts of sample 0001.
"""

import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dav2.data.images import MAX_PIXELS
from dav2.data.option_values import check_text
from dav2.data.photographs import SUFFIXES, archive_stem, is_hidden
from dav2.data.reader import FileReader, stream_samples, unlabelled
from dav2.data.sample import DepthSample, SampleFiles
from dav2.data.storage import Storage
from dav2.data.tars import list_members


@dataclass(frozen=True, slots=True)
class WebDatasetOptions:
    """Which tars are read."""

    archives: str = "*"
    """Shell pattern over paths below the root; `*` crosses folders: `*-train-*.tar`."""

    def __post_init__(self) -> None:
        """Checks what came from a file."""
        check_text(self.archives, name="archives")


class WebDataset(FileReader):
    """Reads the members of kind jpg, jpeg, png and webp, in place; one of them a sample at most.

    The tar is a sample's scene; tar and key name it. Members of other kinds are left out, `seg.png`
    among them. The number of images is not checked: nothing in the tars tells it.
    """

    def __init__(
        self,
        root: Path | str | Storage,
        *,
        max_pixels: int = MAX_PIXELS,
        options: WebDatasetOptions = WebDatasetOptions(),
    ) -> None:
        """Prepares to read; opens nothing."""
        super().__init__(root, max_pixels=max_pixels)
        self._archives = options.archives

    def list_samples(self, split: str) -> Iterator[SampleFiles]:
        """Yields all photographs of the chosen tars; the only split is `all`."""
        self._refuse_split(split, "all")
        return stream_samples(self._list(), where=self._storage.where(), split=split)

    def read(self, files: SampleFiles) -> DepthSample:
        """Returns the photograph; it has no depth."""
        return unlabelled(files, self.read_image(files), dataset="webdataset")

    def _list(self) -> Iterator[SampleFiles]:
        for file in self._storage.list_files():
            scene = archive_stem(file.path)
            if scene and not is_hidden(file.path) and self._is_chosen(file.path):
                yield from self._members(file.path, scene)

    def _is_chosen(self, archive: str) -> bool:
        return fnmatch.fnmatchcase(archive, self._archives)

    def _members(self, archive: str, scene: str) -> Iterator[SampleFiles]:
        previous = ""
        for member in list_members(self._storage, archive):
            folder, slash, file = str(PurePosixPath(member.name)).rpartition("/")
            key, _, kind = file.partition(".")
            if not key or f".{kind.lower()}" not in SUFFIXES:
                continue
            name = f"{folder}{slash}{key}"
            if name == previous:
                raise ValueError(
                    f"{self._storage.where(archive)}: expected one image a sample, "
                    f"got two of {name!r}"
                )
            previous = name
            yield SampleFiles(sample_id=f"{scene}/{name}", scene=scene, image=member.path)
