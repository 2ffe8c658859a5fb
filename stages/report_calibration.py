"""Calibration of metric models: how predicted metres lie at each true depth.

Axes: B bins of depth.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from stages.report_plots import Spread, spread_chart
from stages.report_results import Model

_LEAST_SHARE = 0.002
"""Smallest share of a source's pixels that a depth must have to be drawn."""


def calibrations(models: Sequence[Model], source: str) -> list[dict[str, Any]]:
    """Returns a chart and a sentence for each metric model that was judged on a source."""
    found = []
    for model in models:
        counts = model.calibration.get("counts", {}).get(source)
        if model.tone == "trivial" or not counts:
            continue
        drawn = spreads(model.calibration, source)
        title = f"Predicted and true metres of {model.label} on {source}"
        chart = spread_chart(title, drawn, tone=model.tone)
        if chart:
            found.append({"label": model.label, "svg": chart, "says": _said(drawn)})
    return found


def spreads(calibration: Mapping[str, Any], source: str) -> list[Spread]:
    """Returns the 10th, 50th and 90th percentile of the prediction at each true depth.

    Args:
        calibration: Content of `calibration.json`.
        source: Evaluation source.
    """
    edges = np.array(calibration["edges_m"], dtype=np.float64)
    table = np.zeros((len(edges) - 1, len(edges) - 1))
    for true, predicted, number in calibration["counts"][source]:
        table[true, predicted] += number
    rows = table.sum(axis=1)
    return [
        Spread(
            float(np.sqrt(edges[place] * edges[place + 1])),
            *(_quantile(table[place], edges, share) for share in (0.1, 0.5, 0.9)),
        )
        for place in np.flatnonzero(rows >= max(1.0, _LEAST_SHARE * rows.sum()))
    ]


def _quantile(
    counts: Float64[np.ndarray, " B"], edges: Float64[np.ndarray, " B+1"], share: float
) -> float:
    """Returns a quantile of values counted in bins, even within a bin by its logarithm."""
    below = np.concatenate([[0.0], np.cumsum(counts)])
    wanted = share * below[-1]
    place = int(np.searchsorted(below, wanted, side="left")) - 1
    place = max(place, int(np.flatnonzero(counts)[0]))
    inside = (wanted - below[place]) / counts[place]
    return float(edges[place] * (edges[place + 1] / edges[place]) ** inside)


def _said(drawn: Sequence[Spread]) -> str:
    near, far = drawn[0], drawn[-1]
    return (
        f"Where the truth is {near.true_m:.2g} m, half of the predictions are below "
        f"{near.middle_m:.2g} m; where it is {far.true_m:.2g} m, below {far.middle_m:.2g} m."
    )
