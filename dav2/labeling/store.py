"""Shards that exist completely, with a checksum, or not at all."""

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dav2.data.files import sha256_of, write_json, written_whole
from dav2.data.shards import INDEX_SCHEMA, ShardWriter, write_index
from dav2.labeling.labeler import FinishedSample
from dav2.labeling.plan import PlannedShard

QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field(name, pa.string(), nullable=False)
        for name in ("sample_id", "source", "image", "reason")
    ]
)
"""Columns of `quarantine.parquet`."""

_TAR, _INDEX, _QUARANTINE, _RECORD = (
    "shard.tar",
    "index.parquet",
    "quarantine.parquet",
    "record.json",
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RefusedSample:
    """A sample that has no label, and why."""

    sample_id: str
    source: str
    image: str
    reason: str
    """One line without an absolute path."""
    is_lasting: bool
    """False where another attempt may succeed: the file could not be read, say."""


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """What is known of a committed shard."""

    key: str
    num_bytes: int
    num_refused: int
    num_samples: int
    num_unread: int
    """Samples refused for a cause that may pass."""
    sha256: str
    set_aside: str = ""
    """Why the shard was given up, with all its samples refused; records of before lack it."""
    written_ns: int = 0
    """When its file was last written, as the file system says; records of before lack it."""


def commit_shard(
    store: Path,
    shard: PlannedShard,
    results: Iterable[FinishedSample | RefusedSample],
    *,
    set_aside: str = "",
) -> ShardRecord:
    """Writes a shard, its index, its refused samples and its record; one rename makes it exist.

    Args:
        store: Folder of committed shards.
        shard: The plan of this one.
        results: One result per planned sample, in the order to write; consumed as it is written.
        set_aside: Why it was given up, in one line, if it was.
    """
    rows: list[dict[str, Any]] = []
    refused: list[RefusedSample] = []
    with written_whole(_folder(store, shard)) as folder:
        folder.mkdir()
        tar = folder / _TAR
        with ShardWriter(tar) as writer:
            for result in results:
                if isinstance(result, RefusedSample):
                    refused.append(result)
                    continue
                spans = writer.add(
                    result.sample_id,
                    jpeg=result.jpeg,
                    label=result.label,
                    description=result.description,
                )
                rows.append({**result.row, **spans, "shard": f"{shard.name}.tar"})
        write_index(pd.DataFrame(rows, columns=INDEX_SCHEMA.names), folder / _INDEX)
        _write_quarantine(refused, folder / _QUARANTINE)
        record = ShardRecord(
            key=shard.key,
            num_bytes=tar.stat().st_size,
            num_refused=len(refused),
            num_samples=len(rows),
            num_unread=sum(not sample.is_lasting for sample in refused),
            sha256=sha256_of(tar),
            set_aside=set_aside,
            written_ns=tar.stat().st_mtime_ns,
        )
        write_json(asdict(record), folder / _RECORD)
    return record


def find_shard(store: Path, shard: PlannedShard) -> ShardRecord | None:
    """Returns the record of a committed shard that need not be computed again, if there is one.

    None too where its bytes have changed since, or where a sample could not be read for a cause
    that may have passed. As DVC does, a file of the same size and time counts as unchanged: to read
    terabytes at every start would take hours.
    """
    folder = _folder(store, shard)
    if not folder.is_dir():
        return None
    record = _read_record(folder)
    if record is None or record.key != shard.key:
        logger.warning("%s: expected a whole shard with its record, got less: made again", folder)
        return None
    if record.num_unread:
        return None
    found = (folder / _TAR).stat()
    if (found.st_size, found.st_mtime_ns) == (record.num_bytes, record.written_ns):
        return record
    if sha256_of(folder / _TAR) != record.sha256:
        logger.warning("%s: expected the checksum of its record, got another: made again", folder)
        return None
    return record


def publish(
    store: Path, shards: Sequence[tuple[PlannedShard, ShardRecord]], output: Path, *, summary: Any
) -> None:
    """Makes the folder of all shards, by hard links, so that it appears whole.

    Args:
        store: Folder of committed shards.
        shards: Every shard of the plan with its record.
        output: The folder to make: `shards/*.tar`, `shards.json`, `manifest.parquet`,
            `quarantine.parquet` and `summary.json`.
        summary: Content of `summary.json`.
    """
    with written_whole(output) as folder:
        (folder / "shards").mkdir(parents=True)
        kept = [(shard, record) for shard, record in shards if record.num_samples]
        for shard, _ in kept:
            _link(_folder(store, shard) / _TAR, folder / "shards" / f"{shard.name}.tar")
        write_index(read_rows(store, [shard for shard, _ in shards]), folder / "manifest.parquet")
        refused = read_refused(store, [shard for shard, _ in shards])
        pq.write_table(refused, folder / "quarantine.parquet")
        records = {
            shard.name: {
                "bytes": record.num_bytes,
                "num_samples": record.num_samples,
                "sha256": record.sha256,
            }
            for shard, record in kept
        }
        write_json(records, folder / "shards.json")
        write_json(summary, folder / "summary.json")


def read_rows(store: Path, shards: Sequence[PlannedShard]) -> pd.DataFrame:
    """Returns the index rows of committed shards."""
    rows: pd.DataFrame = _read(store, shards, _INDEX).to_pandas()
    return rows


def read_refused(store: Path, shards: Sequence[PlannedShard]) -> pa.Table:
    """Returns the refused samples of committed shards, sorted by sample."""
    return _read(store, shards, _QUARANTINE).sort_by("sample_id")


@contextmanager
def held_alone(lock: Path, *outputs: Path) -> Iterator[None]:
    """Lets one process at a time work on outputs, and removes what a killed one left beside them.

    Args:
        lock: File that carries the lock; a killed process gives it up.
        outputs: Files and folders that `written_whole` makes, or folders of such.

    Raises:
        ValueError: If another process holds the lock.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{lock}: expected one process at a time, got a second") from None
        for output in outputs:
            for left in [*output.parent.glob(f".{output.name}.*.part"), *output.glob(".*.part")]:
                shutil.rmtree(left)
        yield


def _folder(store: Path, shard: PlannedShard) -> Path:
    return store / f"{shard.name}-{shard.key}"


def _read_record(folder: Path) -> ShardRecord | None:
    if not all((folder / name).is_file() for name in (_TAR, _INDEX, _QUARANTINE, _RECORD)):
        return None
    try:
        return ShardRecord(**json.loads((folder / _RECORD).read_bytes()))
    except (ValueError, TypeError):
        return None


def _read(store: Path, shards: Sequence[PlannedShard], name: str) -> pa.Table:
    # Not `read_table`, which opens a data set for each file: five times as slow for small ones.
    files = (pq.ParquetFile(_folder(store, shard) / name) for shard in shards)
    return pa.concat_tables([file.read() for file in files])


def _write_quarantine(refused: Sequence[RefusedSample], path: Path) -> None:
    rows = [{name: getattr(sample, name) for name in QUARANTINE_SCHEMA.names} for sample in refused]
    pq.write_table(pa.Table.from_pylist(rows, schema=QUARANTINE_SCHEMA).sort_by("sample_id"), path)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
