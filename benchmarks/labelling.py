"""Rate of labelling from JPEG to shard, against the bare model (`make bench-label`).

Photographs are made from a seed. In turns, so that a busy machine slows them alike, three loops
label the same ones: the model alone on batches that lie ready, the engine `inline`, and the plain
way, one photograph after the other. The fastest turn of each counts. A GPU's busy time is that
between CUDA events around each pass through the model, as a share of the engine's turn. With
`--compile false true` each encoder is measured uncompiled and compiled; what compiling takes is
before the turns.
"""

import argparse
import hashlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import torch
from torch import nn

from benchmarks.model import machine, random_model
from benchmarks.training_samples import scene
from dav2.data.images import encode_jpeg
from dav2.data.open import SourceLocation
from dav2.labeling.codec import CodecName
from dav2.labeling.engine import label_inline
from dav2.labeling.job import LabelingJob, RayOptions
from dav2.labeling.labeler import Label, Labeler
from dav2.labeling.plan import PlannedShard, plan_batches, plan_shards
from dav2.labeling.prepare import LabelingOptions, PreparedImage, Preparer
from dav2.labeling.store import commit_shard
from dav2.models.device import chosen_device
from dav2.models.encoder import EncoderName
from stages.labelling_plan import GIGAFLOP_518, gigaflop

_PEAK_TFLOP_S = 790  # sustained in bf16 by the GPU of the project's goal
_COLUMNS = (
    "encoder",
    "dtype",
    "compiled",
    "batch",
    "bare/s",
    "labelling/s",
    "of bare",
    "plain/s",
    "ours / plain",
    "CPU ms beside the model",
    "cores to hide it",
    "TFLOP/s",
)
_GPU_COLUMNS = (f"of {_PEAK_TFLOP_S}", "GPU busy")


@dataclass(frozen=True, slots=True)
class Work:
    """What is labelled, and with what."""

    job: LabelingJob
    model: nn.Module
    labeler: Labeler
    shards: Sequence[PlannedShard]
    preparer: Preparer

    def batches(self) -> list[tuple[int, ...]]:
        """Returns places in the manifest, as the engine brings them together."""
        size_of, batch_size = self.preparer.size_of, self.job.options.batch_size
        return [
            batch
            for shard in self.shards
            for batch in plan_batches(shard, size_of, batch_size=batch_size)
        ]

    def count(self) -> int:
        """Returns the number of photographs."""
        return len(self.job.manifest)


class ModelClock:
    """Time that a GPU spends on passes through a model."""

    def __init__(self, model: nn.Module) -> None:
        self._events: list[Any] = []
        model.register_forward_pre_hook(self._record)
        model.register_forward_hook(self._record)

    def take_s(self) -> float:
        """Returns the seconds since the last call; waits for the GPU."""
        torch.cuda.synchronize()
        pairs = zip(self._events[::2], self._events[1::2], strict=True)
        milliseconds: float = sum(begin.elapsed_time(end) for begin, end in pairs)
        self._events.clear()
        return milliseconds / 1000

    def _record(self, *_: object) -> None:
        timer: Any = torch.cuda.Event  # untyped
        event = timer(enable_timing=True)
        event.record()
        self._events.append(event)


def write_photographs(folder: Path, count: int, size: tuple[int, int]) -> pd.DataFrame:
    """Writes JPEGs; returns as much of their manifest as labelling reads."""
    rows = []
    for number in range(count):
        name, data = f"{number:06}.jpg", encode_jpeg(scene(number, size)[0], quality=90)
        (folder / name).write_bytes(data)
        rows.append({"sample_id": f"made-{number:06}", "image": name, "image_hash": _hash(data)})
    table = pd.DataFrame(rows)
    return table.assign(
        source="made",
        scene="",
        depth=None,
        extra="[]",
        decoder="d",
        height=size[0],
        width=size[1],
        content_hash=table["image_hash"],
    )


def bare(work: Work) -> Callable[[], None]:
    """Returns the model alone: batches are on the device, maps stay there."""
    device = work.job.device
    batches = [
        work.labeler.stack([work.preparer.prepare(row) for row in rows]).to(device)
        for rows in work.batches()
    ]

    def run() -> None:
        for batch in batches:
            work.labeler.answer(batch)
        _wait(device)

    return run


def ours(work: Work) -> Callable[[], None]:
    """Returns the engine `inline`, which commits shards."""

    def run() -> None:
        shutil.rmtree(work.job.store, ignore_errors=True)
        work.job.store.mkdir()
        for attempt in label_inline(work.shards, work.job, work.labeler, on_samples=_ignore):
            if attempt.record is None:
                raise RuntimeError(attempt.failure)

    return run


def plain(work: Work) -> Callable[[], None]:
    """Returns the plain way: read, compute, encode and write one photograph after the other."""

    def run() -> None:
        shutil.rmtree(work.job.store, ignore_errors=True)
        work.job.store.mkdir()
        for shard in work.shards:
            results = (
                work.labeler.finish(image, _label(work, image))
                for image in map(work.preparer.prepare, shard.rows)
            )
            commit_shard(work.job.store, shard, results)

    return run


def seconds_beside(work: Work) -> float:
    """Returns the processor time of reading and encoding one photograph."""
    rows = range(min(work.count(), 16))
    images = [work.preparer.prepare(row) for row in rows]
    labels = [_label(work, image) for image in images]
    begin_s = time.thread_time()
    for row, label in zip(rows, labels, strict=True):
        work.labeler.finish(work.preparer.prepare(row), label)
    return (time.thread_time() - begin_s) / len(rows)


def measure(work: Work, encoder: EncoderName, rounds: int) -> str:
    """Returns a row of the table."""
    clock = ModelClock(work.model) if work.job.device.type == "cuda" else None
    loops = [bare(work), ours(work), plain(work)]
    if work.job.options.compile:
        loops[0]()
    best = [(float("inf"), 0.0)] * len(loops)
    for _ in range(rounds):
        for place, run in enumerate(loops):
            if clock is not None:
                clock.take_s()
            begin_s = time.perf_counter()
            run()
            seconds = time.perf_counter() - begin_s
            best[place] = min(best[place], (seconds, clock.take_s() if clock else 0.0))
    rates = [work.count() / seconds for seconds, _ in best]
    beside_s = seconds_beside(work)
    size = work.preparer.size_of(0)
    tera = rates[1] * gigaflop(encoder, *size) / 1000 if encoder in GIGAFLOP_518 else float("nan")
    options = work.job.options
    cells = [
        encoder,
        options.dtype,
        "yes" if options.compile else "no",
        str(options.batch_size),
        *(f"{rate:.3g}" for rate in rates[:2]),
        f"{rates[1] / rates[0]:.3f}",
        f"{rates[2]:.3g}",
        f"{rates[1] / rates[2]:.2f}",
        f"{1000 * beside_s:.1f}",
        f"{beside_s * rates[0]:.2g}",
        f"{tera:.3g}",
    ]
    if clock is not None:
        seconds, busy_s = best[1]
        cells += [f"{tera / _PEAK_TFLOP_S:.1%}", f"{busy_s / seconds:.1%}"]
    return _row(cells)


def header(device: str) -> str:
    """Returns the head of the table; on a CPU without what only a GPU has."""
    columns = [*_COLUMNS, *(_GPU_COLUMNS if device == "cuda" else ())]
    return f"{_row(columns)}\n{_row(['---'] * len(columns))}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str]) -> None:
    """Prints a row for each encoder."""
    given = _parser().parse_args(arguments)
    device = chosen_device(given.device, where="--device")
    if device == "cpu":
        torch.set_num_threads(given.threads)
    size, side = given.size, given.short_side_px
    print(f"{machine(device)}; {given.num_images} photographs of {size[1]} x {size[0]} px")
    print(f"short side {side} px, codec {given.codec}, {given.workers} threads beside the model\n")
    print(header(device), flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "made").mkdir()
        rows = write_photographs(folder / "made", given.num_images, size)
        for encoder, is_compiled in product(given.encoders, given.compile):
            work = _work(folder, rows, encoder, device, given, is_compiled=is_compiled == "true")
            print(measure(work, encoder, given.rounds), flush=True)


def _work(
    folder: Path,
    rows: pd.DataFrame,
    encoder: EncoderName,
    device: str,
    given: argparse.Namespace,
    *,
    is_compiled: bool,
) -> Work:
    options = LabelingOptions(
        short_side_px=given.short_side_px,
        jpeg_scaling=False,
        image_short_side_px=given.short_side_px,
        jpeg_quality=95,
        max_aspect_ratio=4.0,
        batch_size=given.batch_size,
        check_fraction=0.0,  # checks run the model again, which the bare one does not
        check_scale=None,
        codec=given.codec,
        dtype=given.dtype or ("bfloat16" if device == "cuda" else "float32"),
        compile=is_compiled,
    )
    model = random_model(encoder)
    job = LabelingJob(
        manifest=rows,
        sources={"made": SourceLocation(reader="folder", root=folder / "made")},
        load_teacher=lambda: model,
        teacher="t" * 16,
        recipe="r",
        verify=lambda: None,
        options=options,
        device=torch.device(device),
        num_threads=given.threads,
        num_workers=given.workers,
        store=folder / "store",
        ray=RayOptions(None, None),
    )
    labeler = Labeler(model, options, device=job.device, teacher=job.teacher)
    shards = plan_shards(rows, samples_per_shard=given.samples_per_shard, recipe=job.recipe)
    preparer = Preparer(rows, job.sources, options)
    return Work(job, model, labeler, shards, preparer)


def _label(work: Work, image: PreparedImage) -> Label:
    return work.labeler.label([image], work.labeler.stack([image]))[0]


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _ignore(count: int) -> None:
    del count


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Rate of labelling against the bare model.")
    add: Callable[..., Any] = parser.add_argument
    add("--encoders", nargs="+", default=["vits"], choices=get_args(EncoderName))
    add("--device", default="auto", help="cpu, cuda or auto")
    add("--dtype", choices=("float32", "bfloat16"), help="bfloat16 on a GPU, else float32")
    add("--compile", nargs="+", default=["false"], choices=("false", "true"))
    add("--num-images", type=int, default=64)
    add("--size", type=int, nargs=2, default=(518, 686), metavar=("HEIGHT", "WIDTH"))
    add("--short-side-px", type=int, default=518)
    add("--batch-size", type=int, default=8)
    add("--samples-per-shard", type=int, default=64)
    add("--codec", default="png16", choices=get_args(CodecName))
    add("--threads", type=int, default=2, help="of the model on a CPU")
    add("--workers", type=int, default=2, help="threads that decode, and as many that encode")
    add("--rounds", type=int, default=3)
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
