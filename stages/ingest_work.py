"""What ingest knows of a source while it runs: in SQLite, so that memory stays bounded.

The listing and the samples of a run lie in temporary tables; what was measured of a sample is kept
between runs, by the listing (path, size, version) of its files.
"""

import hashlib
import json
import math
import sqlite3
import time
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from dav2.data.duplicates import Hashes, nearest
from dav2.data.manifest import marked_name, sample_name
from dav2.data.measurement import MEASURED_COLUMNS
from dav2.data.sample import SampleFiles
from dav2.data.storage import MAX_BYTES, Storage, StoredFile, split_part
from dav2.data.tars import TarMember, list_members

_ROWS_AT_ONCE = 4096
to_json = json.JSONEncoder(ensure_ascii=False).encode  # `json.dumps` makes one at each call
_NONE = "[]"
_JOB_COLUMNS = "sample_id, split, key, reader_id, scene, image, depth, extra"
_COMMIT_EVERY_S = 1.0  # what a kill may cost; each commit waits for the disk


@dataclass(frozen=True, slots=True)
class Job:
    """One sample of a run."""

    sample_id: str
    split: str
    files: SampleFiles
    key: bytes
    """Names the sample and its files with their sizes and versions: 16 bytes of a hash."""


class IngestWork:
    """The listing and the samples of one run, and the measured rows of all; closed at the end."""

    def __init__(self, path: Path) -> None:
        """Opens the database of a source's work, creating it if there is none."""
        self._database = sqlite3.connect(path, timeout=60)
        run = self._database.execute
        run("CREATE TABLE IF NOT EXISTS rows (key BLOB PRIMARY KEY, row TEXT, looks TEXT)")
        run("CREATE TABLE IF NOT EXISTS archives (key BLOB PRIMARY KEY, members BLOB)")
        # Of this run alone: SQLite keeps them in a file without a name, so nothing is left of them.
        run("CREATE TEMP TABLE listing (path TEXT PRIMARY KEY, bytes INT, version TEXT)")
        run(
            "CREATE TEMP TABLE jobs (sample_id TEXT, reader_id TEXT PRIMARY KEY, split TEXT, "
            "scene TEXT, image TEXT, depth TEXT, extra TEXT, key BLOB)"
        )
        run("CREATE TEMP TABLE unread (key BLOB PRIMARY KEY, row TEXT, looks TEXT)")
        run("CREATE TEMP TABLE alike (job INTEGER PRIMARY KEY, bits INT)")
        self._committed_s = -math.inf  # the first row is kept at once, so that each run gets on

    def list_files(self, files: Iterable[StoredFile]) -> None:
        """Takes the listing of the source."""
        rows = ((file.path, file.bytes, file.version) for file in files)
        self._database.executemany("INSERT OR REPLACE INTO temp.listing VALUES (?, ?, ?)", rows)

    def listed(self, folder: str) -> Iterator[StoredFile]:
        """Yields the listed files below a folder, by path."""
        top = f"{folder.strip('/')}/" if folder.strip("/") else ""
        last = top
        query = "SELECT path, bytes, version FROM temp.listing WHERE path > ? ORDER BY path LIMIT ?"
        while True:  # no cursor stays open while jobs are added
            found = self._database.execute(query, (last, _ROWS_AT_ONCE)).fetchall()
            for path, size, version in found:
                if not path.startswith(top):
                    return
                yield StoredFile(path, size, version)
            if not found:
                return
            last = found[-1][0]

    def file(self, path: str) -> StoredFile | None:
        """Returns a listed file, for a part the file that holds it; None if it is not listed."""
        name, _ = split_part(path)
        query = "SELECT path, bytes, version FROM temp.listing WHERE path = ?"
        found = self._database.execute(query, (name,)).fetchone()
        return StoredFile(*found) if found else None

    def unread_archives(self) -> list[str]:
        """Returns the paths of listed tars whose members are not known."""
        query = "SELECT path FROM temp.listing WHERE path LIKE '%.tar' ORDER BY path"
        paths = [path for (path,) in self._database.execute(query).fetchall()]
        known = {key for (key,) in self._database.execute("SELECT key FROM archives")}
        return [path for path in paths if self._archive_key(path) not in known]

    def members(self, archive: str) -> list[TarMember] | None:
        """Returns what a listed tar holds; None if it was not read, or is another one now."""
        query = "SELECT members FROM archives WHERE key = ?"
        found = self._database.execute(query, (self._archive_key(archive),)).fetchone()
        if found is None:
            return None
        return [TarMember(*entry) for entry in json.loads(zlib.decompress(found[0]))]

    def keep_members(self, archive: str, members: Iterable[TarMember]) -> None:
        """Keeps what a tar holds, for the runs to come."""
        text = json.dumps([(member.name, member.path, member.bytes) for member in members])
        values = (self._archive_key(archive), zlib.compress(text.encode()))
        self._database.execute("REPLACE INTO archives VALUES (?, ?)", values)
        self._database.commit()

    def add_samples(self, source: str, split: str, samples: Iterable[SampleFiles]) -> None:
        """Takes the samples of a split.

        Raises:
            ValueError: If the source's name does not fit, or a sample comes twice.
        """
        for files in samples:
            name = sample_name(source, files.sample_id)
            extra = to_json(files.extra)
            key = self._key(files)
            row = (name, files.sample_id, split, files.scene, files.image, files.depth, extra, key)
            try:
                self._database.execute("INSERT INTO temp.jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            except sqlite3.IntegrityError:
                raise ValueError(
                    f"source {source}: expected each sample once, got {files.sample_id!r} twice"
                ) from None

    def name_samples(self) -> int:
        """Gives samples whose names meet names of their own; returns how many samples there are."""
        run = self._database.execute
        run("CREATE INDEX temp.by_id ON jobs (sample_id)")
        met = run(
            "SELECT sample_id, reader_id FROM temp.jobs WHERE sample_id IN "
            "(SELECT sample_id FROM temp.jobs GROUP BY sample_id HAVING COUNT(*) > 1)"
        ).fetchall()
        for name, reader_id in met:
            values = (marked_name(name, reader_id), reader_id)
            run("UPDATE temp.jobs SET sample_id = ? WHERE reader_id = ?", values)
        run(
            "CREATE TEMP TABLE missing AS SELECT jobs.rowid AS job FROM temp.jobs "
            "LEFT JOIN rows USING (key) WHERE row IS NULL ORDER BY sample_id"
        )
        count: int = run("SELECT COUNT(*) FROM temp.jobs").fetchone()[0]
        return count

    def missing(self) -> Iterator[Job]:
        """Yields the samples that were not measured yet, by id."""
        query = (
            f"SELECT missing.rowid, {_JOB_COLUMNS} FROM temp.missing "
            "JOIN temp.jobs ON jobs.rowid = job WHERE missing.rowid > ? "
            "ORDER BY missing.rowid LIMIT ?"
        )
        last = 0
        while found := self._database.execute(query, (last, _ROWS_AT_ONCE)).fetchall():
            yield from (_job(*row[1:]) for row in found)
            last = found[-1][0]

    def count_missing(self) -> int:
        """Returns how many samples were not measured yet."""
        count: int = self._database.execute("SELECT COUNT(*) FROM temp.missing").fetchone()[0]
        return count

    def keep(self, job: Job, row: Mapping[str, Any]) -> None:
        """Keeps what was measured; of a sample whose files could not be read for this run only."""
        table = "rows" if row["content_hash"] is not None else "temp.unread"
        text = to_json([row[name] for name in MEASURED_COLUMNS])
        looks = row["perceptual_hash"] if row["reason"] is None else None
        self._database.execute(f"REPLACE INTO {table} VALUES (?, ?, ?)", (job.key, text, looks))
        if time.monotonic() - self._committed_s >= _COMMIT_EVERY_S:
            self._database.commit()
            self._committed_s = time.monotonic()

    def compare_samples(self) -> None:
        """Finds the good samples that look like another, for their `nearest_bits`.

        One without depth is compared with all others, one with depth with those of other scenes,
        whose frames look alike. Takes some 40 bytes a sample.
        """
        found = self._database.execute(
            "SELECT jobs.rowid, depth IS NOT NULL, scene, looks FROM temp.jobs "
            "JOIN rows USING (key) WHERE looks IS NOT NULL ORDER BY sample_id"
        )
        jobs, values, groups = array("q"), array("Q"), array("q")
        scenes: dict[str, int] = {}
        for job, has_depth, scene, looks in found:
            jobs.append(job)
            values.append(int(looks, 16))
            groups.append(-1 - scenes.setdefault(scene, len(scenes)) if has_depth else job)
        hashes = Hashes(np.array(values, np.uint64), np.array(groups, np.int64))
        distances, _ = nearest(hashes, hashes)
        near = ((jobs[place], int(distances[place])) for place in np.flatnonzero(distances >= 0))
        self._database.executemany("INSERT INTO temp.alike VALUES (?, ?)", near)

    def measured(self) -> Iterator[list[tuple[Job, dict[str, Any]]]]:
        """Yields all samples with what is known of them, by id, some thousand at a time."""
        self._database.commit()
        rows = self._database.execute(
            f"SELECT COALESCE(rows.row, unread.row), bits, {_JOB_COLUMNS} "
            "FROM temp.jobs LEFT JOIN rows USING (key) LEFT JOIN temp.unread USING (key) "
            "LEFT JOIN temp.alike ON job = jobs.rowid ORDER BY sample_id"
        )
        while found := list(islice(rows, _ROWS_AT_ONCE)):
            yield [
                (
                    _job(*job),
                    dict(zip(MEASURED_COLUMNS, json.loads(measured), strict=True))
                    | {"nearest_bits": bits},
                )
                for measured, bits, *job in found
            ]

    def close(self) -> None:
        """Commits what was measured."""
        self._database.commit()
        self._database.close()

    def _archive_key(self, archive: str) -> bytes:
        file = self.file(archive)
        version = [file.bytes, file.version] if file else None
        return hashlib.sha256(json.dumps([archive, version]).encode()).digest()[:16]

    def _key(self, files: SampleFiles) -> bytes:
        paths = (files.image, *([files.depth] if files.depth else []), *files.extra)
        found = [self.file(path) for path in paths]
        versions = [(file.bytes, file.version) if file else None for file in found]
        named = (files.sample_id, files.scene, files.image, files.depth, files.extra, versions)
        return hashlib.sha256(json.dumps(named).encode()).digest()[:16]


class ListedStorage:
    """Storage that answers from a listing what is there: readers list without asking the store."""

    def __init__(
        self, storage: Storage, work: IngestWork, *, read_archives: Callable[[], None] | None = None
    ) -> None:
        """Asks nothing yet.

        Args:
            storage: What was listed.
            work: Holds the listing.
            read_archives: Reads all new tars, once a reader asks for the members of one.
        """
        self._storage = storage
        self._work = work
        self._read_archives = read_archives

    def where(self, path: str = "") -> str:
        """Returns the full name of a file, for messages."""
        return self._storage.where(path)

    def list_files(self, folder: str = "") -> Iterator[StoredFile]:
        """Yields the listed files below a folder."""
        found = False
        for file in self._work.listed(folder):
            found = True
            yield file
        if folder and not found:
            raise FileNotFoundError(
                f"{self.where(folder)}: expected the folder of a dataset, got nothing there"
            )

    def status(self, path: str) -> StoredFile | None:
        """Returns a listed file, for a part the file that holds it."""
        return self._work.file(path)

    def read(self, path: str, *, max_bytes: int = MAX_BYTES) -> bytes:
        """Returns a file's bytes, or those of a member of a tar."""
        return self._storage.read(path, max_bytes=max_bytes)

    def open(self, path: str) -> AbstractContextManager[IO[bytes]]:
        """Returns a file to read from at any position."""
        return self._storage.open(path)

    def members(self, archive: str) -> Iterator[TarMember]:
        """Yields the regular files of a tar, which is read once for all runs."""
        known = self._work.members(archive)
        if known is None and self._read_archives is not None:
            read, self._read_archives = self._read_archives, None
            read()
            known = self._work.members(archive)
        if known is None:
            known = list(list_members(self._storage, archive))
            self._work.keep_members(archive, known)
        yield from known


def _job(
    sample_id: str,
    split: str,
    key: bytes,
    reader_id: str,
    scene: str,
    image: str,
    depth: str | None,
    extra: str,
) -> Job:
    others = () if extra == _NONE else tuple(json.loads(extra))
    return Job(sample_id, split, SampleFiles(reader_id, scene, image, depth, others), key)
