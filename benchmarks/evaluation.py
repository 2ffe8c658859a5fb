"""An evaluation against bare inference of its model on the same batches (`make bench-evaluate`).

Images with depth are made from a seed in a temporary folder in DIODE's layout and evaluated as
`python -m stages.evaluate` does it, from files to tables; starting the process, loading weights and
tracking do not count. The reference runs the model alone on tensors that are ready. Both take the
same batches in turns, so that a busy machine slows them alike; the fastest round counts.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from benchmarks.ingest import pictures
from benchmarks.model import machine, matrix_rate, random_model, seconds_of
from dav2.data.manifest import MANIFEST_SCHEMA, read_manifest, write_manifest
from dav2.data.open import ManifestReader, SourceLocation, open_dataset
from dav2.data.preparation import prepared_image, prepared_size
from dav2.data.transforms import normalise
from dav2.models.device import chosen_device
from dav2.models.encoder import EncoderName
from stages.evaluated_model import EvaluatedModel
from stages.evaluation import Evaluation
from stages.evaluation_loop import Taken, measure
from stages.evaluation_params import EvaluateParams
from stages.params import load

_SHORT_SIDE_PX = 518


def write_images(root: Path, count: int, size: tuple[int, int]) -> None:
    """Writes images with smooth depth and steps in it, a tenth of it unmeasured."""
    folder = root / "val" / "outdoor" / "scene_00000" / "scan_00000"
    folder.mkdir(parents=True)
    height, width = size
    rows = np.linspace(40, 2, height, dtype=np.float32)[:, None]
    for number, picture in enumerate(pictures(size, count)):
        stem = folder / f"{number:05d}"
        Image.fromarray(picture).save(stem.with_suffix(".png"), compress_level=1)
        step = np.where(picture[..., :1].astype(np.float32) > 128, 1.0, 1.5)
        depth = rows[..., None] * step + picture[..., 1:2] / np.float32(1000)
        np.save(f"{stem}_depth.npy", depth.astype(np.float32))
        mask = np.ones((height, width, 1), np.float32)
        mask[: height // 10] = 0
        np.save(f"{stem}_depth_mask.npy", mask)


def write_rows(root: Path, path: Path, size: tuple[int, int]) -> None:
    """Writes the evaluation manifest of those images."""
    rows = [
        dict.fromkeys(MANIFEST_SCHEMA.names)
        | {
            "sample_id": f"images-{Path(files.image).stem}",
            "source": "images",
            "dataset": "diode",
            "domain": "outdoor",
            "split": "val",
            "scene": files.scene,
            "image": files.image,
            "depth": files.depth,
            "extra": json.dumps(files.extra),
            "height": size[0],
            "width": size[1],
            "decoder": "0" * 16,
        }
        for files in open_dataset("diode", root).list_samples("val")
    ]
    write_manifest(pd.DataFrame(rows), path)


def ready_batches(reader: ManifestReader, batch_size: int, device: str) -> Iterator[Tensor]:
    """Yields what the model sees, as tensors on its device."""
    for first in range(0, len(reader), batch_size):
        images = [
            reader.read(row).image for row in range(first, min(first + batch_size, len(reader)))
        ]
        size = prepared_size(
            *images[0].shape[:2], short_side_px=_SHORT_SIDE_PX, preparation="authors"
        )
        resized = [prepared_image(image, size, preparation="authors") for image in images]
        yield normalise(torch.from_numpy(np.stack(resized)).to(device))


def bare_seconds(reader: ManifestReader, model: EvaluatedModel, params: EvaluateParams) -> float:
    """Returns how long the model alone takes for all batches."""
    dtype = model.prepare(params)
    device = next(model.network.parameters()).device.type

    def predicted(batch: Tensor) -> Tensor:
        with torch.autocast(device, dtype, enabled=dtype is not None):
            depth: Tensor = model.network(batch)
            return depth

    with torch.inference_mode():
        batches = ready_batches(reader, params.batch_size, device)
        return sum(seconds_of(predicted, batch) for batch in batches)


def evaluated(
    manifest: pd.DataFrame, model: EvaluatedModel, params: EvaluateParams, folder: Path
) -> tuple[float, Taken]:
    """Returns how long an evaluation takes, and what of it its loop took."""
    sources = {"images": SourceLocation(reader="diode", root=Path("images"))}
    started = time.perf_counter()
    evaluation = Evaluation(
        manifest, folder, params=params, sources=sources, domains={"images": "outdoor"}
    )
    taken = measure(evaluation, params, manifest, ManifestReader(manifest, sources), model)
    evaluation.finish()
    return time.perf_counter() - started, taken


def main(arguments: Sequence[str]) -> None:
    """Prints one table."""
    options = _parser().parse_args(arguments)
    own: dict[str, Any] = {
        "device": options.device,
        "num_threads": options.threads,
        "batch_size": options.batch_size,
        "short_side_px": _SHORT_SIDE_PX,
    }
    # Protocols, counts and resamples are those of params.yaml.
    params = load("evaluate", EvaluateParams).model_copy(update=own)
    torch.set_num_threads(options.threads)
    device = chosen_device(options.device, where="--device")
    model = EvaluatedModel(random_model(options.encoder), None, _SHORT_SIDE_PX, "authors")
    size = (options.size[0], options.size[1])
    print(machine(device))
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        write_images(Path("images"), options.num_images, size)
        write_rows(Path("images"), Path("rows.parquet"), size)
        manifest = read_manifest(Path("rows.parquet"))
        sources = {"images": SourceLocation(reader="diode", root=Path("images"))}
        reader = ManifestReader(manifest, sources)
        matrix_rate(device, torch.float32)  # warms the device up
        bare, whole, parts = [], [], []
        for number in range(options.rounds):
            bare.append(bare_seconds(reader, model, params))
            seconds, taken = evaluated(manifest, model, params, Path(f"out-{number}"))
            whole.append(seconds)
            parts.append(taken.predict_s)
            print(f"round {number + 1}: evaluation over bare model {seconds / bare[-1]:.3f}")
    _print(options, bare, whole, parts)


def _print(
    options: argparse.Namespace,
    bare: Sequence[float],
    whole: Sequence[float],
    parts: Sequence[float],
) -> None:
    count = options.num_images
    print(
        f"\n{options.encoder} at {_SHORT_SIDE_PX}, {count} images of "
        f"{options.size[0]} x {options.size[1]} with depth, batches of {options.batch_size}, "
        f"{options.threads} threads of the model, {os.cpu_count()} cores, {options.rounds} rounds"
    )
    print("| what | s | images/s | times the bare model |\n|---|---|---|---|")
    for title, times in (
        ("bare model", bare),
        ("prediction within the evaluation", parts),
        ("evaluation, from files to tables", whole),
    ):
        best = min(times)
        print(f"| {title} | {best:.1f} | {count / best:.2f} | {best / min(bare):.3f} |")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Time of an evaluation against its model alone.")
    parser.add_argument("--encoder", choices=get_args(EncoderName), default="vits")
    parser.add_argument("--num-images", type=int, default=1000)
    parser.add_argument("--size", nargs=2, type=int, default=(768, 1024), metavar=("H", "W"))
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
