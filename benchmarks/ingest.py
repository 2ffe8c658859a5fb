"""Rate and memory of ingest, against a loop that only decodes with Pillow (`make bench-ingest`).

Sources are made from a seed in a temporary folder and ingested by the stage itself, in processes of
its own; the loop runs in as many. Files come from the page cache, so that disks do not count. Steps
are timed in one further run within this process.
"""

import argparse
import hashlib
import io
import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import chdir
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.ingest_steps import replaced, step_seconds
from dav2.data.images import encode_jpeg
from dav2.data.measurement import MEASURED_COLUMNS
from dav2.data.sample import SampleFiles
from stages import ingest
from stages.snapshot import LISTING_SCHEMA

PROJECT = Path(__file__).resolve().parents[1]
PARAMS = """
sources:
  small:
    {{reader: folder, root: small, watch: small, domain: mixed, roles: {{unlabelled: [all]}}}}
  few:
    {{reader: folder, root: few, watch: few, domain: mixed, roles: {{unlabelled: [all]}}}}
  large:
    {{reader: folder, root: large, watch: large, domain: mixed, roles: {{unlabelled: [all]}}}}
  depth:
    {{reader: diode, root: depth, watch: depth, domain: mixed, roles: {{labelled: [train]}}}}
  rows:
    {{reader: folder, root: rows, watch: rows.parquet, domain: mixed, roles: {{unlabelled: [all]}}}}
ingest:
  num_workers: {num_workers}
  max_image_pixels: 100000000
  max_quarantined_fraction: 0.01
"""
SIZES = {"small": (360, 480), "few": (360, 480), "large": (3000, 4000), "depth": (768, 1024)}
_NUM_PICTURES = 8
_NUM_FEW = 64  # of which a run takes nearly as long as starting all processes
_MEMORY_EVERY_S = 0.25  # looking takes a hundredth of a second where many processes run


@dataclass(frozen=True, slots=True)
class Taken:
    """What one run of the stage took."""

    seconds: float
    peak_mb: float = 0.0
    """Of resident memory, over the stage and its processes together."""
    cpu_s: float = 0.0
    """Processor time, likewise."""


def pictures(size: tuple[int, int], count: int) -> Iterator[np.ndarray]:
    """Yields RGB images as smooth and as noisy as photographs, each another."""
    numbers = np.random.default_rng(0)
    height, width = size
    bases = []
    for _ in range(min(count, _NUM_PICTURES)):
        coarse = Image.fromarray(numbers.integers(0, 256, (24, 32, 3), np.uint8))
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
        noise = numbers.integers(-6, 7, smooth.shape, np.int16)
        bases.append((smooth + noise).clip(0, 255).astype(np.uint8))
    for number in range(count):
        yield np.roll(bases[number % len(bases)], number // len(bases), axis=1)


def write_photographs(name: str, count: int) -> None:
    """Writes JPEGs of quality 90, a thousand in a folder."""
    for number, picture in enumerate(pictures(SIZES[name], count)):
        path = Path(name) / f"{number // 1000:03d}" / f"{number % 1000:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_jpeg(picture, quality=90))


def write_depth(count: int) -> None:
    """Writes images with depth, as DIODE has them."""
    for number, picture in enumerate(pictures(SIZES["depth"], count)):
        stem = Path("depth/train/indoors/scene_00000/scan_00000") / f"{number:05d}"
        stem.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(stem.with_suffix(".png"), compress_level=1)
        depth = 2 + picture[..., :1].astype(np.float32) / 64
        np.save(f"{stem}_depth.npy", depth)
        np.save(f"{stem}_depth_mask.npy", (picture[..., 1] > 25).astype(np.float32))


def write_listing(count: int) -> None:
    """Writes the listing of photographs that do not exist: everything about them is known."""
    Path("rows").mkdir()
    names = [f"{number // 1000:05d}/{number % 1000:03d}.jpg" for number in range(count)]
    columns = [
        names,
        [100_000 + number for number in range(count)],
        [f"{n:032x}" for n in range(count)],
    ]
    pq.write_table(pa.table(columns, schema=LISTING_SCHEMA), "rows.parquet")


def remember_rows() -> float:
    """Lets the stage believe that it has measured every listed photograph; returns the seconds."""

    def measured(function: Any, jobs: Iterable[SampleFiles], **_: Any) -> Iterator[dict[str, Any]]:
        for files in jobs:
            mark = hashlib.sha256(files.image.encode()).hexdigest()
            known = {"width": 480, "height": 360, "bytes": 100_000, "brightness": 0.5}
            row = dict.fromkeys(MEASURED_COLUMNS)
            yield row | known | {"image_hash": mark, "content_hash": mark}

    with replaced(ingest, "map_surviving", measured):
        started = time.perf_counter()
        ingest.main("rows", Path("rows-1"))
        return time.perf_counter() - started


def run_stage(source: str, out: str) -> Taken:
    """Runs the stage as `dvc` does, and watches how much memory it takes."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "stages.ingest", source, out]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    before_s = _cpu_of_ended()
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    ended = threading.Event()
    peak = 0

    def watch() -> None:
        nonlocal peak
        while not ended.wait(_MEMORY_EVERY_S):
            peak = max(peak, _resident_bytes(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, shown = process.communicate()
    taken_s = time.perf_counter() - started
    ended.set()
    watcher.join()
    if process.returncode:
        raise RuntimeError(f"ingest {source}: expected it to end well, got {shown}")
    return Taken(taken_s, peak / 1e6, _cpu_of_ended() - before_s)


def _cpu_of_ended() -> float:
    """Returns the processor time of this process's children that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _resident_bytes(pid: int) -> int:
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            total += process.memory_info().rss
    except psutil.NoSuchProcess:
        pass  # ended between the two calls; the next look counts the others
    return total


def pillow(paths: Sequence[Path], num_workers: int) -> Taken:
    """Returns what a loop takes that reads and decodes files at full size."""
    parts = [paths[first::num_workers] for first in range(num_workers)]
    with ProcessPoolExecutor(num_workers, mp_context=get_context("spawn")) as pool:
        list(pool.map(_decode_all, [part[:1] for part in parts]))  # starts the processes
        spans = list(pool.map(_decode_all, parts))
    starts, ends, cpu_s = zip(*spans, strict=True)
    return Taken(max(ends) - min(starts), cpu_s=sum(cpu_s))


def _decode_all(paths: Sequence[Path]) -> tuple[float, float, float]:
    """Returns when it started and ended, on the clock that all share, and its processor time."""
    started, before_s = time.monotonic(), time.process_time()
    for path in paths:
        Image.open(io.BytesIO(path.read_bytes())).load()
    return started, time.monotonic(), time.process_time() - before_s


def main(arguments: Sequence[str]) -> None:
    """Prints a table of runs, and of the steps of each source."""
    options = _parser().parse_args(arguments)
    counts = {"small": options.num_images, "large": options.num_large, "depth": options.num_depth}
    workers = options.num_workers
    print(f"{platform.processor() or platform.machine()}, {workers} processes")
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        for package in ("dav2", "stages"):  # their code names the work
            Path(package).symlink_to(PROJECT / package)
        Path("params.yaml").write_text(PARAMS.format(num_workers=workers))
        write_photographs("small", counts["small"])
        write_photographs("few", _NUM_FEW)
        write_photographs("large", counts["large"])
        write_depth(counts["depth"])
        write_listing(options.num_rows)
        starting = run_stage("few", "few-1")
        print(
            f"Starting all processes, and {_NUM_FEW} photographs: {starting.seconds:.2f} s, "
            f"{starting.cpu_s:.2f} s of processor time"
        )
        print("\n| run | samples | s | samples/s | of Pillow's rate | of it per core | peak MB |")
        print("|---|---|---|---|---|---|---|")
        for source in ("small", "large", "depth"):
            _compare(source, counts[source], workers, starting)
        _print_run("rows: keeping what was measured", options.num_rows, Taken(remember_rows()))
        _print_run(
            "rows: planning from what is kept", options.num_rows, run_stage("rows", "rows-2")
        )
        for source in ("small", "large", "depth"):
            _forget(source)
            for path in Path(source).rglob("*.*"):
                path.read_bytes()  # the system may have dropped it from its cache
            _print_steps(source, step_seconds(source), counts[source])
        _print_steps("rows", step_seconds("rows"), options.num_rows)


def _compare(source: str, count: int, workers: int, starting: Taken) -> None:
    suffix = "*.png" if source == "depth" else "*.jpg"
    paths = sorted(Path(source).rglob(suffix))
    reference = pillow(paths, workers)
    height, width = SIZES[source]
    title = f"{source} ({width} x {height}): Pillow alone"
    _print_run(title, count, reference, reference)
    first, again = run_stage(source, f"{source}-1"), run_stage(source, f"{source}-1")
    _print_run(f"{source}: ingest", count, first, reference)
    steady = Taken(
        max(first.seconds - starting.seconds, 1e-9),
        first.peak_mb,
        max(first.cpu_s - starting.cpu_s, 1e-9),
    )
    _print_run(f"{source}: the same without starting processes", count, steady, reference)
    _print_run(f"{source}: the second run", count, again)


def _forget(source: str) -> None:
    for path in Path(".work").glob(f"ingest-{source}/*/rows.sqlite"):
        path.unlink()


def _print_run(title: str, count: int, taken: Taken, reference: Taken | None = None) -> None:
    rate = count / taken.seconds
    ratio = f"{reference.seconds / taken.seconds:.2f}" if reference else ""
    # Samples a second of processor time, whatever the processes waited for.
    core = f"{reference.cpu_s / taken.cpu_s:.2f}" if reference else ""
    memory = f"{taken.peak_mb:.0f}" if taken.peak_mb else ""
    print(f"| {title} | {count} | {taken.seconds:.2f} | {rate:.1f} | {ratio} | {core} | {memory} |")


def _print_steps(source: str, seconds: dict[str, float], count: int) -> None:
    total = sum(seconds.values())
    print(f"\n| {source}: step, in one process | ms a sample | share |\n|---|---|---|")
    for title, taken_s in sorted(seconds.items(), key=lambda entry: -entry[1]):
        if taken_s > 0.002 * total:
            print(f"| {title} | {taken_s / count * 1e3:.3f} | {taken_s / total:.1%} |")
    print(f"| together | {total / count * 1e3:.3f} | |")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Rate and memory of ingest against Pillow's.")
    parser.add_argument("--num-images", type=int, default=10_000, help="of 480 x 360")
    parser.add_argument("--num-large", type=int, default=200, help="of 4000 x 3000")
    parser.add_argument("--num-depth", type=int, default=200, help="of 1024 x 768, with depth")
    parser.add_argument("--num-rows", type=int, default=100_000, help="known beforehand")
    parser.add_argument("--num-workers", type=int, default=os.cpu_count() or 1)
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
