"""Lists, checks and measures every sample of one source: manifest, quarantine and summary.

What was measured is kept by the listing (path, size, modification time) of a sample's files, so
that a second run reads only what is new or changed. What is published never depends on it.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import sqlite3
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveInt
from tqdm import tqdm

from dav2.data.files import write_json, written_whole
from dav2.data.manifest import ManifestWriter, sample_ids
from dav2.data.measurement import MEASURED_COLUMNS, measure_sample
from dav2.data.open import DatasetName, open_dataset
from dav2.data.sample import Reader, SampleFiles
from stages.fingerprint import code_fingerprint, fingerprint, work_folder
from stages.params import Params, load
from stages.program import run
from stages.sources import SourceParams, load_sources
from stages.tracking import recorded
from stages.workers import map_surviving

_CHUNK = 4096  # samples held in memory at once
_LISTED_REASONS = 5
_logger = logging.getLogger(__name__)


class IngestParams(Params):
    """Section `ingest`."""

    num_workers: PositiveInt | None
    """Processes that read samples; null: one for each core. Decides no byte."""
    max_image_pixels: PositiveInt
    """Larger images are refused by their header, before anything is decoded."""
    max_quarantined_fraction: Annotated[float, Field(ge=0, lt=1)]
    """With a larger share of unreadable samples the stage fails; one may always be unreadable."""


@dataclass(frozen=True, slots=True)
class _Job:
    sample_id: str
    split: str
    files: SampleFiles
    key: str
    """Names the sample's files with their sizes and times."""


def main(source: str, out: Path) -> None:
    """Writes `manifest.parquet`, `quarantine.parquet` and `summary.json` of a source.

    Args:
        source: A key of the section `sources`.
        out: Folder to write, whole.

    Raises:
        SystemExit: With one line, if the parameters do not fit, the root is missing, empty or
            unreadable, or too many samples are. Nothing is written then.
    """
    try:
        sources = load_sources()
        if source not in sources:
            raise ValueError(f"expected one of the sources {', '.join(sources)}, got {source!r}")
        with recorded("ingest"):
            _ingest(source, sources[source], load("ingest", IngestParams), out)
    except (ValueError, OSError) as error:
        raise SystemExit(f"ingest {source}: {error}") from None


def _ingest(name: str, source: SourceParams, params: IngestParams, out: Path) -> None:
    root = Path(source.root)
    reader = open_dataset(source.reader, root, max_pixels=params.max_image_pixels)
    decoder = code_fingerprint([f"dav2.data.{source.reader}"])
    code = code_fingerprint(["dav2.data.measurement", f"dav2.data.{source.reader}"])
    constant = {
        "source": name,
        "dataset": source.reader,
        "domain": source.domain,
        "decoder": decoder,
    }
    jobs = _list_jobs(name, reader, source.splits(), root)
    mark = fingerprint(code, params.max_image_pixels)
    summary = _Summary()
    for leftover in out.parent.glob(f".{out.name}.*.part"):
        shutil.rmtree(leftover)  # of a run that was killed; the next stage hashes the whole parent
    with (
        closing(_Cache(work_folder(f"ingest-{name}", mark) / "rows.sqlite")) as cache,
        written_whole(out) as folder,
        tqdm(total=len(jobs), desc=f"ingest {name}", unit=" samples", mininterval=1) as bar,
    ):
        folder.mkdir()
        with (
            ManifestWriter(folder / "manifest.parquet") as good,
            ManifestWriter(folder / "quarantine.parquet") as quarantined,
        ):
            for start in range(0, len(jobs), _CHUNK):
                chunk = jobs[start : start + _CHUNK]
                measured = _measure(chunk, cache, source.reader, root, params, bar)
                rows = [_row(job, measured[job.key], constant) for job in chunk]
                good.write([row for row in rows if row["reason"] is None])
                quarantined.write([row for row in rows if row["reason"] is not None])
                summary.add(rows)
        summary.check(root, params.max_quarantined_fraction)
        write_json(summary.content(name, source.reader), folder / "summary.json")


def _list_jobs(name: str, reader: Reader, splits: Sequence[str], root: Path) -> list[_Job]:
    listed = [(split, files) for split in splits for files in reader.list_samples(split)]
    ids = sample_ids(name, [files.sample_id for _, files in listed])
    jobs = [
        _Job(sample_id, split, files, _listing_key(root, files))
        for sample_id, (split, files) in zip(ids, listed, strict=True)
    ]
    return sorted(jobs, key=lambda job: job.sample_id)


def _listing_key(root: Path, files: SampleFiles) -> str:
    listing: list[list[int] | None] = []
    for path in (files.image, *([files.depth] if files.depth else []), *files.extra):
        try:
            status = (root / path).stat()
            listing.append([status.st_size, status.st_mtime_ns])
        except OSError:
            listing.append(None)
    text = json.dumps([asdict(files), listing], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _measure(
    jobs: Sequence[_Job],
    cache: "_Cache",
    reader: DatasetName,
    root: Path,
    params: IngestParams,
    bar: "tqdm[Any]",
) -> dict[str, dict[str, Any]]:
    """Returns the measured columns of each job by its key, from the cache where it has them."""
    rows = cache.read(job.key for job in jobs)
    missing = [job for job in jobs if job.key not in rows]
    bar.update(len(jobs) - len(missing))
    if not missing:
        return rows
    results = map_surviving(
        _measure_one,
        [job.files for job in missing],
        num_workers=params.num_workers or os.cpu_count() or 1,
        prepare=_prepare,
        prepare_with=(reader, root, params.max_image_pixels),
        on_death=_died,
    )
    for job, row in zip(missing, results, strict=True):
        rows[job.key] = row
        if row["content_hash"] is not None:  # else a file could not be read: perhaps next time
            cache.write(job.key, row)
        bar.update()
    return rows


# The state of a worker process: one reader, with the tables it has read.
_worker: tuple[Reader, Path]


def _prepare(reader: DatasetName, root: Path, max_pixels: int) -> None:
    global _worker
    _worker = (open_dataset(reader, root, max_pixels=max_pixels), root)
    warnings.simplefilter("ignore")  # Pillow's on damaged metadata; what matters becomes a reason


def _measure_one(files: SampleFiles) -> dict[str, Any]:
    reader, root = _worker
    return measure_sample(reader, files, root=root)


def _died(files: SampleFiles) -> dict[str, Any]:
    reason = f"{files.image}: expected files that can be read, got the death of the process"
    return dict.fromkeys(MEASURED_COLUMNS) | {"reason": reason}


def _row(job: _Job, measured: Mapping[str, Any], constant: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **constant,
        "sample_id": job.sample_id,
        "split": job.split,
        "scene": job.files.scene,
        "image": job.files.image,
        "depth": job.files.depth,
        "extra": json.dumps(job.files.extra, ensure_ascii=False),
        **measured,
    }


class _Summary:
    """Counts what was read, for people and for the limit."""

    def __init__(self) -> None:
        self._good: Counter[str] = Counter()
        self._quarantined: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._first_reasons: list[str] = []

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:
            if row["reason"] is None:
                self._good[row["split"]] += 1
            else:
                self._quarantined[row["split"]] += 1
                self._reasons[_kind_of_reason(row)] += 1
                if len(self._first_reasons) < _LISTED_REASONS:
                    self._first_reasons.append(row["reason"])

    def check(self, root: Path, max_fraction: float) -> None:
        bad, total = self._quarantined.total(), self._good.total() + self._quarantined.total()
        for reason in self._first_reasons:
            _logger.warning("quarantined: %s", reason)
        if bad:
            _logger.warning("%d of %d samples are quarantined", bad, total)
        if bad == total or bad > max(1, max_fraction * total):
            raise ValueError(
                f"{root}: expected at most {max_fraction:.1%} of the samples to be unreadable "
                f"(ingest.max_quarantined_fraction), got {bad} of {total}; "
                f"the first: {self._first_reasons[0]}"
            )

    def content(self, name: str, reader: DatasetName) -> dict[str, Any]:
        return {
            "source": name,
            "dataset": reader,
            "good": self._good.total(),
            "quarantined": self._quarantined.total(),
            "splits": {
                split: {"good": self._good[split], "quarantined": self._quarantined[split]}
                for split in sorted(self._good | self._quarantined)
            },
            "reasons": dict(sorted(self._reasons.items())),
        }


def _kind_of_reason(row: Mapping[str, Any]) -> str:
    """Returns a reason without the file and its numbers, so that like ones count together."""
    reason: str = row["reason"]
    for path in sorted([row["image"], row["depth"] or "", *json.loads(row["extra"])], key=len):
        reason = reason.replace(path, "") if path else reason
    return re.sub(r"\d+", "N", reason).strip(": ")


class _Cache:
    """Measured rows by the listing of their files; what is committed survives a kill."""

    _COMMIT_EVERY = 32

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, timeout=60)
        self._database.execute("CREATE TABLE IF NOT EXISTS rows (key TEXT PRIMARY KEY, row TEXT)")
        self._waiting = 0

    def read(self, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        found = {}
        for key in keys:
            for (row,) in self._database.execute("SELECT row FROM rows WHERE key = ?", (key,)):
                found[key] = json.loads(row)
        return found

    def write(self, key: str, row: Mapping[str, Any]) -> None:
        self._database.execute("REPLACE INTO rows VALUES (?, ?)", (key, json.dumps(row)))
        self._waiting += 1
        if self._waiting >= self._COMMIT_EVERY:
            self._database.commit()
            self._waiting = 0

    def close(self) -> None:
        self._database.commit()
        self._database.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run("ingest", main, sys.argv[1], Path(sys.argv[2]))
