"""How planning, finding, publishing and versioning shards grow with a set (`make bench-plan`).

No photograph is labelled: the manifest is made from a seed, and each shard holds a few bytes under
the index rows that a real one has. Hashing a shard's bytes is told apart, by megabyte.
"""

import argparse
import hashlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from dav2.data.files import sha256_of
from dav2.data.open import SourceLocation
from dav2.labeling.codec import EncodedLabel
from dav2.labeling.job import LabelingJob, RayOptions, excerpt
from dav2.labeling.labeler import FinishedSample
from dav2.labeling.plan import PlannedShard, plan_shards
from dav2.labeling.prepare import LabelingOptions, Preparer
from dav2.labeling.store import commit_shard, find_shard, publish
from dav2.labeling.summary import summarise

OPTIONS = LabelingOptions(
    short_side_px=518,
    jpeg_scaling=False,
    image_short_side_px=518,
    jpeg_quality=95,
    max_aspect_ratio=4.0,
    batch_size=16,
    check_fraction=0.01,
    check_scale=1.5,
    codec="png16",
    dtype="float32",
    compile=False,
)
_HASHED_MB = 256


def main() -> None:
    """Prints a line for each step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--samples-per-shard", type=int, default=1024)
    parser.add_argument("--written", type=int, default=100, help="shards that are really written")
    parser.add_argument("--versioned", type=int, default=10_000, help="small shards given to DVC")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), options.rows, options.samples_per_shard, options.written)
        version(Path(folder) / "project", options.versioned)


def measure(folder: Path, num_rows: int, samples_per_shard: int, num_written: int) -> None:
    """Times each step once, in the order in which the stage takes them.

    Args:
        folder: To write to.
        num_rows: Of the manifest.
        samples_per_shard: Most samples in a shard.
        num_written: Shards that are written, found and published.
    """
    rows = manifest("wild", num_rows)
    job = _job(rows, folder / "store")
    with timed("plan", num_rows, "rows"):
        shards = plan_shards(rows, samples_per_shard=samples_per_shard, recipe="r")
    more = pd.concat([rows, manifest("more", num_rows // 10)], ignore_index=True)
    with timed("plan with a source added", len(more), "rows"):
        grown = plan_shards(more, samples_per_shard=samples_per_shard, recipe="r")
    keys = {shard.name: shard.key for shard in grown}
    assert all(keys[shard.name] == shard.key for shard in shards)
    with timed("excerpt of 64 shards", len(shards[:64]), "shards"):
        _, part = excerpt(shards[:64], job)
        Preparer(part.manifest, job.sources, OPTIONS)
    shards, job = excerpt(shards[:num_written], job)
    with timed("commit", len(shards), "shards"):
        records = [
            (shard, commit_shard(job.store, shard, _results(job.manifest, shard)))
            for shard in shards
        ]
    with timed("find", len(shards), "shards"):
        assert all(find_shard(job.store, shard) for shard in shards)
    with timed("describe", len(shards), "shards"):
        summary = summarise(job, records)
    with timed("publish", len(shards), "shards"):
        publish(job.store, records, folder / "output", summary=summary)
    big = folder / "big"
    big.write_bytes(os.urandom(1_000_000) * _HASHED_MB)
    with timed("hash a shard's bytes", _HASHED_MB, "MB"):
        sha256_of(big)


def version(project: Path, num_shards: int) -> None:
    """Times DVC on one output of many shards, and again when a source has added a tenth to them.

    Args:
        project: Folder to make.
        num_shards: Files of a few bytes; of whole ones DVC reads each new one besides.
    """
    shards = project / "shards"
    shards.mkdir(parents=True)
    _dvc(project, "init", "--no-scm")
    _dvc(project, "config", "cache.type", "hardlink")
    (project / "dvc.yaml").write_text("stages: {label: {cmd: 'true', outs: [shards]}}\n")
    total = 0
    for source, count in (("wild", num_shards), ("more", num_shards // 10)):
        for number in range(count):
            (shards / f"{source}-b{number:08}.tar").write_bytes(f"{source} {number}".encode())
        total += count
        with timed("dvc commit", total, "shards"):
            _dvc(project, "commit", "--force")
        with timed("dvc status", total, "shards"):
            assert "up to date" in _dvc(project, "status")


def _dvc(project: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    return subprocess.run(
        command, cwd=project, env=environment, check=True, capture_output=True, text=True
    ).stdout


def manifest(source: str, num_rows: int) -> pd.DataFrame:
    """Returns as much of a manifest as labelling reads."""
    hashes = [
        hashlib.sha256(f"{source} {number}".encode()).hexdigest() for number in range(num_rows)
    ]
    sizes = np.random.default_rng(0).integers(0, 3, num_rows)
    return pd.DataFrame(
        {
            "sample_id": [f"{source}-{number:09}" for number in range(num_rows)],
            "source": source,
            "scene": "",
            "image": [f"{number // 1000:06}/{number:09}.jpg" for number in range(num_rows)],
            "depth": None,
            "extra": "[]",
            "width": np.array([686, 518, 770])[sizes],
            "height": np.array([518, 686, 518])[sizes],
            "content_hash": hashes,
            "image_hash": hashes,
            "decoder": "d" * 16,
        }
    )


@contextmanager
def timed(what: str, count: int, unit: str) -> Iterator[None]:
    """Prints how long the block took, of which processor time, and the units a second of that."""
    begin_s, begin_cpu_s = time.perf_counter(), _processor_s()
    yield
    seconds, cpu_s = time.perf_counter() - begin_s, _processor_s() - begin_cpu_s
    rate = count / cpu_s
    print(f"{what:<26} {count:>10,} {unit:<6} {seconds:>8.2f} s {cpu_s:>8.2f} s {rate:>12,.0f}/s")


def _processor_s() -> float:
    """Returns the processor time of this process and of those it has started and seen end."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _job(rows: pd.DataFrame, store: Path) -> LabelingJob:
    store.mkdir()
    return LabelingJob(
        manifest=rows,
        sources={"wild": SourceLocation(reader="folder", root=store)},
        load_teacher=torch.nn.Identity,
        teacher="t" * 16,
        recipe="r",
        verify=lambda: None,
        options=OPTIONS,
        device=torch.device("cpu"),
        num_threads=1,
        num_workers=1,
        store=store,
        ray=RayOptions(None, None),
    )


def _results(rows: pd.DataFrame, shard: PlannedShard) -> Iterator[FinishedSample]:
    for sample_id in rows["sample_id"].to_numpy()[list(shard.rows)]:
        yield FinishedSample(
            sample_id=sample_id,
            jpeg=b"jpg",
            label=EncodedLabel(b"png", 0.0, 1.0, "png16"),
            description=b"{}",
            row={
                "sample_id": sample_id,
                "source": "wild",
                "image_height": 518,
                "image_width": 686,
                "height": 518,
                "width": 686,
                "flip_inconsistency": None,
                "scale_inconsistency": None,
                "label_min": 0.0,
                "label_max": 1.0,
                "label_p01": 0.0,
                "label_p50": 0.5,
                "label_p99": 1.0,
                "zero_fraction": 0.0,
                "degenerate": False,
                "ramp_correlation": 0.5,
            },
        )


if __name__ == "__main__":
    main()
