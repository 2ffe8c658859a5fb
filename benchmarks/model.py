"""Latency of a model in every way we can run it, against Transformers' (`make bench-model`).

All run on the same random weights in one process, in turns, so that a busy machine slows them
alike; the fastest round counts. Errors are against float32.
"""

import argparse
import copy
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dav2.models.depth_anything import DepthAnything, ModelConfig
from dav2.models.device import chosen_device
from dav2.models.encoder import EncoderName
from dav2.models.exported import write_onnx
from dav2.models.inference import Precision, prepare
from dav2.models.interchange import write_transformers

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to run the model."""

    title: str
    run: Run
    """From normalised float32 images to float32 depth, on the images' device."""


def random_model(name: EncoderName) -> DepthAnything:
    """Returns a model whose attention is not flat and whose depth varies, as of a trained one."""
    torch.manual_seed(0)
    model = DepthAnything(ModelConfig(name)).eval().requires_grad_(False)
    width = model.encoder.config.width
    for block in model.encoder.blocks:
        block.attn.qkv.weight.normal_(std=width**-0.5)
    for layer in model.head.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    return model


def candidates(model: DepthAnything, device: str, compiled: bool) -> Iterator[Candidate]:
    """Yields Transformers' model first, where it is installed, then ours."""
    yield from _transformers(model, device)
    modes = {
        "float32": _prepared(model, device, "float32"),
        "bfloat16": _plain_bfloat16(model, device),
        "bfloat16, as prepared": _prepared(model, device, "bfloat16"),
    }
    if device == "cuda":
        del modes["bfloat16"]  # the same there
    for title, prepared in modes.items():
        yield Candidate(f"ours, {title}", _runner(prepared))
    if compiled:
        for title, prepared in modes.items():
            quick = torch.compile(prepared, dynamic=False)
            yield Candidate(f"ours, {title}, compiled", _runner(prepared, quick))
    if device == "cpu":
        yield from _onnx(model)


def _prepared(model: DepthAnything, device: str, precision: Precision) -> DepthAnything:
    ready = copy.deepcopy(model)
    prepare(ready, device=device, precision=precision)
    return ready


def _plain_bfloat16(model: DepthAnything, device: str) -> DepthAnything:
    return copy.deepcopy(model).to(torch.bfloat16).to(device)


def _runner(model: nn.Module, quick: Callable[..., Tensor] | None = None) -> Run:
    dtype = next(model.parameters()).dtype
    run = model if quick is None else quick
    return lambda images: run(images.to(dtype)).float()


def _transformers(model: DepthAnything, device: str) -> Iterator[Candidate]:
    try:
        from transformers import AutoModelForDepthEstimation
    except ImportError:
        return
    with tempfile.TemporaryDirectory() as folder:
        write_transformers(model, Path(folder) / "model")
        theirs = AutoModelForDepthEstimation.from_pretrained(Path(folder) / "model").eval()

    def runner(network: nn.Module) -> Run:
        dtype = next(network.parameters()).dtype
        return lambda images: network(pixel_values=images.to(dtype)).predicted_depth.float()

    yield Candidate("Transformers, float32", runner(theirs.to(device)))
    half = copy.deepcopy(theirs).to(torch.bfloat16)
    yield Candidate("Transformers, bfloat16", runner(half))


def _onnx(model: DepthAnything) -> Iterator[Candidate]:
    """Yields what runs our ONNX file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        try:
            run = write_onnx(model, path, name=path.name)
        except RuntimeError as error:
            print(error)
            return
        yield Candidate("ONNX Runtime, float32", run)
        yield from _openvino(path)


def _openvino(path: Path) -> Iterator[Candidate]:
    try:
        import openvino
    except ImportError:
        return
    for precision in ("f32", "bf16"):
        compiled = openvino.compile_model(
            path,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": precision,
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            },
        )
        yield Candidate(f"OpenVINO, {precision}", _openvino_runner(compiled))


def _openvino_runner(compiled: Any) -> Run:
    return lambda images: torch.from_numpy(compiled(images.numpy())[0])


def seconds_of(run: Run, images: Tensor) -> float:
    """Returns how long one run takes, device included."""
    _wait(images)
    started = time.perf_counter()
    run(images)
    _wait(images)
    return time.perf_counter() - started


def _wait(images: Tensor) -> None:
    if images.is_cuda:
        torch.cuda.synchronize()


def matrix_rate(device: str, dtype: torch.dtype) -> float:
    """Returns the FLOP/s of a large product of matrices, the most that this device gives."""
    side = 8192 if device == "cuda" else 2048
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    times = [seconds_of(lambda _: left @ right, left) for _ in range(6)]
    return 2 * side**3 / min(times[1:])


def main(arguments: Sequence[str]) -> None:
    """Prints one table for each encoder and size."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    device = chosen_device(options.device, where="--device")
    print(machine(device))
    rates = {dtype: matrix_rate(device, dtype) for dtype in (torch.float32, torch.bfloat16)}
    print("matrix product, TFLOP/s:", {str(k): round(v / 1e12, 2) for k, v in rates.items()})
    with torch.no_grad():  # under inference mode nothing counts operations
        for name in options.encoders:
            ready = list(candidates(random_model(name), device, options.compile))
            for height, width in options.sizes:
                images = torch.randn(options.batch_size, 3, height, width, device=device)
                _measure(name, ready, images, options.rounds, rates)


def _measure(
    name: EncoderName,
    ready: Sequence[Candidate],
    images: Tensor,
    rounds: int,
    rates: dict[torch.dtype, float],
) -> None:
    batch, _, height, width = images.shape
    plain = next(entry for entry in ready if entry.title == "ours, float32")
    with FlopCounterMode(display=False) as counter:
        exact = plain.run(images)
    # The first run of each, which compiles.
    errors = {entry.title: _errors(entry.run(images), exact) for entry in ready}
    times: dict[str, list[float]] = {entry.title: [] for entry in ready}
    for _ in range(rounds):
        for entry in ready:
            times[entry.title].append(seconds_of(entry.run, images))
    reference = min(times[ready[0].title])
    print(f"\n{name}, {batch} x {height} x {width}, {counter.get_total_flops() / 1e9:.0f} GFLOP")
    print(
        "| way | ms | median | images/s | times the first | share of matrix rate | "
        "relative L2 | correlation | worst / 98 % range |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for title, taken in times.items():
        best, median = min(taken), sorted(taken)[len(taken) // 2]
        rate = rates[torch.float32 if "32" in title else torch.bfloat16]
        share = counter.get_total_flops() / best / rate
        print(
            f"| {title} | {best * 1e3:.1f} | {median * 1e3:.1f} | {batch / best:.2f} | "
            f"{reference / best:.2f} | {share:.0%} | {errors[title]} |"
        )


def _errors(found: Tensor, exact: Tensor) -> str:
    relative = float((found - exact).norm() / exact.norm())
    both = torch.stack([found.flatten(), exact.flatten()]).double()
    correlation = float(both.corrcoef()[0, 1])
    sample = exact.flatten()[:: 1 + exact.numel() // 2**20]  # more than `quantile` takes
    extent = sample.quantile(0.99) - sample.quantile(0.01)
    worst = float((found - exact).abs().max() / extent)
    return f"{relative:.1e} | {correlation:.5f} | {worst:.1e}"


def machine(device: str) -> str:
    """Returns what a table should say of where it was measured."""
    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    names = {"avx2", "avx512_f", "avx512_bf16", "avx512_vnni", "amx_bf16", "arm_bf16"}
    capabilities = torch.cpu.get_capabilities()
    has = ", ".join(sorted(name for name in names if capabilities.get(name)))
    title = capabilities.get("cpu_name") or platform.processor()
    return f"{title} ({has}), {torch.get_num_threads()} threads, torch {torch.__version__}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Latency of our models against Transformers'.")
    parser.add_argument("--encoders", nargs="+", choices=get_args(EncoderName), default=["vits"])
    parser.add_argument("--sizes", nargs="+", type=_size, default=[(518, 518)], metavar="HxW")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    return parser


def _size(text: str) -> tuple[int, int]:
    height, width = text.split("x")
    return int(height), int(width)


if __name__ == "__main__":
    main(sys.argv[1:])
