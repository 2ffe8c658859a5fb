"""What it takes to label so many photographs: GPU-hours, storage, traffic, shards, with arithmetic.

Nothing is read but manifests, and nothing is written.
"""

import argparse
import json
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from stages.labelling_plan import (
    GIGAFLOP_518,
    IMAGE_BYTES_PER_PX,
    LABEL_BYTES_PER_PX,
    PAPERS,
    Rates,
    Source,
    plan,
    source_of,
)
from stages.program import run
from stages.tracking import RUNS

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> None:
    """Prints the plan.

    Args:
        arguments: Of the command line.

    Raises:
        SystemExit: With one line, if an argument does not fit or a file cannot be read.
    """
    options = _parse(arguments)
    counts = [(*named, None) for named in map(_named_count, options.count)]
    sources = [
        source_of(
            name,
            num_images,
            size or options.shape,
            short_side_px=options.short_side,
            image_short_side_px=options.image_short_side,
            source_bytes=options.source_kb * 1e3,
        )
        for name, num_images, size in [*counts, *(PAPERS if options.papers else ())]
    ]
    for path in options.manifest:
        sources += _read_sources(path, options.short_side, options.image_short_side)
    if not sources:
        raise SystemExit("plan_labels: expected a --count, a --manifest or --papers, got none")
    rate, origin = _rate(options)
    image_bytes, label_bytes, bytes_origin = _bytes_per_px(options)
    rates = Rates(
        images_per_s=rate,
        origin=origin,
        gigaflop_per_s=options.tflops * 1e3 * options.share,
        image_bytes_per_px=image_bytes,
        label_bytes_per_px=label_bytes,
        bytes_origin=bytes_origin,
        hash_mb_per_s=options.hash_mb_per_s,
        push_mb_per_s=options.push_mb_per_s,
        gpu_hour_price=options.gpu_hour_price,
        egress_gb_price=options.egress_gb_price,
        storage_gb_price=options.storage_price,
        request_price=options.request_price,
    )
    lines = plan(
        sources,
        rates,
        encoder=options.encoder,
        num_gpus=options.gpus,
        samples_per_shard=options.samples_per_shard,
    )
    width = max(len(line.what) for line in lines)
    for line in lines:
        sys.stdout.write(f"{line.what:<{width}}  {line.value:>16}  {line.arithmetic}\n")


def _rate(options: argparse.Namespace) -> tuple[float | None, str]:
    """Returns the measured rate of one GPU, images/s, and where it was measured; None for none."""
    if options.images_per_second is not None:
        return options.images_per_second, "as given"
    if not options.last_run:
        return None, ""
    entries = [_facts(line) for line in RUNS.read_text().splitlines()] if RUNS.exists() else []
    rates = [
        entry["images_per_second"] / entry["num_workers"]
        for entry in entries
        if entry.get("stage") == "pseudo_label"
        and entry.get("images_per_second")
        and entry.get("num_workers")
    ]
    if not rates:
        raise SystemExit(f"plan_labels: expected a labelling with its rate in {RUNS}, got none")
    return rates[-1], "of the last labelling, by device"


def _bytes_per_px(options: argparse.Namespace) -> tuple[float, float, str]:
    """Returns bytes a pixel of images and labels in shards, and where the labels' are from."""
    image_bytes, label_bytes = options.image_bytes_per_px, options.label_bytes_per_px
    if options.shards is None:
        if label_bytes is not None:
            return image_bytes, label_bytes, "as given"
        return image_bytes, LABEL_BYTES_PER_PX[options.codec], f"{options.codec} as measured"
    path = options.shards / "manifest.parquet"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected the index of labels, got no file")
    columns = ["jpg_bytes", "depth_bytes", "height", "width"]
    table = pq.read_table(path, columns=columns).to_pandas()
    num_px = int((table["height"].astype("int64") * table["width"]).sum())
    if not num_px:
        raise ValueError(f"{path}: expected at least one label, got none")
    images, labels = (int(table[column].sum()) / num_px for column in columns[:2])
    return images, labels, f"as in {options.shards}"


def _facts(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:  # torn by a full disk or a loss of power
        return {}
    return found if isinstance(found, dict) else {}


def _read_sources(path: Path, short_side_px: int, image_short_side_px: int) -> list[Source]:
    """Returns the sources of a manifest, one entry for each size of its photographs."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a manifest, got no file")
    num_images: Counter[tuple[str, int, int]] = Counter()
    num_bytes: Counter[tuple[str, int, int]] = Counter()
    columns = ["source", "height", "width", "bytes"]
    for batch in pq.ParquetFile(path).iter_batches(columns=columns):
        for key, sizes in batch.to_pandas().dropna().groupby(columns[:3])["bytes"]:
            num_images[key] += len(sizes)
            num_bytes[key] += int(sizes.sum())
    return [
        source_of(
            source,
            count,
            (int(height), int(width)),
            short_side_px=short_side_px,
            image_short_side_px=image_short_side_px,
            source_bytes=num_bytes[source, height, width] / count,
        )
        for (source, height, width), count in sorted(num_images.items())
    ]


def _named_count(text: str) -> tuple[str, int]:
    name, _, count = text.rpartition("=")
    if not count.replace("_", "").isdigit():
        raise SystemExit(f"plan_labels: expected --count <number> or <name>=<number>, got {text}")
    return name or "photographs", int(count)


def _shape(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) % 14 == int(width) % 14 == 0):
        raise argparse.ArgumentTypeError(f"expected <height>x<width>, multiples of 14, got {text}")
    return int(height), int(width)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stages.plan_labels", description=__doc__)
    add = parser.add_argument
    add("--count", action="append", default=[], metavar="[NAME=]N", help="photographs of a source")
    add("--manifest", action="append", default=[], type=Path, help="or a manifest that lists them")
    add("--papers", action="store_true", help="or the papers' eight sets, 62 million")
    add("--encoder", default="vitg", choices=sorted(GIGAFLOP_518), help="of the teacher")
    add("--shape", default=(518, 686), type=_shape, help="of photographs without a size: 518x686")
    add("--short-side", default=518, type=int, help="of the teacher's input, pixels")
    add("--image-short-side", default=518, type=int, help="largest of a photograph in a shard")
    add("--source-kb", default=300.0, type=float, help="size of a photograph for --count, kB")
    add("--images-per-second", type=float, help="measured rate of one GPU; else --last-run")
    add("--last-run", action="store_true", help=f"takes the rate of the last labelling in {RUNS}")
    add("--tflops", default=790.0, type=float, help="of one GPU in bf16, where no rate is measured")
    add("--share", default=0.6, type=float, help="of it that the teacher reaches")
    add("--gpus", default=8, type=int)
    add("--samples-per-shard", default=1024, type=int)
    add("--codec", default="png16", choices=list(LABEL_BYTES_PER_PX), help="of the labels")
    add(
        "--shards", type=Path, metavar="FOLDER", help="labels that say how many bytes a pixel takes"
    )
    add("--image-bytes-per-px", default=IMAGE_BYTES_PER_PX, type=float, help="of a shard's JPEG")
    add("--label-bytes-per-px", type=float, help="else as measured of --codec")
    add("--hash-mb-per-s", default=500.0, type=float, help="at which DVC hashes")
    add("--push-mb-per-s", default=100.0, type=float, help="at which DVC pushes")
    add("--gpu-hour-price", type=float, help="of one GPU, in any currency")
    add("--egress-gb-price", type=float, help="of a GB that leaves the bucket")
    add("--storage-price", type=float, help="of a GB in DVC's remote for a month")
    add("--request-price", type=float, help="of 1000 requests that write to it")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run("plan_labels", main, sys.argv[1:])
