"""The arithmetic of a labelling: what so many photographs cost in time, bytes and money."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Blocks, width, GFLOP of one forward pass at 518 x 518, 2 per multiply-add; counted with PyTorch's
# FlopCounterMode on the authors' modules.
GIGAFLOP_518 = {
    "vits": (12, 384, 115.27),
    "vitb": (12, 768, 380.70),
    "vitl": (24, 1024, 1304.22),
    "vitg": (40, 1536, 4533.53),
}
"""Of each encoder with its head."""

LABEL_BYTES_PER_PX = {"png16": 1.275, "htj2k16": 0.814, "htj2k12": 0.325}
"""Of each codec, labels of 518 x 686 with a network's errors (docs/performance.md, `make
bench-codecs`)."""
IMAGE_BYTES_PER_PX = 0.38
"""Of a shard's JPEG: 135 kB for 518 x 686, made photographs (docs/performance.md)."""

# Counts of V2; sizes where the releases say them. What lies behind SA-1B's 1500 px is above any
# short side of a teacher; LSUN's 256 px are enlarged for the teacher and stay 256 px in a shard.
PAPERS: tuple[tuple[str, int, tuple[int, int] | None], ...] = (
    ("sa1b", 11_100_000, None),
    ("open_images", 7_800_000, None),
    ("imagenet21k", 13_100_000, None),
    ("lsun", 9_800_000, (256, 341)),
    ("bdd100k", 8_200_000, (720, 1280)),
    ("objects365", 1_700_000, None),
    ("places365", 6_500_000, None),
    ("google_landmarks", 4_100_000, None),
)
"""The eight unlabelled sets: name, photographs, height and width in pixels where known."""

_PATCH_PX = 14
_LISTED_BYTES = 90  # of a file in DVC's listing of a folder: hash, path, JSON
_PART_BYTES = 50 * 2**20  # s3fs sends what is larger than two of these in parts


@dataclass(frozen=True, slots=True)
class Source:
    """Photographs of one size."""

    name: str
    num_images: int
    height_px: int
    """Of the teacher's input."""
    width_px: int
    shard_px: int
    """Pixels of its label, as of its image, in a shard: of a small photograph fewer."""
    source_bytes: float
    """Mean size of a photograph where it lies."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What was measured, or is assumed."""

    images_per_s: float | None
    """Of one GPU at the mean size; None: `gigaflop_per_s` decides."""
    origin: str
    """Where that was measured."""
    gigaflop_per_s: float
    """What the teacher reaches on one GPU."""
    image_bytes_per_px: float
    label_bytes_per_px: float
    bytes_origin: str
    """Whose bytes these are, by codec or by folder."""
    hash_mb_per_s: float
    push_mb_per_s: float
    gpu_hour_price: float | None
    egress_gb_price: float | None
    storage_gb_price: float | None
    """Of a GB in a bucket for a month."""
    request_price: float | None
    """Of a thousand requests that write to it."""


@dataclass(frozen=True, slots=True)
class Line:
    """One result with how it came about."""

    what: str
    value: str
    arithmetic: str


def gigaflop(encoder: str, height_px: int, width_px: int) -> float:
    """Returns the GFLOP of one image: attention grows with the square of its patches, the rest not.

    Exact within 0.1 % of a count over the modules at the sizes in `docs/scale.md`.

    Args:
        encoder: A key of `GIGAFLOP_518`.
        height_px: Multiple of 14.
        width_px: Likewise.
    """
    blocks, width, total_518 = GIGAFLOP_518[encoder]
    num_518, num = (518 // _PATCH_PX) ** 2, height_px * width_px // _PATCH_PX**2

    def attention(num_patches: int) -> float:
        return 4 * blocks * width * (num_patches + 1) ** 2 / 1e9  # and one class token

    return attention(num) + (total_518 - attention(num_518)) * num / num_518


def source_of(
    name: str,
    num_images: int,
    size: tuple[int, int],
    *,
    short_side_px: int,
    image_short_side_px: int,
    source_bytes: float,
) -> Source:
    """Returns photographs of one size as the teacher and the shards will have them.

    Args:
        name: Of the source.
        num_images: How many.
        size: Height and width of a photograph, pixels.
        short_side_px: Of the teacher's input.
        image_short_side_px: Largest of a photograph in a shard.
        source_bytes: Mean size of a photograph where it lies.
    """
    height_px, width_px = _grid(size, short_side_px)
    kept_height, kept_width = _grid(size, min(image_short_side_px, *size))
    return Source(name, num_images, height_px, width_px, kept_height * kept_width, source_bytes)


def num_shards(num_images: int, samples_per_shard: int) -> float:
    """Returns how many shards a source's photographs are expected to fill.

    A shard that is too full splits in two by the next bit of the hashed ids, so there is one more
    than there are nodes of the tree, at depth k 2^k of them, that hold more than a shard may.
    """
    from scipy.special import bdtrc  # type: ignore[import-untyped]  # ships no types

    expected, depth = 1.0, 0
    # Of a binomial variable: how many of the ids start with the k bits of a node.
    while (split := 2.0**depth * float(bdtrc(samples_per_shard, num_images, 0.5**depth))) > 1e-6:
        expected += split
        depth += 1
    return expected


def plan(
    sources: Sequence[Source],
    rates: Rates,
    *,
    encoder: str,
    num_gpus: int,
    samples_per_shard: int,
) -> list[Line]:
    """Returns the plan, a line for each result, totals over all sources.

    Args:
        sources: What is to be labelled.
        rates: What was measured or is assumed.
        encoder: Of the teacher, a key of `GIGAFLOP_518`.
        num_gpus: That label side by side.
        samples_per_shard: Most samples in a shard.
    """
    num_images = sum(source.num_images for source in sources)
    total_gigaflop = sum(
        source.num_images * gigaflop(encoder, source.height_px, source.width_px)
        for source in sources
    )
    mean = total_gigaflop / num_images
    if rates.images_per_s is None:
        rate = rates.gigaflop_per_s / mean
        why = f"{rates.gigaflop_per_s:,.0f} GFLOP/s / {_number(mean)} GFLOP"
    else:
        rate = rates.images_per_s
        why = f"{rates.origin}; that is {_number(rate * mean / 1e3)} TFLOP/s"
    gpu_hours = num_images / rate / 3600
    lines = [
        Line("photographs", f"{num_images:,}", _names(sources)),
        Line("GFLOP an image", f"{_number(mean)}", f"{encoder}, mean over the sizes"),
        Line("images/s of a GPU", f"{_number(rate)}", why),
        Line("GPU-hours", f"{_number(gpu_hours)}", f"{num_images:,} / {_number(rate)} / 3600"),
        Line(
            "hours", f"{_number(gpu_hours / num_gpus)}", f"{_number(gpu_hours)} / {num_gpus} GPUs"
        ),
    ]
    if rates.gpu_hour_price is not None:
        cost = gpu_hours * rates.gpu_hour_price
        why = (
            f"{_number(gpu_hours)} x {rates.gpu_hour_price:g}; {cost / num_images * 1e3:.3g} a 1000"
        )
        lines.append(Line("price of the GPUs", f"{cost:,.2f}", why))
    return lines + _storage(sources, rates) + _dvc(sources, rates, samples_per_shard)


def _storage(sources: Sequence[Source], rates: Rates) -> list[Line]:
    num_px = sum(source.num_images * source.shard_px for source in sources)
    images_gb = num_px * rates.image_bytes_per_px / 1e9
    labels_gb = num_px * rates.label_bytes_per_px / 1e9
    shards_gb = images_gb + labels_gb
    origin = rates.bytes_origin
    read_gb = sum(source.num_images * source.source_bytes for source in sources) / 1e9
    px = f"{_number(num_px / 1e9)} Gpx"
    lines = [
        Line(
            "images in shards, GB",
            f"{_number(images_gb)}",
            f"{px} x {rates.image_bytes_per_px:.3g} B",
        ),
        Line(
            "labels in shards, GB",
            f"{_number(labels_gb)}",
            f"{px} x {rates.label_bytes_per_px:.4g} B, {origin}",
        ),
        Line(
            "on disk, GB",
            f"{_number(shards_gb)}",
            f"{_number(images_gb)} + {_number(labels_gb)}; store, output and cache are hard links",
        ),
        Line(
            "photographs read, GB",
            f"{_number(read_gb)}",
            "each once; leaves the bucket they lie in",
        ),
        Line(
            "an epoch reads, GB",
            f"{_number(shards_gb)}",
            "leaves the bucket that the shards lie in",
        ),
    ]
    if rates.egress_gb_price is not None:
        price = (read_gb + shards_gb) * rates.egress_gb_price
        both = f"{_number(read_gb)} + {_number(shards_gb)}"
        why = f"({both}) x {rates.egress_gb_price:g}, with one epoch"
        lines.append(Line("price of traffic", f"{price:,.2f}", why))
    if rates.storage_gb_price is not None:
        price = shards_gb * rates.storage_gb_price
        why = f"{_number(shards_gb)} x {rates.storage_gb_price:g}, in DVC's remote"
        lines.append(Line("price of a month", f"{price:,.2f}", why))
    return lines


def _dvc(sources: Sequence[Source], rates: Rates, samples_per_shard: int) -> list[Line]:
    counts: dict[str, int] = {}
    for source in sources:
        counts[source.name] = counts.get(source.name, 0) + source.num_images
    shards = round(sum(num_shards(count, samples_per_shard) for count in counts.values()))
    num_px = sum(source.num_images * source.shard_px for source in sources)
    shards_gb = num_px * (rates.image_bytes_per_px + rates.label_bytes_per_px) / 1e9
    shard_bytes = shards_gb * 1e9 / shards
    is_one_part = shard_bytes < 2 * _PART_BYTES
    num_requests = shards * (1 if is_one_part else math.ceil(shard_bytes / _PART_BYTES) + 2)
    how = "one a shard" if is_one_part else "parts of 50 MiB, begin and end of each shard"
    lines = [
        Line("shards", f"{shards:,}", f"expected of hashed ids, at most {samples_per_shard} each"),
        Line("MB a shard", f"{_number(shard_bytes / 1e6)}", "on average"),
        Line(
            "DVC hashes, hours",
            f"{_number(shards_gb * 1e3 / rates.hash_mb_per_s / 3600)}",
            f"{_number(shards_gb)} GB / {rates.hash_mb_per_s:g} MB/s, after each labelling",
        ),
        Line(
            "DVC's listing, MB",
            f"{_number(shards * _LISTED_BYTES / 1e6)}",
            f"{shards:,} x {_LISTED_BYTES} B; `dvc status` compares times and sizes of so many",
        ),
        Line(
            "DVC pushes, hours",
            f"{_number(shards_gb * 1e3 / rates.push_mb_per_s / 3600)}",
            f"{_number(shards_gb)} GB / {rates.push_mb_per_s:g} MB/s, once",
        ),
        Line("requests of a push", f"{num_requests:,}", f"{shards:,} shards; {how}"),
    ]
    if rates.request_price is not None:
        price = num_requests / 1e3 * rates.request_price
        why = f"{num_requests:,} / 1000 x {rates.request_price:g}"
        lines.append(Line("price of requests", f"{price:,.2f}", why))
    return lines


def _grid(size: tuple[int, int], short_side_px: int) -> tuple[int, int]:
    """Returns a photograph's sides at a short side, in whole patches."""
    scale = short_side_px / min(size) / _PATCH_PX
    height, width = (max(1, math.floor(side * scale + 0.5)) * _PATCH_PX for side in size)
    return height, width


def _number(value: float) -> str:
    return f"{value:,.1f}" if value >= 10 else f"{value:.3g}"


def _names(sources: Sequence[Source]) -> str:
    counts: dict[str, int] = {}
    for source in sources:
        counts[source.name] = counts.get(source.name, 0) + source.num_images
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
