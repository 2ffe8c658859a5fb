"""Makes the tables and charts of the results, with marks where a model does no better than chance.

Everything here is worked out from the files of the evaluations; no sample is opened.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dav2.metrics.bootstrap import bootstrap_interval
from stages.evaluation_summary import RESERVED
from stages.report_calibration import calibrations
from stages.report_charts import Dot, dot_chart
from stages.report_plots import BarGroup, Place, grouped_bars, scatter_chart
from stages.report_results import (
    MEASURES,
    METRIC_MEASURES,
    Measure,
    Model,
    is_relative,
    protocol_of,
)

HEADLINE = "pair_accuracy"
"""The measure that models are drawn by against their cost."""


def result_sections(
    models: Sequence[Model], manifest: pd.DataFrame, unseen: Collection[str]
) -> list[dict[str, Any]]:
    """Returns tables and charts of relative depth, one section for each source with depth."""
    relative = [model for model in models if is_relative(model)]
    sections = []
    # What the models never saw comes first: it answers the question of the page.
    for source in sorted(dense_sources(relative), key=lambda name: (name not in unseen, name)):
        counts = [model.value(source, "num_images") or 0 for model in relative]
        charts = [
            {
                "title": measure.title,
                "better": "higher" if measure.higher_is_better else "lower",
                "svg": dot_chart(
                    f"{measure.title} on {source}",
                    _dots(relative, source, measure.key),
                    percent=measure.percent,
                ),
            }
            for measure in MEASURES
            if measure.key in ("pair_accuracy", "abs_rel_inverse")
        ]
        sections.append(
            {
                "source": source,
                "is_unseen": source in unseen,
                "num_images": int(max(counts, default=0)),
                "table": table(relative, source, MEASURES),
                "protocol": protocol_of(relative, source),
                "charts": charts,
                "dataset": ", ".join(
                    sorted(set(manifest[manifest["source"] == source]["dataset"]))
                ),
            }
        )
    return sections


def metric_sections(models: Sequence[Model]) -> list[dict[str, Any]]:
    """Returns tables of metric depth, one for each source that a metric model was judged on."""
    sources = sorted(
        {
            source
            for model in models
            if not is_relative(model)
            for source in model.metrics.get("metric", {})
            if source != "average"
        }
    )
    sections = []
    for source in sources:
        judged = [m for m in models if source in m.metrics.get("metric", {})]
        found = table(judged, source, METRIC_MEASURES, "metric")
        sections.append(
            {
                "source": source,
                "table": found,
                "protocol": protocol_of(judged, source, "metric"),
                "calibrations": calibrations(judged, source),
            }
        )
    return sections


def scenario_section(models: Sequence[Model]) -> dict[str, Any] | None:
    """Returns bars and a table of the accuracy on annotated pairs by scenario."""
    scored = [model for model in models if is_relative(model) and "da2k" in model.metrics]
    if not scored:
        return None
    names = sorted({name for model in scored for name in model.metrics["da2k"]})
    names = [name for name in names if name not in ("all", "balanced")]
    pairs = scored[0].pairs
    counts = pairs[pairs["dataset"] == "da2k"].groupby("scenario").size().to_dict()
    columns = [{"name": name.replace("_", " "), "count": counts.get(name)} for name in names]
    total = {"count": int(sum(counts.values()))}
    columns += [{"name": "all pairs", **total}, {"name": "balanced", "count": None}]
    names += ["all", "balanced"]
    looking = [model for model in scored if model.tone != "trivial"]
    best = {
        name: max((m.metrics["da2k"].get(name, 0.0) for m in looking), default=0.0)
        for name in names
    }
    rows = [
        {
            "label": model.label,
            "tone": model.tone,
            "cells": [_scenario_cell(model, name, best[name]) for name in names],
        }
        for model in scored
    ]
    groups = [
        BarGroup(
            column["name"] if column["count"] is None else f"{column['name']} ({column['count']})",
            [
                (model.tone, model.metrics["da2k"].get(name, 0.0), _pair_interval(model, name))
                for model in looking
            ],
            max(
                (m.metrics["da2k"].get(name, 0.0) for m in scored if m.tone == "trivial"),
                default=None,
            ),
        )
        for name, column in zip(names, columns, strict=True)
    ]
    chart = grouped_bars("Accuracy on annotated pairs by scenario", groups if looking else [])
    return {"columns": columns, "rows": rows, "svg": chart, "models": looking}


def _scenario_cell(model: Model, name: str, best: float) -> dict[str, Any]:
    value = model.metrics["da2k"].get(name, 0.0)
    ends = _pair_interval(model, name)
    return {
        "text": f"{100 * value:.1f}",
        "best": model.tone != "trivial" and value == best,
        "interval": "" if ends is None else f"{100 * ends[0]:.0f} to {100 * ends[1]:.0f}",
    }


def _pair_interval(model: Model, name: str) -> tuple[float, float] | None:
    ends = model.metrics.get("intervals", {}).get("da2k", {}).get(name)
    return None if ends is None else (float(ends[0]), float(ends[1]))


def cost_chart(
    models: Sequence[Model], source: str, costs: Mapping[str, float], *, title: str
) -> str:
    """Returns the accuracy on a source's pairs of points against what a model costs.

    Args:
        models: Of which those that have both are drawn.
        source: With depth.
        costs: By name of the model, above 0.
        title: Says what the costs are.
    """
    places = [
        Place(model.label, model.tone, costs[model.name], value, model.interval(source, HEADLINE))
        for model in models
        if is_relative(model) and model.name in costs
        if (value := model.value(source, HEADLINE)) is not None
    ]
    name = f"Pairs in order on {source} against {title}"
    y_title = f"pairs in order on {source}, %"
    return scatter_chart(name, places, x_title=title, y_title=y_title, percent=True)


def dense_sources(models: Sequence[Model]) -> list[str]:
    """Returns the evaluation sources with depth maps that some model was judged on."""
    return sorted({key for model in models for key in model.metrics if key not in RESERVED})


def table(
    models: Sequence[Model], source: str, measures: Sequence[Measure], protocol: str = "relative"
) -> dict[str, Any]:
    """Returns a table of one source: columns, and rows with marked cells.

    The best value among the models that look at the image is marked, and so is each that a trivial
    baseline equals or beats, with that baseline's name.
    """
    known = [m for m in measures if any(_has(model, source, m, protocol) for model in models)]
    rows = []
    for model in models:
        if not any(_has(model, source, measure, protocol) for measure in known):
            continue
        cells = [_cell(model, models, source, measure, protocol) for measure in known]
        rows.append({"label": model.label, "tone": model.tone, "cells": cells})
    return {"columns": known, "rows": rows}


def difference(
    one: Model, other: Model, source: str, key: str
) -> tuple[float, float, float] | None:
    """Returns the mean difference of two models over the same images, and its 95 % interval.

    None where they have no image in common.
    """
    values = [
        model.per_image[
            (model.per_image["protocol"] == "relative") & (model.per_image["source"] == source)
        ].set_index("sample_id")[key]
        for model in (one, other)
    ]
    paired = (values[0] - values[1]).dropna().to_numpy(dtype=np.float64)
    if not paired.size:
        return None
    low, high = bootstrap_interval(paired, np.ones_like(paired), num_resamples=2000)
    return float(paired.mean()), low, high


def beaten_by(
    model: Model, models: Sequence[Model], source: str, measure: Measure, protocol: str = "relative"
) -> str:
    """Returns the best trivial baseline that a model does not beat; empty if it beats all."""
    least = model.value(source, measure.key, protocol)
    best = ""
    for other in models:
        rival = other.value(source, measure.key, protocol)
        if other.tone != "trivial" or least is None or rival is None:
            continue
        if not measure.beats(least, rival):
            least, best = rival, other.label
    return best


def _cell(
    model: Model, models: Sequence[Model], source: str, measure: Measure, protocol: str
) -> dict[str, Any]:
    value = model.value(source, measure.key, protocol)
    if value is None:
        return {"text": "", "best": False, "beaten_by": "", "interval": ""}
    looking = [entry for entry in models if entry.tone != "trivial"]
    values = [v for m in looking if (v := m.value(source, measure.key, protocol)) is not None]
    best = bool(values) and not any(measure.beats(other, value) for other in values)
    trivial = "" if model.tone == "trivial" else beaten_by(model, models, source, measure, protocol)
    ends = model.interval(source, measure.key, protocol)
    return {
        "text": measure.text(value),
        "best": best and model in looking,
        "beaten_by": trivial,
        "interval": "" if ends is None else f"{measure.text(ends[0])} to {measure.text(ends[1])}",
    }


def _has(model: Model, source: str, measure: Measure, protocol: str) -> bool:
    return model.value(source, measure.key, protocol) is not None


def _dots(models: Sequence[Model], source: str, key: str) -> list[Dot]:
    return [
        Dot(model.label, model.tone, value, model.interval(source, key))
        for model in models
        if (value := model.value(source, key)) is not None
    ]
