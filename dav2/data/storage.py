"""Where a dataset's files lie: a local folder or an S3 bucket; members of tars are read in place.

A path is POSIX and relative to the root. `<file>#<part>` names a part of a file that holds many
samples; of an uncompressed tar the part is `<first byte>+<bytes>#<member>`, so that a member is
one ranged read and needs no index. Of other containers (HDF5, LMDB, videos) the reader knows.
"""

import io
import os
import re
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, runtime_checkable

from dav2.data.s3 import S3Client

MAX_BYTES = 1 << 30
"""Larger files are not read into memory by default."""

_PART = re.compile(
    r"(?P<file>.+?\.(?:tar|mat|mdb|mov|mp4|h5|hdf5|csv|parquet))#(?P<part>.+)", re.DOTALL
)
_SPAN = re.compile(r"(\d{1,18})\+(\d{1,18})#.+", re.DOTALL)
_S3_BLOCK_BYTES = 4 << 20
_LISTED_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file as its store tells it, without reading it."""

    path: str
    """POSIX, relative to the root."""
    bytes: int
    version: str
    """Changes whenever the content does: an ETag, or nanoseconds of modification."""


@runtime_checkable
class Storage(Protocol):
    """The files below one root."""

    def where(self, path: str = "") -> str:
        """Returns the full name of a file, for messages."""
        ...

    def list_files(self, folder: str = "") -> Iterator[StoredFile]:
        """Yields every file below a folder, one after the other, in whatever order.

        Raises:
            FileNotFoundError: If there is no such folder, or nothing in it.
        """
        ...

    def status(self, path: str) -> StoredFile | None:
        """Returns a file, for a part the file that holds it; None if there is none."""
        ...

    def read(self, path: str, *, max_bytes: int = MAX_BYTES) -> bytes:
        """Returns a file's bytes, or those of a member of a tar.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is larger than `max_bytes`, or a tar ends before the member does.
            OSError: If it cannot be read, after retries where the store is remote.
        """
        ...

    def open(self, path: str) -> AbstractContextManager[IO[bytes]]:
        """Returns a file to read from at any position; raises as `read`."""
        ...


def open_storage(root: "Path | str | Storage") -> Storage:
    """Returns the files below a root: a folder, or `s3://bucket/prefix`; storage as it is.

    Nothing is opened yet. S3 takes credentials, region and endpoint where every AWS tool does
    (`AWS_ACCESS_KEY_ID`, `AWS_PROFILE`, `AWS_ENDPOINT_URL`, ...).
    """
    if not isinstance(root, Path | str):
        return root
    if isinstance(root, str) and root.startswith("s3://"):
        return S3Storage(root)
    return LocalStorage(Path(root))


def split_part(path: str) -> tuple[str, str | None]:
    """Returns the file of a path and the part of it that the path names, None for all of it."""
    match = _PART.fullmatch(path)
    return (match["file"], match["part"]) if match else (path, None)


def member_path(archive: str, *, first_byte: int, num_bytes: int, name: str) -> str:
    """Returns the path of a tar's member."""
    return f"{archive}#{first_byte}+{num_bytes}#{name}"


class LocalStorage:
    """The files below a folder of this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def where(self, path: str = "") -> str:
        """Returns the full name of a file, for messages."""
        return os.path.join(self._root, path) if path else str(self._root)  # noqa: PTH118  # fast

    def list_files(self, folder: str = "") -> Iterator[StoredFile]:
        """Yields every file, folder by folder in sorted order.

        Links to files are followed, links to folders are not.
        """
        top = self._below(folder)
        if not top.is_dir():
            got = "a file" if top.exists() else "nothing there"
            raise FileNotFoundError(f"{top}: expected the folder of a dataset, got {got}")
        waiting = [folder.strip("/")]
        while waiting:
            inside = waiting.pop()
            with os.scandir(self._root / inside) as found:
                entries = sorted(found, key=lambda entry: entry.name)
            below = []
            for entry in entries:
                path = f"{inside}/{entry.name}" if inside else entry.name
                if entry.is_dir(follow_symlinks=False):
                    below.append(path)
                elif entry.is_file():
                    status = entry.stat()
                    yield StoredFile(path, status.st_size, str(status.st_mtime_ns))
            waiting.extend(reversed(below))

    def status(self, path: str) -> StoredFile | None:
        """Returns a file, for a part the file that holds it; None if there is none."""
        file, _ = split_part(path)
        try:
            found = self._below(file).stat()
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(found.st_mode):
            return None
        return StoredFile(file, found.st_size, str(found.st_mtime_ns))

    def read(self, path: str, *, max_bytes: int = MAX_BYTES) -> bytes:
        """Returns a file's bytes, or those of a member of a tar."""
        file, part = split_part(path)
        where = self.where(path)
        with self._file(file).open("rb", buffering=0) as stream:
            first, count = _span(part, os.fstat(stream.fileno()).st_size, where=where)
            _check_bytes(count, max_bytes, where=where)
            stream.seek(first)
            return _whole(stream.read(count), count, where=where)

    def open(self, path: str) -> AbstractContextManager[IO[bytes]]:
        """Returns a file to read from at any position."""
        return self._file(path).open("rb")

    def _file(self, path: str) -> Path:
        full = self._below(path)
        if not full.is_file():
            raise FileNotFoundError(f"{full}: expected a file, got nothing there")
        return full

    def _below(self, path: str) -> Path:
        # Paths come from tables and manifests too: none may name a file elsewhere.
        if path.startswith("/") or ".." in path.split("/"):
            raise ValueError(f"{self._root}: expected paths below the root, got {path!r}")
        return self._root / path


class S3Storage:
    """The files below a prefix of a bucket; `dav2.data.s3` repeats what fails for a while."""

    def __init__(self, root: str) -> None:
        self._bucket, _, prefix = root.removeprefix("s3://").strip("/").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._client = S3Client(self._bucket)
        self._archives: dict[str, StoredFile] = {}

    def where(self, path: str = "") -> str:
        """Returns the full name of a file, for messages."""
        return f"s3://{self._bucket}/{self._prefix}{path}".removesuffix("/")

    def list_files(self, folder: str = "") -> Iterator[StoredFile]:
        """Yields every file; pages of several folders are asked for at a time, not kept."""
        inside = f"{folder.strip('/')}/" if folder.strip("/") else ""
        found = False
        for page in self._pages(self._key(inside), where=self.where(folder)):
            for entry in page.get("Contents", []):
                if not entry["Key"].endswith("/"):
                    path = entry["Key"].removeprefix(self._prefix)
                    yield StoredFile(path, entry["Size"], entry["ETag"].strip('"'))
                    found = True
        if not found:
            raise FileNotFoundError(
                f"{self.where(folder)}: expected the folder of a dataset, got nothing there"
            )

    def _pages(self, prefix: str, *, where: str) -> Iterator[dict[str, Any]]:
        """Yields pages that hold every file below a prefix once."""
        top = self._client.page(prefix, where=where, apart=True)
        while not top.get("Contents") and len(top.get("CommonPrefixes", ())) == 1:
            prefix = top["CommonPrefixes"][0]["Prefix"]
            top = self._client.page(prefix, where=where, apart=True)
        if top.get("IsTruncated"):  # too many folders to ask for each
            waiting: deque[tuple[str, str | None]] = deque([(prefix, None)])
        else:
            yield top
            waiting = deque((entry["Prefix"], None) for entry in top.get("CommonPrefixes", ()))
        running: deque[tuple[str, Future[dict[str, Any]]]] = deque()
        with ThreadPoolExecutor(_LISTED_AT_ONCE) as pool:
            while waiting or running:
                while waiting and len(running) < _LISTED_AT_ONCE:
                    folder, token = waiting.popleft()
                    asked = pool.submit(self._client.page, folder, token, where=where)
                    running.append((folder, asked))
                folder, asked = running.popleft()
                page = asked.result()
                if page.get("IsTruncated"):
                    waiting.appendleft((folder, page["NextContinuationToken"]))
                yield page

    def status(self, path: str) -> StoredFile | None:
        """Returns a file, for a part the file that holds it; None if there is none."""
        try:
            return self._status_of(split_part(path)[0])
        except (FileNotFoundError, ValueError):
            return None

    def read(self, path: str, *, max_bytes: int = MAX_BYTES) -> bytes:
        """Returns a file's bytes, or those of a member of a tar, with one request."""
        file, part = split_part(path)
        where = self.where(path)
        if part is None:
            size, data = self._client.get(self._key(file), where=where, max_bytes=max_bytes)
            _check_bytes(size, max_bytes, where=where)
            return data
        if file not in self._archives:
            self._archives[file] = self._status_of(file)
        archive = self._archives[file]
        first, count = _span(part, archive.bytes, where=where)
        _check_bytes(count, max_bytes, where=where)
        return self._read_span(archive, first, count)

    def open(self, path: str) -> AbstractContextManager[IO[bytes]]:
        """Returns a file to read from at any position, some megabytes with each request."""
        blocks = _Blocks(self._status_of(path), self._read_span)
        return io.BufferedReader(blocks, _S3_BLOCK_BYTES)

    def _status_of(self, path: str) -> StoredFile:
        found = self._client.head(self._key(path), where=self.where(path))
        return StoredFile(path, found["ContentLength"], found["ETag"].strip('"'))

    def _read_span(self, file: StoredFile, first: int, count: int) -> bytes:
        if not count:
            return b""  # a range of no bytes cannot be asked for
        where = self.where(file.path)
        size, data = self._client.get(
            self._key(file.path),
            where=where,
            max_bytes=count,
            first_byte=first,
            version=file.version,
        )
        if size != count:
            raise OSError(f"{where}: expected {count} bytes from byte {first} on, got {size}")
        return data

    def _key(self, path: str) -> str:
        # HTTP clients resolve these, out of the prefix.
        if not {".", ".."}.isdisjoint(path.split("/")):
            raise ValueError(f"{self.where()}: expected paths below the root, got {path!r}")
        return f"{self._prefix}{path}"


class _Blocks(io.RawIOBase):
    """A file of a bucket, read in parts of one version."""

    mode = "rb"  # as every file has, which `IO` asks for

    def __init__(
        self, file: StoredFile, read_span: Callable[[StoredFile, int, int], bytes]
    ) -> None:
        self.name = file.path
        self._file = file
        self._read_span = read_span
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._file.bytes}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        data = self._next(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return self._next(self._file.bytes)

    def _next(self, count: int) -> bytes:
        count = max(0, min(count, self._file.bytes - self._position))
        data = self._read_span(self._file, self._position, count)
        self._position += count
        return data


class RememberingStorage:
    """Reads a file once while told to remember, for what is both hashed and decoded."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._memory = threading.local()

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Keeps what this thread reads until the block ends."""
        self._memory.files = {}
        try:
            yield
        finally:
            self._memory.files = None

    def where(self, path: str = "") -> str:
        """Returns the full name of a file, for messages."""
        return self._storage.where(path)

    def list_files(self, folder: str = "") -> Iterator[StoredFile]:
        """Yields every file below a folder."""
        return self._storage.list_files(folder)

    def status(self, path: str) -> StoredFile | None:
        """Returns a file, for a part the file that holds it; None if there is none."""
        return self._storage.status(path)

    def read(self, path: str, *, max_bytes: int = MAX_BYTES) -> bytes:
        """Returns a file's bytes, or those of a member of a tar."""
        remembered: dict[str, bytes] | None = getattr(self._memory, "files", None)
        if remembered is None:
            return self._storage.read(path, max_bytes=max_bytes)
        if path not in remembered:
            remembered[path] = self._storage.read(path, max_bytes=max_bytes)
        return remembered[path]

    def open(self, path: str) -> AbstractContextManager[IO[bytes]]:
        """Returns a file to read from at any position."""
        return self._storage.open(path)


def _span(part: str | None, size: int, *, where: str) -> tuple[int, int]:
    """Returns first byte and number of bytes of a part within a file of `size` bytes."""
    if part is None:
        return 0, size
    match = _SPAN.fullmatch(part)
    if match is None:
        raise ValueError(f"{where}: expected a part as <first byte>+<bytes>#<member>, got {part!r}")
    first, count = int(match[1]), int(match[2])
    if first + count > size:
        raise ValueError(
            f"{where}: expected a member that ends within the archive of {size} bytes, "
            f"got {first + count}"
        )
    return first, count


def _check_bytes(count: int, max_bytes: int, *, where: str) -> None:
    if count > max_bytes:
        raise ValueError(f"{where}: expected a file of at most {max_bytes} bytes, got {count}")


def _whole(data: bytes, count: int, *, where: str) -> bytes:
    if len(data) < count:
        raise ValueError(f"{where}: expected {count} bytes, got {len(data)} before the end")
    return data
