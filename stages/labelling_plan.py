"""The arithmetic of a labelling: what so many photographs cost in time, bytes and money."""

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

_PATCH_PX = 14
_FILL = 0.7  # of a shard on average: it splits in two when it is full
_LISTED_BYTES = 90  # of a file in DVC's listing of a folder: hash, path, JSON


@dataclass(frozen=True, slots=True)
class Source:
    """Photographs of one size."""

    name: str
    num_images: int
    height_px: int
    """Of the teacher's input, as of image and label in the shards."""
    width_px: int
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
    hash_mb_per_s: float
    gpu_hour_price: float | None
    egress_gb_price: float | None


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
    return lines + _storage(sources, rates, num_images, samples_per_shard)


def _storage(
    sources: Sequence[Source], rates: Rates, num_images: int, samples_per_shard: int
) -> list[Line]:
    num_px = sum(source.num_images * source.height_px * source.width_px for source in sources)
    images_gb = num_px * rates.image_bytes_per_px / 1e9
    labels_gb = num_px * rates.label_bytes_per_px / 1e9
    shards_gb = images_gb + labels_gb
    read_gb = sum(source.num_images * source.source_bytes for source in sources) / 1e9
    num_shards = max(1, round(num_images / (_FILL * samples_per_shard)))
    px = f"{_number(num_px / 1e9)} Gpx"
    lines = [
        Line(
            "images in shards, GB",
            f"{_number(images_gb)}",
            f"{px} x {rates.image_bytes_per_px:g} B",
        ),
        Line(
            "labels in shards, GB",
            f"{_number(labels_gb)}",
            f"{px} x {rates.label_bytes_per_px:g} B",
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
    hash_hours = shards_gb * 1e3 / rates.hash_mb_per_s / 3600
    listing_mb = num_shards * _LISTED_BYTES / 1e6
    return [
        *lines,
        Line("shards", f"{num_shards:,}", f"{num_images:,} / ({_FILL} x {samples_per_shard})"),
        Line("MB a shard", f"{_number(shards_gb * 1e3 / num_shards)}", "on average"),
        Line(
            "DVC hashes, hours",
            f"{_number(hash_hours)}",
            f"{_number(shards_gb)} GB / {rates.hash_mb_per_s:g} MB/s, after each labelling",
        ),
        Line(
            "DVC's listing, MB",
            f"{_number(listing_mb)}",
            f"{num_shards:,} x {_LISTED_BYTES} B; `dvc status` compares times and sizes of so many",
        ),
    ]


def _number(value: float) -> str:
    return f"{value:,.1f}" if value >= 10 else f"{value:.3g}"


def _names(sources: Sequence[Source]) -> str:
    counts: dict[str, int] = {}
    for source in sources:
        counts[source.name] = counts.get(source.name, 0) + source.num_images
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
