"""What the paths of a command line mean: images and videos, and what their outputs are called."""

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")


@dataclass(frozen=True, slots=True)
class Source:
    """A file to predict."""

    path: Path
    name: str
    """Of its outputs: a POSIX path below the output folder, without an ending."""
    is_video: bool

    @property
    def label(self) -> str:
        """Its key in predictions.json: a video's outputs are a folder, which the slash tells."""
        return f"{self.name}/" if self.is_video else self.name


def find_sources(paths: Sequence[str], *, out: Path) -> list[Source]:
    """Returns the files that a command line names, each once, in its order.

    A folder is searched to the bottom, by suffix, without hidden files and without `out`; names
    keep the folders below it. So do those of a pattern (`*`, `?`, `[]`, `**`), from its first part
    that holds a wildcard. A file that is named itself is taken as it is: a video by its suffix,
    else an image.

    Args:
        paths: Files, folders and patterns.
        out: Folder of the outputs.

    Raises:
        ValueError: If a folder or pattern holds nothing, or two outputs would share a name.
    """
    found: dict[tuple[Path, str], Source] = {}
    for text in paths:
        for source in _named_by(text, out):
            found.setdefault((source.path.resolve(), source.name), source)
    _check_names(list(found.values()))
    return list(found.values())


def _named_by(text: str, out: Path) -> list[Source]:
    path = Path(text)
    if path.is_dir():
        found = [_source(file, below=path) for file in _files_in(path, out)]
    elif path.exists() or not glob.has_magic(text):
        return [_source(path, below=path.parent)]
    else:
        fixed = list(takewhile(lambda part: not glob.has_magic(part), path.parts))
        below, pattern = Path(*fixed), Path(*path.parts[len(fixed) :])
        found = [
            _source(file, below=below)
            for match in sorted(below.glob(str(pattern)))
            if not _is_hidden(match.relative_to(below))
            for file in (_files_in(match, out) if match.is_dir() else [match])
            if _is_known(file)
        ]
    if not found:
        known = " ".join(IMAGE_SUFFIXES + VIDEO_SUFFIXES)
        raise ValueError(f"{text}: expected images or videos ({known}), got none")
    return found


def _files_in(folder: Path, out: Path) -> list[Path]:
    written = out.resolve()
    skips_out = written != folder.resolve() and written.is_relative_to(folder.resolve())
    return sorted(
        file
        for file in folder.rglob("*")
        if _is_known(file)
        and not _is_hidden(file.relative_to(folder))
        and not (skips_out and file.resolve().is_relative_to(written))
        and file.is_file()
    )


def _is_hidden(name: Path) -> bool:
    return any(part.startswith(".") for part in name.parts)


def _is_known(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES + VIDEO_SUFFIXES


def _source(file: Path, *, below: Path) -> Source:
    name = file.relative_to(below).with_suffix("").as_posix()
    return Source(file, name, is_video=file.suffix.lower() in VIDEO_SUFFIXES)


def _check_names(sources: Sequence[Source]) -> None:
    by_label: dict[str, Source] = {}
    for source in sources:
        other = by_label.setdefault(source.label, source)
        if other is not source:
            raise ValueError(f"{source.path}: expected another name, got that of {other.path}")
    for source in sources:
        for parent in PurePosixPath(source.name).parents:
            video = by_label.get(f"{parent}/")
            if video is not None:
                raise ValueError(
                    f"{source.path}: expected a name outside {parent}/, "
                    f"got one in the folder that {video.path} is written to"
                )
