"""Writes a source's listing: what DVC compares instead of hashing terabytes of raw files."""

import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from dav2.data.files import written_whole
from stages.sources import load_sources

LISTING_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),  # POSIX, relative to the root
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("version", pa.string(), nullable=False),  # ETag, or nanoseconds of modification
    ]
)

_CHUNK = 65536
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ListedFile:
    """One file as its store tells it, without reading it."""

    path: str
    """POSIX, relative to the root."""
    bytes: int
    version: str
    """Changes whenever the content does: an ETag, or nanoseconds of modification."""


def main(source: str) -> None:
    """Writes the listing of a source to the path that the source's `watch` names.

    An unchanged tree gives the same bytes. Memory does not grow with the number of files.

    Raises:
        SystemExit: With one line, if the source is unknown, watches its own root or something in
            it, or if its root is missing, cannot be read or is empty. Nothing is written then.
    """
    try:
        _snapshot(source)
    except (ValueError, OSError) as error:
        raise SystemExit(f"snapshot {source}: {error}") from None


def list_files(root: Path) -> Iterator[ListedFile]:
    """Yields every file below a root, folder by folder in sorted order.

    The one place that knows where sources lie: local folders now. Links to files are followed,
    links to folders are not.

    Args:
        root: Folder of the source.

    Raises:
        FileNotFoundError: If it is no folder.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: expected the folder of a source, got nothing there")
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        with os.scandir(root / folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        below = []
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                below.append(path)
            elif entry.is_file():
                status = entry.stat()
                yield ListedFile(path, status.st_size, str(status.st_mtime_ns))
        waiting.extend(reversed(below))


def _snapshot(name: str) -> None:
    sources = load_sources()
    if name not in sources:
        raise ValueError(f"expected one of the sources {', '.join(sources)}, got {name!r}")
    root, listing = Path(sources[name].root), Path(sources[name].watch)
    if listing.resolve().is_relative_to(root.resolve()):
        raise ValueError(
            f"expected 'watch' to name a file outside the root {root}, got {listing}: "
            "this source needs no listing, or another place for it"
        )
    files = iter(tqdm(list_files(root), desc=f"snapshot {name}", unit=" files", mininterval=1))
    count = 0
    with written_whole(listing) as path:
        with pq.ParquetWriter(path, LISTING_SCHEMA, compression="zstd") as writer:
            while chunk := list(islice(files, _CHUNK)):
                rows = [
                    {"path": file.path, "bytes": file.bytes, "version": file.version}
                    for file in chunk
                ]
                writer.write_table(pa.Table.from_pylist(rows, LISTING_SCHEMA))
                count += len(chunk)
        if not count:
            raise ValueError(f"{root}: expected a folder with files, got an empty one")
    _logger.info("%s: %d files listed in %s", name, count, listing)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main(*sys.argv[1:])
