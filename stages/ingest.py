"""Lists, checks and measures every sample of one source: manifest, quarantine and summary.

What was measured is kept by the listing (path, size, version) of a sample's files, so that a second
run reads only what is new or changed. What is published never depends on it. A source whose `watch`
names a listing is taken as that listing has it, and is not listed again.
"""

import json
import logging
import os
import re
import shutil
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from functools import partial
from itertools import tee
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveInt
from tqdm import tqdm

from dav2.data.files import write_json, written_whole
from dav2.data.manifest import ManifestWriter
from dav2.data.measurement import MEASURED_COLUMNS, measure_sample
from dav2.data.open import DatasetName, SourceLocation
from dav2.data.sample import Reader, SampleFiles
from dav2.data.storage import RememberingStorage, Storage, open_storage
from dav2.data.tars import TarMember, list_members
from stages.fingerprint import code_fingerprint, fingerprint, work_folder
from stages.ingest_work import IngestWork, Job, ListedStorage, to_json
from stages.params import Params, load
from stages.program import run
from stages.snapshot import read_listing
from stages.sources import SourceParams, load_sources
from stages.tracking import recorded
from stages.workers import map_surviving

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
    storage = open_storage(source.root)
    module = f"dav2.data.{source.reader}"
    constant = {
        "source": name,
        "dataset": source.reader,
        "domain": source.domain,
        "decoder": fingerprint(code_fingerprint([module]), source.options),
    }
    code = code_fingerprint(["dav2.data.measurement", module])
    mark = fingerprint(code, params.max_image_pixels, source.options)
    summary = _Summary()
    for leftover in out.parent.glob(f".{out.name}.*.part"):
        shutil.rmtree(leftover)  # of a run that was killed; the next stage hashes the whole parent
    with (
        closing(IngestWork(work_folder(f"ingest-{name}", mark) / "rows.sqlite")) as work,
        written_whole(out) as folder,
    ):
        folder.mkdir()
        num_samples = _list(name, source, storage, work, params)
        _measure_missing(name, source, work, params, num_samples)
        work.compare_samples()
        with (
            ManifestWriter(folder / "manifest.parquet") as good,
            ManifestWriter(folder / "quarantine.parquet") as quarantined,
        ):
            for chunk in work.measured():
                rows = [_row(job, measured, constant) for job, measured in chunk]
                good.write([row for row in rows if row["reason"] is None])
                quarantined.write([row for row in rows if row["reason"] is not None])
                summary.add(rows)
        summary.check(storage.where(), params.max_quarantined_fraction)
        write_json(summary.content(name, source.reader), folder / "summary.json")


def _list(
    name: str, source: SourceParams, storage: Storage, work: IngestWork, params: IngestParams
) -> int:
    """Lists the source's files, then its samples; returns how many samples there are."""
    listing = Path(source.watch)
    is_listed = source.watch != source.root and listing.is_file()
    files = read_listing(listing) if is_listed else storage.list_files()
    work.list_files(tqdm(files, desc=f"list {name}", unit=" files", mininterval=1))
    reader = source.location().open(
        max_pixels=params.max_image_pixels,
        storage=ListedStorage(
            storage, work, read_archives=partial(_list_archives, name, source, work, params)
        ),
    )
    for split in source.splits():
        work.add_samples(name, split, reader.list_samples(split))
    return work.name_samples()


def _list_archives(name: str, source: SourceParams, work: IngestWork, params: IngestParams) -> None:
    """Reads the headers of new tars, several at a time; what fails is told when it is needed."""
    archives = work.unread_archives()
    found = map_surviving(
        _members_of,
        archives,
        num_workers=params.num_workers or os.cpu_count() or 1,
        prepare=_prepare,
        prepare_with=(source.location(), params.max_image_pixels),
        on_death=lambda _: None,
        jobs_at_once=1,
    )
    bar = tqdm(archives, desc=f"list {name}", unit=" tars", mininterval=1)
    for archive, members in zip(bar, found, strict=True):
        if members is not None:
            work.keep_members(archive, members)


def _members_of(archive: str) -> list[TarMember] | None:
    _, storage, _ = _worker
    try:
        return list(list_members(storage, archive))
    except (ValueError, OSError):
        return None


def _measure_missing(
    name: str, source: SourceParams, work: IngestWork, params: IngestParams, num_samples: int
) -> None:
    """Measures what is new or changed since the last run."""
    num_missing = work.count_missing()
    jobs, again = tee(work.missing())
    results = map_surviving(
        _measure_one,
        (job.files for job in jobs),
        num_workers=params.num_workers or os.cpu_count() or 1,
        prepare=_prepare,
        prepare_with=(source.location(), params.max_image_pixels),
        on_death=_died,
    )
    with tqdm(
        total=num_samples,
        initial=num_samples - num_missing,
        desc=f"ingest {name}",
        unit=" samples",
        mininterval=1,
    ) as bar:
        for job, row in zip(again, results, strict=True):
            work.keep(job, row)
            bar.update()


# The state of a worker process: one reader, with the tables it has read.
_worker: tuple[Reader, RememberingStorage, int]


def _prepare(location: SourceLocation, max_pixels: int) -> None:
    global _worker
    storage = RememberingStorage(open_storage(location.root))
    _worker = (location.open(max_pixels=max_pixels, storage=storage), storage, max_pixels)
    warnings.simplefilter("ignore")  # Pillow's on damaged metadata; what matters becomes a reason


def _measure_one(files: SampleFiles) -> dict[str, Any]:
    reader, storage, max_pixels = _worker
    with storage.remembering():
        return measure_sample(reader, files, where=storage.where(), max_pixels=max_pixels)


def _died(files: SampleFiles) -> dict[str, Any]:
    reason = f"{files.image}: expected files that can be read, got the death of the process"
    return dict.fromkeys(MEASURED_COLUMNS) | {"reason": reason}


def _row(job: Job, measured: Mapping[str, Any], constant: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **constant,
        "sample_id": job.sample_id,
        "split": job.split,
        "scene": job.files.scene,
        "image": job.files.image,
        "depth": job.files.depth,
        "extra": to_json(job.files.extra),
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

    def check(self, root: str, max_fraction: float) -> None:
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


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run("ingest", main, sys.argv[1], Path(sys.argv[2]))
