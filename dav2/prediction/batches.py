"""Which images go through the model together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dav2.data.preparation import Preparation, prepared_size
from dav2.prediction.headers import Header, read_header
from dav2.prediction.sources import Source

MAX_BATCH_PIXELS = 50_000_000
"""Of decoded images in a batch of more than one: bounds memory where images are large."""


@dataclass(frozen=True, slots=True)
class Planned:
    """An image on its way."""

    source: Source
    header: Header


def plan_batches(
    sources: Sequence[Source], *, short_side_px: int, preparation: Preparation, batch_size: int
) -> list[list[Planned]]:
    """Returns the images in batches of one size at the model, whatever their order.

    Args:
        sources: Images; of each the header is read.
        short_side_px: Size at which the model sees an image.
        preparation: How images are resized.
        batch_size: Most images in a batch.
    """
    by_size: dict[tuple[int, int], list[Planned]] = {}
    for source in sources:
        planned = Planned(source, read_header(source.path))
        size = planned.header.size
        seen = (0, 0)  # an image whose header cannot be read will fail by itself
        if size:
            seen = prepared_size(*size, short_side_px=short_side_px, preparation=preparation)
        by_size.setdefault(seen, []).append(planned)
    return [batch for group in by_size.values() for batch in _split(group, batch_size)]


def _split(group: Sequence[Planned], batch_size: int) -> Iterator[list[Planned]]:
    batch: list[Planned] = []
    num_pixels = 0
    for planned in group:
        height, width = planned.header.size or (0, 0)
        if batch and (len(batch) == batch_size or num_pixels + height * width > MAX_BATCH_PIXELS):
            yield batch
            batch, num_pixels = [], 0
        batch.append(planned)
        num_pixels += height * width
    yield batch
