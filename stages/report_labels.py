"""How good the pseudo-labels are by what was measured of each: histograms and numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dav2.labeling.quality import WORST_BY
from stages.report_charts import bar_chart

SAYS = {
    "flip_inconsistency": "change when the photograph is mirrored",
    "scale_inconsistency": "change when it is seen at another resolution",
    "zero_fraction": "share of pixels that are exactly 0",
    "ramp_correlation": "likeness to a ramp, brighter downwards",
}
_NUM_BARS = 24


def label_quality(folder: Path) -> list[dict[str, Any]]:
    """Returns, for each measure of the labels, what it is, numbers, and a histogram as SVG.

    Args:
        folder: With the shards and their index.
    """
    index = pd.read_parquet(folder / "manifest.parquet", columns=list(WORST_BY))
    found = []
    for name in WORST_BY:
        values = index[name].dropna().to_numpy(dtype=np.float64)
        if not values.size:
            continue
        low, high = min(0.0, float(values.min())), max(float(values.max()), 1e-3)
        counts, edges = np.histogram(values, bins=_NUM_BARS, range=(low, high))
        title = f"{name.replace('_', ' ')} of the labels"
        middle, last = np.quantile(values, [0.5, 0.95])
        found.append(
            {
                "name": name.replace("_", " "),
                "says": SAYS[name],
                "numbers": f"median {middle:.3f}, of 95 % below {last:.3f}, {values.size} measured",
                "svg": bar_chart(title, counts.tolist(), edges.tolist(), unit="", tone="pseudo"),
            }
        )
    return found
