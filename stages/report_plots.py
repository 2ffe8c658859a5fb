"""Draws what relates two numbers, and grouped bars, as SVG that takes its colours from the page.

`stages.report_charts` holds the simpler charts.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

from stages.report_charts import svg, ticks_around

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Place:
    """One model by what it costs and how good it is."""

    label: str
    tone: str
    """Class that gives the colour."""
    x: float
    """Above 0: the axis is logarithmic."""
    y: float
    interval: Interval | None
    """Of y."""


@dataclass(frozen=True, slots=True)
class BarGroup:
    """The bars of one row."""

    label: str
    bars: Sequence[tuple[str, float, Interval | None]]
    """Class that gives the colour, share from 0 to 1, its interval."""
    mark: float | None
    """Share of a baseline, drawn as a line across the bars."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Predicted metres at one true depth."""

    true_m: float
    low_m: float
    """10th percentile."""
    middle_m: float
    high_m: float
    """90th percentile."""


def scatter_chart(
    title: str, places: Sequence[Place], *, x_title: str, y_title: str, percent: bool
) -> str:
    """Returns models as dots with their intervals, named at the right; nothing without models.

    Args:
        title: For those who cannot see it.
        places: Models.
        x_title: Says what the logarithmic axis is.
        y_title: Says what the other is.
        percent: Whether y is a share, shown times 100.
    """
    if not places:
        return ""
    width, left, right, top, bottom = 480, 40, 170, 26, 40
    height = max(230, top + bottom + 17 * len(places))
    ends = [end for place in places for end in (*(place.interval or ()), place.y)]
    marks = ticks_around(min(ends), max(ends), 4)
    low, high = _decade_ends([place.x for place in places])

    def across(x: float) -> float:
        return left + (log10(x) - low) / (high - low) * (width - left - right)

    def down(y: float) -> float:
        return height - bottom - (y - marks[0]) / (marks[-1] - marks[0]) * (height - top - bottom)

    parts = [
        f'<text class="small" x="0" y="12">{escape(y_title)}</text>',
        f'<text class="small" x="{width - right}" y="{height - 4}" text-anchor="end">'
        f"{escape(x_title)}</text>",
    ]
    for mark in marks:
        text = f"{100 * mark:g}" if percent else f"{mark:g}"
        parts.append(_grid(left, width - right, down(mark), down(mark)))
        parts.append(_tick(left - 6, down(mark) + 4, text, "end"))
    for x in _steps(low, high):
        parts.append(_grid(across(x), across(x), top, height - bottom))
        parts.append(_tick(across(x), height - bottom + 16, _short(x), "middle"))
    named = sorted(places, key=lambda place: down(place.y))
    equal = Counter(place.x for place in named)
    before: Counter[float] = Counter()
    heights = spread_out([down(place.y) for place in named], step=15, top=top, bottom=height - 12)
    for place, text_y in zip(named, heights, strict=True):
        # Models of one cost stand side by side, lest their intervals hide each other.
        x = across(place.x) + 12 * (before[place.x] - (equal[place.x] - 1) / 2)
        before[place.x] += 1
        y = down(place.y)
        if place.interval is not None:
            parts.append(
                f'<line class="whisker {place.tone}" x1="{x:.1f}" x2="{x:.1f}" '
                f'y1="{down(place.interval[0]):.1f}" y2="{down(place.interval[1]):.1f}"/>'
            )
        parts.append(
            f'<path class="leader" d="M{x + 6:.1f} {y:.1f} L{width - right + 6} {text_y:.1f}"/>'
            f'<circle class="dot {place.tone}" cx="{x:.1f}" cy="{y:.1f}" r="5.5"/>'
            f'<text x="{width - right + 10}" y="{text_y + 4:.1f}">{escape(place.label)}</text>'
        )
    return svg(width, height, title, parts)


def grouped_bars(title: str, groups: Sequence[BarGroup]) -> str:
    """Returns shares as bars from 0 to 100 %, one below the other in groups; nothing without any.

    A dashed line is at 50 %, where a coin would be; the mark of a group is a baseline's share.
    """
    if not groups:
        return ""
    width, left, right, top, thick, label, gap = 400, 4, 36, 4, 9, 15, 8
    heights = [label + len(group.bars) * (thick + 2) + gap for group in groups]
    height = top + sum(heights) + 22

    def across(share: float) -> float:
        return left + share * (width - left - right)

    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        kind = "grid chance" if share == 0.5 else "grid"
        parts.append(_grid(across(share), across(share), top, height - 22, kind))
        parts.append(_tick(across(share), height - 6, f"{100 * share:g}", "middle"))
    y = float(top)
    for group, tall in zip(groups, heights, strict=True):
        parts.append(f'<text class="over" x="{left}" y="{y + 11:.1f}">{escape(group.label)}</text>')
        for index, (tone, share, interval) in enumerate(group.bars):
            at = y + label + index * (thick + 2)
            parts.append(
                f'<rect class="bar {tone}" x="{left}" y="{at:.1f}" rx="2" '
                f'width="{max(1.0, across(share) - left):.1f}" height="{thick}"/>'
            )
            ends = across(interval[1] if interval else share)
            if interval is not None:
                parts.append(
                    f'<line class="range" x1="{across(interval[0]):.1f}" '
                    f'x2="{across(interval[1]):.1f}" y1="{at + thick / 2:.1f}" '
                    f'y2="{at + thick / 2:.1f}"/>'
                )
            parts.append(_tick(min(ends + 5, width - 26), at + 8, f"{100 * share:.0f}", "start"))
        if group.mark is not None:
            x = across(group.mark)
            parts.append(_grid(x, x, y + label - 3, y + tall - gap + 1, "mark trivial"))
        y += tall
    return svg(width, height, title, parts)


def spread_chart(title: str, spreads: Sequence[Spread], *, tone: str) -> str:
    """Returns predicted over true metres: median, the middle 80 %, and the line of the truth."""
    if len(spreads) < 2:
        return ""
    width, height, left, right, top, bottom = 420, 330, 48, 12, 24, 42
    values = [
        metres for one in spreads for metres in (one.true_m, one.low_m, one.middle_m, one.high_m)
    ]
    low, high = _decade_ends(values)

    def across(metres: float) -> float:
        return left + (log10(metres) - low) / (high - low) * (width - left - right)

    def down(metres: float) -> float:
        return height - bottom - (log10(metres) - low) / (high - low) * (height - top - bottom)

    parts = [
        '<text class="small" x="0" y="12">predicted m</text>',
        f'<text class="small" x="{width - right}" y="{height - 4}" text-anchor="end">true m</text>',
    ]
    for metres in _steps(low, high):
        parts.append(_grid(left, width - right, down(metres), down(metres)))
        parts.append(_grid(across(metres), across(metres), top, height - bottom))
        parts.append(_tick(left - 6, down(metres) + 4, _short(metres), "end"))
        parts.append(_tick(across(metres), height - bottom + 16, _short(metres), "middle"))
    upper = [f"{across(one.true_m):.1f},{down(one.high_m):.1f}" for one in spreads]
    lower = [f"{across(one.true_m):.1f},{down(one.low_m):.1f}" for one in reversed(spreads)]
    middle = [f"{across(one.true_m):.1f},{down(one.middle_m):.1f}" for one in spreads]
    ends = 10.0**low, 10.0**high
    parts += [
        f'<polygon class="band {tone}" points="{" ".join([*upper, *lower])}"/>',
        f'<path class="truth-line" d="M{across(ends[0]):.1f} {down(ends[0]):.1f} '
        f'L{across(ends[1]):.1f} {down(ends[1]):.1f}"/>',
        f'<polyline class="line {tone}" points="{" ".join(middle)}"/>',
    ]
    return svg(width, height, title, parts)


def spread_out(places: Sequence[float], *, step: float, top: float, bottom: float) -> list[float]:
    """Returns ascending places moved apart to at least `step`, inside the limits if they fit."""
    found: list[float] = []
    for place in places:
        found.append(max(place, found[-1] + step if found else top))
    limit = bottom
    for index in reversed(range(len(found))):
        found[index] = min(found[index], limit)
        limit = found[index] - step
    return found


def _decade_ends(values: Sequence[float]) -> tuple[float, float]:
    """Returns decimal logarithms a little outside of the values, at least 0.8 decades apart."""
    low, high = log10(min(values)), log10(max(values))
    spare = max(0.06 * (high - low), (0.8 - (high - low)) / 2)
    return low - spare, high + spare


def _steps(low: float, high: float) -> list[float]:
    """Returns 1, 2 and 5 times the powers of ten within the limits; 1 alone over many decades."""
    factors = (1, 2, 5) if high - low < 2.2 else (1,)
    powers = range(floor(low), ceil(high) + 1)
    return [
        factor * 10.0**power
        for power in powers
        for factor in factors
        if low <= log10(factor) + power <= high
    ]


def _short(number: float) -> str:
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= limit:
            return f"{number / limit:g}{unit}"
    return f"{number:g}"


def _grid(x1: float, x2: float, y1: float, y2: float, kind: str = "grid") -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"/>'


def _tick(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'
