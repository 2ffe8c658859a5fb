"""Counts how predicted metres lie against true ones, for `calibration.json` of an evaluation.

Axes: H height, W width (pixels).
"""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

BINS_PER_DECADE = 16
FIRST_M, NUM_DECADES = 0.1, 4

Counts = Counter[tuple[int, int]]
"""Pixels by the bin of their true depth and that of their predicted depth."""

_NUM_BINS = BINS_PER_DECADE * NUM_DECADES
_MOST_PIXELS = 1 << 16


def depth_counts(
    predicted_m: Float[np.ndarray, "H W"],
    true_m: Float[np.ndarray, "H W"],
    *,
    pixels: Bool[np.ndarray, "H W"],
) -> Counts:
    """Returns how many pixels of one image lie in which bins.

    Of an image of more than 65,536 pixels those of every second, third, ... row and column count.

    Bins are equal steps of the logarithm from 0.1 to 1000 m; what lies outside is in the end ones.

    Args:
        predicted_m: Metres, positive.
        true_m: Metres, positive.
        pixels: Pixels that count.
    """
    step = math.ceil(math.sqrt(max(pixels.size, 1) / _MOST_PIXELS))
    chosen = pixels[::step, ::step]
    true, predicted = (_bins(values[::step, ::step][chosen]) for values in (true_m, predicted_m))
    cells, counts = np.unique(true * _NUM_BINS + predicted, return_counts=True)
    return Counter(
        {
            divmod(int(cell), _NUM_BINS): int(count)
            for cell, count in zip(cells, counts, strict=True)
        }
    )


def calibration(counts: Mapping[str, Counts]) -> dict[str, Any]:
    """Returns the content of `calibration.json`.

    `edges_m` are the limits of the bins, `counts` of each source `[true bin, predicted bin,
    pixels]`, sorted, without empty ones.

    Args:
        counts: Of all images of each source.
    """
    edges = FIRST_M * 10.0 ** (np.arange(_NUM_BINS + 1) / BINS_PER_DECADE)
    return {
        "edges_m": [round(float(edge), 6) for edge in edges],
        "counts": {
            source: [[*cell, number] for cell, number in sorted(found.items())]
            for source, found in counts.items()
        },
    }


def _bins(metres: Float[np.ndarray, " N"]) -> Any:
    places = np.floor(np.log10(metres / FIRST_M) * BINS_PER_DECADE)
    return np.clip(places, 0, _NUM_BINS - 1).astype(np.int64)
