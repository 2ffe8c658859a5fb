"""Members of uncompressed tar archives, listed without unpacking and read by position."""

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, Protocol, cast, runtime_checkable

from dav2.data.storage import Storage, StoredFile, member_path

_MAX_NAME = 1024
_MAX_HEADER_BYTES = 1 << 20  # of a long name or a pax record
# Of zeros at the end: two blocks are the marker, the rest fills up what GNU tar writes at once.
_RECORD_BYTES = 20 * tarfile.BLOCKSIZE
# What tarfile lets through on damaged headers.
_DAMAGE = (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError)


@dataclass(frozen=True, slots=True)
class TarMember:
    """One regular file of an archive."""

    name: str
    """As the archive has it, POSIX."""
    path: str
    """What `Storage.read` takes."""
    bytes: int


@runtime_checkable
class MemberStorage(Protocol):
    """Storage that remembers what archives hold."""

    def members(self, archive: str) -> Iterator[TarMember]:
        """Yields the regular files of an archive as `list_members`."""
        ...


def list_members(storage: Storage, archive: str) -> Iterator[TarMember]:
    """Yields the regular files of an archive in its order, reading headers only.

    Storage that remembers them is asked instead. Links, devices and folders are left out; so are
    names that are absolute, climb (`..`), hold control characters or are longer than 1024. A name
    that comes twice is yielded twice. Sparse files are refused: their bytes are not in one piece.

    Args:
        storage: Where the archive lies.
        archive: Its path; ends in `.tar`.

    Raises:
        FileNotFoundError: If there is no such archive.
        ValueError: If it is compressed, damaged or truncated, or no tar.
    """
    if isinstance(storage, MemberStorage):
        yield from storage.members(archive)
        return
    where = storage.where(archive)
    if not archive.endswith(".tar"):
        raise ValueError(
            f"{where}: expected an uncompressed archive (.tar), as compressed ones cannot be read "
            "by position, got another; `gunzip` it first: pictures gain nothing from it"
        )
    status = storage.status(archive)
    if status is None:
        raise FileNotFoundError(f"{where}: expected a file, got nothing there")
    with storage.open(archive) as stream:
        headers = cast("IO[bytes]", _Headers(stream))
        try:
            with tarfile.open(fileobj=headers, mode="r:") as tar:
                while (entry := tar.next()) is not None:
                    tar.members = []  # type: ignore[attr-defined]  # else it keeps every header
                    _check_entry(entry, status)
                    if not entry.isreg() or not _is_plain(entry.name):
                        continue
                    path = member_path(
                        archive,
                        first_byte=entry.offset_data,
                        num_bytes=entry.size,
                        name=entry.name,
                    )
                    yield TarMember(entry.name, path, entry.size)
                _check_end(stream, tar.offset)
        except _DAMAGE as error:
            raise ValueError(
                f"{where}: expected a whole uncompressed tar archive, got a damaged or truncated "
                f"one ({' '.join(str(error).split())})"
            ) from None


class _Headers:
    """What tarfile reads an archive through: no claim of a header costs memory."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def tell(self) -> Any:
        return self._stream.tell()

    def read(self, size: int) -> Any:
        if not 0 <= size <= _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._stream.read(size)

    def seek(self, position: int) -> Any:
        return self._stream.seek(position)


def _check_entry(entry: tarfile.TarInfo, archive: StoredFile) -> None:
    if entry.size < 0:
        raise tarfile.ReadError(f"{entry.name} has {entry.size} bytes")
    if entry.isreg() and entry.issparse():
        raise tarfile.ReadError(f"{entry.name} is sparse")
    if entry.isreg() and entry.offset_data + entry.size > archive.bytes:
        raise tarfile.ReadError(f"{entry.name} ends after the archive")


def _check_end(stream: Any, position: int) -> None:
    """Refuses an end without a marker: tarfile takes a cut or a damaged header for one."""
    stream.seek(position)
    end = stream.read(_RECORD_BYTES)
    if len(end) < tarfile.BLOCKSIZE or any(end[: tarfile.BLOCKSIZE]):
        raise tarfile.ReadError(f"no end marker at byte {position}")
    if any(end):
        raise tarfile.ReadError(f"another archive after the end marker at byte {position}")


def _is_plain(name: str) -> bool:
    return (
        0 < len(name) <= _MAX_NAME
        and not name.startswith("/")
        and ".." not in name.split("/")
        and re.search(r"[\x00-\x1f\x7f]", name) is None
    )
