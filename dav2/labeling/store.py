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

_TAR, _INDEX, _QUARANTINE = "shard.tar", "index.parquet", "quarantine.parquet"
_RECORD = "record.json"

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
class FileRecord:
    """What is known of a file of a committed shard."""

    num_bytes: int
    sha256: str
    written_ns: int
    """When it was last written, as the file system says."""


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """What is known of a committed shard."""

    key: str
    num_refused: int
    num_samples: int
    unread: list[str]
    """Ids of samples refused for a cause that may pass."""
    set_aside: str
    """Why the shard was given up, with all its samples refused; empty where it was not."""
    tar: FileRecord
    index: FileRecord
    quarantine: FileRecord


def commit_shard(
    store: Path,
    shard: PlannedShard,
    results: Iterable[FinishedSample | RefusedSample],
    *,
    set_aside: str = "",
) -> ShardRecord:
    """Writes a shard, its index, its refused samples and its record; one rename makes it exist.

    A whole shard that is there already and has more labels stays: what could be read once may not
    be readable now.

    Args:
        store: Folder of committed shards.
        shard: The plan of this one.
        results: One result per planned sample, in the order to write; consumed as it is written.
        set_aside: Why it was given up, in one line, if it was.

    Returns:
        The record of the shard that is there then.
    """
    folder = _folder(store, shard)
    try:
        with written_whole(folder) as written:
            record = _write_shard(written, shard, results, set_aside=set_aside)
            there = _read_record(folder)
            has_more = there is not None and there.num_samples > record.num_samples
            if there is not None and has_more and _is_whole(folder, there):
                raise _FewerLabelsError(there)
    except _FewerLabelsError as error:
        logger.warning(
            "%s: expected at least the %d labels that are there, got %d: those stay",
            shard.name,
            error.there.num_samples,
            record.num_samples,
        )
        return error.there
    return record


def find_shard(store: Path, shard: PlannedShard) -> ShardRecord | None:
    """Returns the record of a committed shard, if there is one that was not set aside.

    None too where one of its files has changed since. As DVC does, a file of the same size and time
    counts as unchanged: to read terabytes at every start would take hours.
    """
    folder = _folder(store, shard)
    if not folder.is_dir():
        return None
    record = _read_record(folder)
    if record is None or record.key != shard.key:
        logger.warning("%s: expected a whole shard with its record, got less: made again", folder)
        return None
    return record if not record.set_aside and _is_whole(folder, record) else None


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
        copied = sum(
            _link(_folder(store, shard) / _TAR, folder / "shards" / f"{shard.name}.tar")
            for shard, _ in kept
        )
        if copied:
            logger.warning(
                "%s: expected the file system of %s, with hard links, got another: %.1f GB copied",
                output,
                store,
                copied / 1e9,
            )
        write_index(read_rows(store, [shard for shard, _ in shards]), folder / "manifest.parquet")
        refused = read_refused(store, [shard for shard, _ in shards])
        pq.write_table(refused, folder / "quarantine.parquet")
        records = {
            shard.name: {
                "bytes": record.tar.num_bytes,
                "num_samples": record.num_samples,
                "sha256": record.tar.sha256,
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


class _FewerLabelsError(Exception):
    """A shard has fewer labels than the one it would replace."""

    def __init__(self, there: ShardRecord) -> None:
        super().__init__(there.key)
        self.there = there


def _write_shard(
    folder: Path,
    shard: PlannedShard,
    results: Iterable[FinishedSample | RefusedSample],
    *,
    set_aside: str,
) -> ShardRecord:
    rows: list[dict[str, Any]] = []
    refused: list[RefusedSample] = []
    folder.mkdir()
    with ShardWriter(folder / _TAR) as writer:
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
        num_refused=len(refused),
        num_samples=len(rows),
        unread=[sample.sample_id for sample in refused if not sample.is_lasting],
        set_aside=set_aside,
        tar=_file_record(folder / _TAR),
        index=_file_record(folder / _INDEX),
        quarantine=_file_record(folder / _QUARANTINE),
    )
    write_json(asdict(record), folder / _RECORD)
    return record


def _file_record(path: Path) -> FileRecord:
    found = path.stat()
    return FileRecord(found.st_size, sha256_of(path), found.st_mtime_ns)


def _is_whole(folder: Path, record: ShardRecord) -> bool:
    """Says whether the files of a shard are as its record has them; logs the first that is not."""
    for name, described in (
        (_TAR, record.tar),
        (_INDEX, record.index),
        (_QUARANTINE, record.quarantine),
    ):
        found = (folder / name).stat()
        if (found.st_size, found.st_mtime_ns) == (described.num_bytes, described.written_ns):
            continue
        if sha256_of(folder / name) != described.sha256:
            logger.warning(
                "%s: expected the checksum of its record, got another: made again", folder / name
            )
            return False
    return True


def _read_record(folder: Path) -> ShardRecord | None:
    if not all((folder / name).is_file() for name in (_TAR, _INDEX, _QUARANTINE, _RECORD)):
        return None
    try:
        content = json.loads((folder / _RECORD).read_bytes())
        for name in ("tar", "index", "quarantine"):
            content[name] = FileRecord(**content[name])
        return ShardRecord(**content)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _read(store: Path, shards: Sequence[PlannedShard], name: str) -> pa.Table:
    return pa.concat_tables([_read_table(_folder(store, shard) / name) for shard in shards])


def _read_table(path: Path) -> pa.Table:
    try:
        # Not `read_table`, which opens a data set for each file: five times as slow for small ones.
        return pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        got = str(error).partition("\n")[0]
        raise ValueError(
            f"{path}: expected a whole Parquet file, got {got}: without the folder its shard is "
            f"made again"
        ) from None


def _write_quarantine(refused: Sequence[RefusedSample], path: Path) -> None:
    rows = [{name: getattr(sample, name) for name in QUARANTINE_SCHEMA.names} for sample in refused]
    pq.write_table(pa.Table.from_pylist(rows, schema=QUARANTINE_SCHEMA).sort_by("sample_id"), path)


def _link(source: Path, target: Path) -> int:
    """Links a file, or copies it and returns its bytes."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
        return target.stat().st_size
    return 0
