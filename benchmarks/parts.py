"""Time and memory of a model's parts, by torch's profiler (`python -m benchmarks.parts`).

Memory is the most that a part held beyond what was held when it began: its temporary maps.
"""

import argparse
import json
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn
from torch.profiler import profile, record_function

from benchmarks.model import random_model
from dav2.models.depth_anything import DepthAnything
from dav2.models.device import chosen_device
from dav2.models.encoder import EncoderName
from dav2.models.inference import Precision, prepare

_PREFIX = "part: "


def name_parts(model: DepthAnything) -> None:
    """Makes each part of a model show in a profile under its name."""
    _name(model, "whole model")
    _name(model.encoder, "encoder")
    for block in model.encoder.blocks:
        _name(block.attn, "encoder: attention")
        _name(block.mlp, "encoder: perceptron")
    _name(model.head, "head")
    for project, resize in zip(model.head.projects, model.head.resize_layers, strict=True):
        _name(project, "head: projections and their resizing")
        _name(resize, "head: projections and their resizing")
    scratch = model.head.scratch
    for number in (1, 2, 3, 4):
        _name(getattr(scratch, f"layer{number}_rn"), "head: to fusion's channels")
        _name(getattr(scratch, f"refinenet{number}"), f"head: fusion {number}")
    _name(scratch.output_conv1, "head: output 1")
    _name(scratch.output_conv2[0], "head: output 2")


def _name(module: nn.Module, part: str) -> None:
    forward = module.forward

    def named(*arguments: Any, **options: Any) -> Any:
        with record_function(_PREFIX + part):
            return forward(*arguments, **options)

    module.forward = named


def measure(model: nn.Module, images: torch.Tensor) -> dict[str, tuple[float, float]]:
    """Returns milliseconds of each part, and megabytes at its peak."""
    with torch.inference_mode():
        model(images)
        with profile(profile_memory=True) as profiled:
            model(images)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiled.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    held = [
        (event["ts"], event["args"]["Total Allocated"])
        for event in events
        if event.get("name") == "[memory]"
    ]
    times: dict[str, float] = defaultdict(float)
    peaks: dict[str, float] = defaultdict(float)
    for event in events:
        if event.get("cat") != "user_annotation" or not event["name"].startswith(_PREFIX):
            continue
        part, start, end = event["name"].removeprefix(_PREFIX), event["ts"], event["ts"]
        end += event["dur"]
        times[part] += event["dur"] / 1e3
        before = next((total for ts, total in reversed(held) if ts < start), 0)
        most = max((total for ts, total in held if start <= ts <= end), default=before)
        peaks[part] = max(peaks[part], (most - before) / 1e6)
    return {part: (times[part], peaks[part]) for part in times}


def main(arguments: Sequence[str]) -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description="Time and memory of a model's parts.")
    parser.add_argument("--encoder", choices=get_args(EncoderName), default="vits")
    parser.add_argument("--size", nargs=2, type=int, default=(518, 518), metavar=("H", "W"))
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--precision", choices=get_args(Precision), default="float32")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    device = chosen_device(options.device, where="--device")
    model = random_model(options.encoder)
    prepare(model, device=device, precision=options.precision)
    dtype = next(model.parameters()).dtype
    images = torch.randn(options.batch_size, 3, *options.size, device=device, dtype=dtype)
    name_parts(model)
    found = measure(model, images)
    whole = found["whole model"][0]
    print("| part | ms | share | MB at its peak |\n|---|---|---|---|")
    for part, (taken, peak) in found.items():
        print(f"| {part} | {taken:.0f} | {taken / whole:.0%} | {peak:.0f} |")


if __name__ == "__main__":
    main(sys.argv[1:])
