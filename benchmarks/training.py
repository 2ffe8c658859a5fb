"""Rate of a training: loader, step and both together, against a plain loop (`make bench-train`).

Each encoder in each way has a process of its own, so that memory is its own. In it all loops take
turns, so that a busy machine slows them alike; the fastest turn of each counts.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import torch

from benchmarks.model import machine, matrix_rate
from benchmarks.training_loops import Ours, Plain, PlainViews, on_device, step_flops
from benchmarks.training_samples import GeneratedSamples, write_shards
from dav2.models.depth_anything import DepthAnything, ModelConfig
from dav2.models.device import chosen_device
from dav2.models.encoder import EncoderName
from dav2.training.augment import AugmentConfig
from dav2.training.data import TrainingData, Views
from dav2.training.memory import keep_freed_memory
from dav2.training.samples import PseudoLabels, Samples

PROJECT = Path(__file__).resolve().parents[1]
WAYS = ("float32", "bfloat16", "float32+compile", "bfloat16+compile")
_BATCH_ON_GPU = {"vits": 64, "vitb": 32, "vitl": 16, "vitg": 4}
_NUM_LOADED, _NUM_DRAWN = 96, 12
_LOOPS = ("loader", "step", "both", "plain")
_TOLD = ("source", "crop", "max_scale", "batch_size", "workers", "threads", "steps", "warmup")
_TABLE = (
    "| encoder | way | batch | loader/s | step/s | both/s | waits | both / step | TFLOP/s | "
    "of matrix rate | plain/s | ours / plain | peak GB | CPU ms loader, step |\n"
    + "|---" * 14
    + "|"
)


def augmentation(options: argparse.Namespace) -> AugmentConfig:
    """Returns what is varied: scale, mirroring and, on the device, colours."""
    return AugmentConfig(
        short_side_px=min(options.crop),
        crops_px=(options.crop,),
        max_scale=options.max_scale,
        jitter_probability=0.8,
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.1,
    )


class Loaders:
    """Batches of the samples that the options ask for."""

    def __init__(self, samples: Samples, options: argparse.Namespace, batch_size: int) -> None:
        self._samples = samples
        self._options = options
        self._batch_size = batch_size
        self._config = augmentation(options)

    def ours(self, num_batches: int) -> Any:
        """Returns our batches, made by the workers if there are any; each call starts anew."""
        return TrainingData(
            self._samples,
            self._config,
            seed=0,
            batch_size=self._batch_size,
            num_batches=num_batches,
            first_batch=0,
            num_workers=self._options.workers,
            memory_limit_bytes=0,
        ).train_dataloader()

    def plain(self, num_batches: int) -> Any:
        """Returns a plain loop's batches."""
        views = PlainViews(self._samples, self._config)
        return views.loader(
            batch_size=self._batch_size,
            num_batches=num_batches,
            num_workers=self._options.workers,
        )

    def alone(self) -> float:
        """Returns how many samples a second our loader gives when nothing else runs."""
        num_workers: int = max(1, self._options.workers)
        # As many as lie ready when the clock starts still come after it has stopped.
        num_ready = 2 * num_workers + 1
        num_timed = max(num_ready, _NUM_LOADED // self._batch_size)
        batches = iter(self.ours(num_timed + 2 * num_ready))
        for _ in range(num_ready):
            next(batches)
        started = time.perf_counter()
        for _ in islice(batches, num_timed):
            pass
        return num_timed * self._batch_size / (time.perf_counter() - started)

    def cpu_seconds(self) -> float:
        """Returns what one sample costs a core, from a file to a view."""
        views = Views(self._samples, self._config, seed=0, batch_size=1)
        views[0]
        started = time.process_time()
        for position in range(_NUM_DRAWN):
            views[position]
        return (time.process_time() - started) / _NUM_DRAWN


def measure(options: argparse.Namespace, samples: Samples) -> dict[str, Any]:
    """Returns what one encoder in one way gives."""
    (encoder,), (way,) = options.encoders, options.ways
    torch.set_num_threads(1)
    batch_size = options.batch_size
    loaders = Loaders(samples, options, batch_size)
    cpu_seconds = loaders.cpu_seconds()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    precision = "bfloat16" if way.startswith("bfloat16") else "float32"
    peak = matrix_rate(options.device, getattr(torch, precision))
    flops = step_flops(encoder, options.crop, aligned=options.align_features)
    given: dict[str, Any] = {
        "precision": precision,
        "aligned": options.align_features,
        "device": options.device,
    }
    ours = Ours(_model(encoder), steps=10**9, **given)
    if way.endswith("+compile"):
        ours.compile()
    batch = on_device(next(iter(loaders.ours(1))), options.device)
    if options.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    # Before there is another model, so that its memory is its own.
    ours.run([batch] * 2, num_steps=2, num_warmup=1)
    memory = _peak_gb(options.device)
    plain = Plain(_model(encoder), **given)
    if way.endswith("+compile"):
        plain.compile()
    plain.run(loaders.plain(2), num_warmup=1)
    rounds = [_turn(options, loaders, ours, plain, batch) for _ in range(options.rounds)]
    best = {name: max(turn[name] for turn in rounds) for name in _LOOPS}
    return {
        "machine": machine(options.device),
        **{name: getattr(options, name) for name in _TOLD},
        "encoder": encoder,
        "way": way,
        "samples_per_second": best,
        "waits": max(rounds, key=lambda turn: turn["both"])["waits"],
        "flops_per_sample": flops,
        "flops_per_second": sum(flops.values()) * best["step"],
        "matrix_flops_per_second": peak,
        "memory_gb": memory,
        "loader_cpu_s": cpu_seconds,
        "step_cpu_s": min(turn["step_cpu_s"] for turn in rounds),
        "rounds": rounds,
    }


def _turn(
    options: argparse.Namespace, loaders: Loaders, ours: Ours, plain: Plain, batch: Any
) -> dict[str, float]:
    """Returns samples a second of each loop, once."""
    first, batch_size = options.warmup, options.batch_size
    num_steps = first + options.steps
    step = ours.run([batch] * num_steps, num_steps=num_steps, num_warmup=first)
    # What workers had ready before the clock started would hide that they are slow.
    first += 2 * options.workers
    num_steps = first + options.steps
    both = ours.run(loaders.ours(num_steps), num_steps=num_steps, num_warmup=first)
    theirs = plain.run(loaders.plain(num_steps), num_warmup=first)
    seconds = (step.seconds, both.seconds, theirs.seconds)
    rates = [options.steps * batch_size / taken for taken in seconds]
    return {
        **dict(zip(_LOOPS, [loaders.alone(), *rates], strict=True)),
        "waits": both.waited_s / both.seconds,
        "step_cpu_s": step.cpu_seconds / (options.steps * batch_size),
    }


def _model(encoder: EncoderName) -> DepthAnything:
    torch.manual_seed(0)
    return DepthAnything(ModelConfig(encoder))


def _peak_gb(device: str) -> float:
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated()) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # kB on Linux


def row(found: dict[str, Any]) -> str:
    """Returns a measurement as a row of the table."""
    if "error" in found:
        return f"| {found['encoder']} | {found['way']} | {found['error']} |" + " |" * 11
    rates = found["samples_per_second"]
    share = found["flops_per_second"] / found["matrix_flops_per_second"]
    cells = (
        found["encoder"],
        found["way"],
        found["batch_size"],
        *(f"{rates[name]:.3g}" for name in ("loader", "step", "both")),
        f"{found['waits']:.1%}",
        f"{rates['both'] / rates['step']:.2f}",
        f"{found['flops_per_second'] / 1e12:.3g}",
        f"{share:.0%}",
        f"{rates['plain']:.3g}",
        f"{rates['both'] / rates['plain']:.2f}",
        f"{found['memory_gb']:.2f}",
        f"{found['loader_cpu_s'] * 1e3:.1f}, {found['step_cpu_s'] * 1e3:.0f}",
    )
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def main(arguments: Sequence[str]) -> None:
    """Prints a table, and writes it and a JSON file for each row to a folder."""
    options = _parser().parse_args(arguments)
    options.device = chosen_device(options.device, where="--device")
    torch.set_num_threads(options.threads)
    options.crop = tuple(options.crop)
    if options.workers is None:
        options.workers = 1 if options.device == "cpu" else max(1, (os.cpu_count() or 1) - 1)
    short = min(options.crop)
    size = (short, round(short * 4 / 3))
    with tempfile.TemporaryDirectory() as temporary:
        out = options.out or Path(temporary)
        out.mkdir(parents=True, exist_ok=True)
        if options.source == "shards" and options.shards is None:
            options.shards = Path(temporary) / "shards"
            write_shards(options.shards, options.samples, size)
        what = f"{options.source}, views of {options.crop[0]} x {options.crop[1]}"
        title = f"{machine(options.device)}; {what}, {options.workers} workers"
        lines = [title, "", _TABLE]
        print("\n".join(lines), flush=True)
        cells = [(encoder, way) for encoder in options.encoders for way in options.ways]
        for encoder, way in cells:
            name = f"{encoder}-{way}-{options.source}.json"
            if len(cells) > 1:
                found = _measured_apart(arguments, encoder, way, options.shards, out / name)
            else:
                options.batch_size = options.batch_size or _batch_size(encoder, options.device)
                found = measure(options, _samples(options, size))
            (out / name).write_text(json.dumps(found, indent=2) + "\n")
            lines.append(row(found))
            print(lines[-1], flush=True)
        (out / f"{options.source}.md").write_text("\n".join(lines) + "\n")


def _measured_apart(
    arguments: Sequence[str], encoder: str, way: str, shards: Path | None, written: Path
) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.training", *arguments]
    command += ["--encoders", encoder, "--ways", way, "--out", str(written.parent)]
    if shards is not None:
        command += ["--shards", str(shards)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:  # the other models are still worth their rows
        reason = (ended.stderr.strip().splitlines() or ["no reason"])[-1][:200]
        return {"encoder": encoder, "way": way, "error": reason}
    found: dict[str, Any] = json.loads(written.read_text())
    return found


def _samples(options: argparse.Namespace, size: tuple[int, int]) -> Samples:
    if options.source == "tensors":
        return GeneratedSamples(options.samples, size)
    return PseudoLabels(options.shards)


def _batch_size(encoder: str, device: str) -> int:
    return _BATCH_ON_GPU.get(encoder, 64) if device == "cuda" else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Rate of a training against a plain loop.")
    parser.add_argument("--encoders", nargs="+", choices=get_args(EncoderName), default=["vits"])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["float32", "bfloat16+compile"])
    parser.add_argument("--crop", nargs=2, type=int, default=(518, 518), metavar=("H", "W"))
    parser.add_argument("--max-scale", type=float, default=1.0, help="enlarge up to this much")
    parser.add_argument("--batch-size", type=int, help="default: by encoder on a GPU, 1 on a CPU")
    parser.add_argument("--align-features", action="store_true", help="as students do")
    parser.add_argument("--source", choices=("shards", "tensors"), default="shards")
    parser.add_argument("--shards", type=Path, help="pseudo-labels to read in place of made ones")
    parser.add_argument("--samples", type=int, default=128, help="to make")
    parser.add_argument("--steps", type=int, default=10, help="of a turn, timed")
    parser.add_argument("--warmup", type=int, default=3, help="steps before that, at least 1")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each loop")
    parser.add_argument("--workers", type=int, help="that decode; default: 1, with a GPU all cores")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of the step")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--out", type=Path, help="folder for the table and the JSON files")
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
