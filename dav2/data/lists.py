"""Split lists: text files of one sample a line, checked so that every message names the line."""

from dataclasses import dataclass
from pathlib import PurePosixPath

from dav2.data.reader import decode_text
from dav2.data.storage import Storage


@dataclass(frozen=True, slots=True)
class ListLine:
    """One line of a list."""

    where: str
    """The list and the number of the line, for messages."""
    names: tuple[str, ...]
    """What stands on it, split at white space."""


def read_list(storage: Storage, path: str, *, columns: str, num_names: range) -> list[ListLine]:
    """Returns the lines of a list; blank ones are left out.

    Args:
        storage: Where the list lies.
        path: Its path.
        columns: What a line holds, for the message.
        num_names: How many names a line may have.

    Raises:
        FileNotFoundError: If the root or the list is missing.
        ValueError: If it is no text, or a line has another number of names.
    """
    where = storage.where(path)
    if storage.status(path) is None:
        next(storage.list_files(), None)  # tells of a missing root first
        raise FileNotFoundError(f"{where}: expected a split list, got nothing there")
    lines = []
    for number, text in enumerate(
        decode_text(storage.read(path), where=where).splitlines(), start=1
    ):
        names = tuple(text.split())
        if not names:
            continue
        if len(names) not in num_names:
            raise ValueError(f"{where} line {number}: expected {columns}, got {len(names)} names")
        lines.append(ListLine(f"{where} line {number}", names))
    return lines


def below_root(name: str, *, where: str) -> str:
    """Returns a path of a list as it is; raises `ValueError` if it leads out of the root."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{where}: expected a path relative to the root, got {name!r}")
    return str(path)


def check_published(num: int, published: tuple[int, ...], *, what: str, where: str) -> None:
    """Refuses a list under its published name that is longer or shorter than the published one.

    Raises:
        ValueError: If `num` is none of the published counts.
    """
    if num not in published:
        counts = " or ".join(str(count) for count in published)
        raise ValueError(
            f"{where}: expected the {counts} {what} of the published list, got {num}; "
            "a list of one's own goes under another name"
        )
