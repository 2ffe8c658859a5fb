"""Writes a source's listing: what DVC compares instead of hashing terabytes of raw files."""

import logging
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from dav2.data.files import written_whole
from dav2.data.storage import StoredFile, open_storage
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


def read_listing(path: Path) -> Iterator[StoredFile]:
    """Yields the files of a listing.

    Raises:
        ValueError: If it is no listing.
    """
    try:
        with path.open("rb") as stream, pq.ParquetFile(stream) as listing:
            if not listing.schema_arrow.equals(LISTING_SCHEMA):
                raise pa.ArrowInvalid
            for batch in listing.iter_batches(_CHUNK):
                for row in batch.to_pylist():
                    yield StoredFile(**row)
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk, or no such file; of damage Arrow tells by errors without a number
        raise ValueError(
            f"{path}: expected a listing as `python -m stages.snapshot` writes it, got another or "
            "a damaged file"
        ) from None


def _snapshot(name: str) -> None:
    sources = load_sources()
    if name not in sources:
        raise ValueError(f"expected one of the sources {', '.join(sources)}, got {name!r}")
    root, listing = sources[name].root, Path(sources[name].watch)
    is_remote = root.startswith("s3://")
    if not is_remote and listing.resolve().is_relative_to(Path(root).resolve()):
        raise ValueError(
            f"expected 'watch' to name a file outside the root {root}, got {listing}: "
            "this source needs no listing, or another place for it"
        )
    files = iter(
        tqdm(open_storage(root).list_files(), desc=f"snapshot {name}", unit=" files", mininterval=1)
    )
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
