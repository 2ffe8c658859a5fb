"""Dataset cards of the report: what a source holds, where it comes from, under which licence."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dav2.data.manifest import read_manifest
from stages.report_charts import bar_chart
from stages.sources import SourceParams

_NUM_BARS = 24
_SHOWN_SIZES = 3


def dataset_card(source: SourceParams, manifest: Path) -> dict[str, Any]:
    """Returns facts as pairs of name and text, and histograms as SVG, of one ingested source.

    Args:
        source: What params.yaml says of it.
        manifest: What ingest wrote of it.
    """
    rows = read_manifest(manifest)
    depth = rows["depth_p50_m"].dropna()
    facts = [
        ("licence", source.licence or "not stated in params.yaml"),
        ("origin", source.origin or "not stated in params.yaml"),
        ("images", f"{len(rows)} in {rows['scene'].nunique()} scenes, {_gigabytes(rows)}"),
        ("size (width x height)", _sizes(rows)),
        *([("turned by EXIF", str(turned))] if (turned := _turned(rows)) else []),
        *([("35 mm focal length", focal)] if (focal := _focal(rows)) else []),
        *([("depth", _depth(rows))] if rows["depth"].notna().any() else []),
        *([("of its pixels", _pixels(rows))] if rows["depth"].notna().any() else []),
    ]
    charts = [("brightness of its images", _bars(rows["brightness"]), "", "trivial")]
    if len(depth):
        charts.append(("median depth of its images", _log_bars(depth), "m", "truth"))
    drawn = [
        (title, bar_chart(title, *bars, unit=unit, tone=tone)) for title, bars, unit, tone in charts
    ]
    return {"facts": facts, "charts": drawn}


def _gigabytes(rows: pd.DataFrame) -> str:
    total = float(rows["bytes"].sum())
    return f"{total / 1e9:.1f} GB" if total >= 1e9 else f"{total / 1e6:.1f} MB"


def _sizes(rows: pd.DataFrame) -> str:
    counts = Counter(zip(rows["width"], rows["height"], strict=True)).most_common()
    shown = ", ".join(f"{w} x {h} ({n})" for (w, h), n in counts[:_SHOWN_SIZES])
    more = len(counts) - _SHOWN_SIZES
    return f"{shown} and {more} others" if more > 0 else shown


def _turned(rows: pd.DataFrame) -> int:
    return int((rows["exif_orientation"].fillna(1) != 1).sum())


def _focal(rows: pd.DataFrame) -> str:
    known = rows["exif_focal_35mm"].dropna()
    if known.empty:
        return ""
    low, middle, high = np.quantile(known, [0, 0.5, 1])
    return f"{low:.0f} to {high:.0f} mm, median {middle:.0f} ({len(known)} images tell it)"


def _depth(rows: pd.DataFrame) -> str:
    near, far = rows["depth_p01_m"].dropna(), rows["depth_p99_m"].dropna()
    if near.empty:
        return "known up to a factor"
    return f"{near.quantile(0.05):.2g} to {far.quantile(0.95):.3g} m in nine of ten images"


def _pixels(rows: pd.DataFrame) -> str:
    sky = rows["sky_fraction"].dropna()
    told = f"{sky.mean():.0%} sky" if len(sky) else "sky not told"
    return f"{rows['valid_fraction'].mean():.0%} measured, {told}"


def _bars(values: "pd.Series[float]") -> tuple[list[int], list[float]]:
    counts, edges = np.histogram(values.dropna(), bins=_NUM_BARS, range=(0, 1))
    return counts.tolist(), edges.tolist()


def _log_bars(values: "pd.Series[float]") -> tuple[list[int], list[float]]:
    low, high = float(values.min()), float(values.max())
    edges = np.geomspace(low * 0.999, max(high, low * 1.1) * 1.001, _NUM_BARS + 1)
    counts, edges = np.histogram(values, bins=edges)
    return counts.tolist(), edges.tolist()
