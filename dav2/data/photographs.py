"""What the readers of photographs without depth share: finding them in folders and in tars.

Axes: H height, W width (pixels).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from dav2.data.reader import FileReader, stream_samples, unlabelled
from dav2.data.sample import DepthSample, SampleFiles
from dav2.data.storage import Storage
from dav2.data.tars import list_members

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
_ARCHIVE = re.compile(r"(?P<stem>.+)(?:\.tar(?:\.\w+)?|\.tgz|\.tbz2?|\.txz)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Photograph:
    """One image file, or member of a tar."""

    name: str
    """Where it would lie if each tar were unpacked into a folder of the tar's name beside it."""
    path: str
    """What `Storage.read` takes."""


class PhotographReader(FileReader):
    """The base of readers of photographs, which tell samples by the photographs' names.

    Hidden files and folders are left out. Every other photograph must have a name that the dataset
    gives, so that none is dropped in silence. Memory does not grow with their number.
    """

    _dataset: str
    _layout: str
    """The names, for messages."""
    _pattern: re.Pattern[str]
    """Matches a whole `Photograph.name`; groups `id`, perhaps `scene` and `split`."""

    def read(self, files: SampleFiles) -> DepthSample:
        """Returns the photograph; it has no depth."""
        return unlabelled(files, self.read_image(files), dataset=self._dataset)

    def _stream(self, split: str, *, folder: str = "") -> Iterator[SampleFiles]:
        """Yields the photographs below a folder; where names tell a split, those of `split`."""
        where = self._storage.where(folder)
        return stream_samples(self._matching(split, folder), where=where, split=split)

    def _matching(self, split: str, folder: str) -> Iterator[SampleFiles]:
        self._check_root()  # else a missing root would be told as a missing folder of it
        for photograph in list_photographs(self._storage, folder):
            match = self._pattern.fullmatch(photograph.name)
            if match is None:
                raise ValueError(
                    f"{self._storage.where(photograph.path)}: expected photographs as "
                    f"{self._layout}, got another name"
                )
            found, scene = self._split_and_scene(match)
            if found in (None, split):
                yield SampleFiles(sample_id=match["id"], scene=scene, image=photograph.path)

    def _split_and_scene(self, match: re.Match[str]) -> tuple[str | None, str]:
        """Returns what a name tells of its photograph."""
        groups = match.groupdict()
        return groups.get("split"), groups.get("scene") or ""


def list_photographs(storage: Storage, folder: str = "") -> Iterator[Photograph]:
    """Yields the JPEG, PNG and WebP files below a folder, and such members of its tars.

    Args:
        storage: Where they lie.
        folder: Relative to the root.

    Raises:
        FileNotFoundError: If there is no such folder, or nothing in it.
        ValueError: If a tar is compressed or damaged.
    """
    for file in storage.list_files(folder):
        if is_hidden(file.path):
            continue
        if archive := archive_stem(file.path):
            for member in list_members(storage, file.path):
                name = str(PurePosixPath(member.name))  # without `./`
                if is_photograph(name) and not is_hidden(name):
                    yield Photograph(f"{archive}/{name}", member.path)
        elif is_photograph(file.path):
            yield Photograph(file.path, file.path)


def archive_stem(path: str) -> str | None:
    """Returns a tar's path without suffix, compressed or not; None if it is no tar by its name."""
    match = _ARCHIVE.fullmatch(path)
    return match["stem"] if match else None


def is_photograph(path: str) -> bool:
    """Returns whether a name ends as those of JPEG, PNG and WebP files do."""
    return PurePosixPath(path).suffix.lower() in SUFFIXES


def is_hidden(path: str) -> bool:
    """Returns whether a file or one of its folders begins with a dot."""
    return path.startswith(".") or "/." in path
