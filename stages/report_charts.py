"""Draws charts as SVG text that takes its colours from the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10

from stages.report_graph import Graph


@dataclass(frozen=True, slots=True)
class Line:
    """One curve."""

    label: str
    tone: str
    """Class that gives the colour."""
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Dot:
    """One value with its interval."""

    label: str
    tone: str
    value: float
    interval: tuple[float, float] | None


def line_chart(title: str, lines: Sequence[Line]) -> str:
    """Returns curves over a common step axis; nothing without points."""
    points = [point for line in lines for point in line.points]
    if not points:
        return ""
    width, height, left, right, top, bottom = 420, 210, 46, 12, 12, 30
    x_low, x_high = min(x for x, _ in points), max(x for x, _ in points)
    ticks = ticks_around(min(y for _, y in points), max(y for _, y in points), 4)
    y_low, y_high = ticks[0], ticks[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / (x_high - x_low) if x_high > x_low else 0.5
        up = (y - y_low) / (y_high - y_low)
        return left + across * (width - left - right), height - bottom - up * (
            height - top - bottom
        )

    parts = []
    for tick in ticks:
        _, y = place(x_low, tick)
        parts.append(
            f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        parts.append(
            f'<text class="tick" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
        )
    for x, anchor in ((x_low, "start"), (x_high, "end")):
        across, _ = place(x, y_low)
        parts.append(
            f'<text class="tick" x="{across:.1f}" y="{height - 10}" text-anchor="{anchor}">'
            f"step {x:g}</text>"
        )
    for line in lines:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in line.points))
        parts.append(f'<polyline class="line {line.tone}" points="{path}"/>')
    return svg(width, height, title, parts)


def bar_chart(
    title: str, counts: Sequence[int], edges: Sequence[float], *, unit: str, tone: str = "trivial"
) -> str:
    """Returns a histogram with its ends and its highest count; bars are of equal width.

    Args:
        title: Says what is counted.
        counts: N of them.
        edges: N + 1 limits between the bars.
        unit: Of the edges.
        tone: Class that gives the colour.
    """
    width, height, bottom, top = 280, 96, 18, 16
    step, highest = width / len(counts), max(*counts, 1)
    parts = [f'<text class="tick" x="0" y="11">up to {highest}</text>']
    for place, count in enumerate(counts):
        if count:
            tall = max(1.0, (height - top - bottom) * count / highest)
            x, y = place * step + 0.5, height - bottom - tall
            parts.append(
                f'<rect class="bar {tone}" x="{x:.1f}" y="{y:.1f}" '
                f'width="{step - 1:.1f}" height="{tall:.1f}"/>'
            )
    parts.append(
        f'<line class="grid" x1="0" x2="{width}" y1="{height - bottom}" y2="{height - bottom}"/>'
    )
    for x, edge, anchor in ((0, edges[0], "start"), (width, edges[-1], "end")):
        text = f"{edge:.3g} {unit}".strip()
        parts.append(
            f'<text class="tick" x="{x}" y="{height - 4}" text-anchor="{anchor}">{text}</text>'
        )
    return svg(width, height, title, parts)


def dot_chart(title: str, dots: Sequence[Dot], *, percent: bool) -> str:
    """Returns values with their intervals, one below the other; nothing without values."""
    if not dots:
        return ""
    width, left, right, step, top = 420, 150, 54, 24, 8
    height = top + step * len(dots) + 24
    ends = [end for dot in dots for end in (*(dot.interval or ()), dot.value)]
    ticks = ticks_around(min(ends), max(ends), 4)

    def place(value: float) -> float:
        return left + (value - ticks[0]) / (ticks[-1] - ticks[0]) * (width - left - right)

    parts = []
    for tick in ticks:
        x, text = place(tick), f"{100 * tick:g}" if percent else f"{tick:g}"
        parts.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{height - 24}"/>'
        )
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{height - 8}" text-anchor="middle">{text}</text>'
        )
    for index, dot in enumerate(dots):
        y = top + step * (index + 0.5)
        text = f"{100 * dot.value:.1f}" if percent else f"{dot.value:.3f}"
        parts.append(f'<text class="name" x="0" y="{y + 4:.1f}">{escape(dot.label)}</text>')
        if dot.interval is not None:
            low, high = place(dot.interval[0]), place(dot.interval[1])
            parts.append(
                f'<line class="whisker {dot.tone}" x1="{low:.1f}" x2="{high:.1f}" '
                f'y1="{y:.1f}" y2="{y:.1f}"/>'
            )
        parts.append(
            f'<circle class="dot {dot.tone}" cx="{place(dot.value):.1f}" cy="{y:.1f}" r="5"/>'
        )
        parts.append(
            f'<text class="value" x="{width}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
        )
    return svg(width, height, title, parts)


def graph_chart(title: str, graph: Graph, *, states: Mapping[str, str]) -> str:
    """Returns the stages as boxes from left to right, with lines for what they need.

    Args:
        title: For those who cannot see it.
        graph: Stages with their places.
        states: `pass`, `warn` or `fail` of some stages.
    """
    box_width = max(112, 8 + 7 * max(len(node.name) for node in graph.nodes))
    box_height, gap_x, gap_y = 42, 28, 20
    columns = max(node.column for node in graph.nodes) + 1
    rows = max(node.row for node in graph.nodes) + 1
    width = columns * (box_width + gap_x) - gap_x + 4
    height = rows * (box_height + gap_y) - gap_y + 4
    corner = {
        node.name: (2 + node.column * (box_width + gap_x), 2 + node.row * (box_height + gap_y))
        for node in graph.nodes
    }
    parts = []
    for start, end in graph.edges:
        (x1, y1), (x2, y2) = corner[start], corner[end]
        if x1 == x2:
            middle = x1 + box_width // 2
            path = f"M{middle} {y1 + box_height} L{middle} {y2}"
        else:
            x1, y1, y2 = x1 + box_width, y1 + box_height // 2, y2 + box_height // 2
            path = f"M{x1} {y1} C{x1 + gap_x} {y1} {x2 - gap_x} {y2} {x2} {y2}"
        parts.append(f'<path class="edge" d="{path}"/>')
    for node in graph.nodes:
        x, y = corner[node.name]
        state = states.get(node.name, "")
        parts.append(
            f'<g class="stage {state}"><rect x="{x}" y="{y}" width="{box_width}" '
            f'height="{box_height}" rx="7"/>'
            f'<text x="{x + box_width / 2:g}" y="{y + 17}" text-anchor="middle">'
            f"{escape(node.name)}</text>"
            f'<text class="small" x="{x + box_width / 2:g}" y="{y + 32}" text-anchor="middle" '
            f'data-stage="{escape(node.name)}">{escape(node.note)}</text>'
            f"<title>{escape(node.says)}</title></g>"
        )
    return svg(
        width,
        height,
        title,
        parts,
        extra=f' style="min-width:{width}px;max-width:{1.5 * width:g}px"',
    )


def svg(width: float, height: float, title: str, parts: Sequence[str], extra: str = "") -> str:
    """Returns a drawing of a size in units of its own, named for those who cannot see it."""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}"{extra}>'
        + "".join(parts)
        + "</svg>"
    )


def ticks_around(low: float, high: float, number: int) -> list[float]:
    """Returns round values that enclose a range, about `number` of them."""
    raw = (high - low or abs(high) or 1.0) / number
    power = 10.0 ** floor(log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    first, last = int(low // step), int(-(-high // step))
    last = max(last, first + 1)
    return [round(index * step, 10) for index in range(first, last + 1)]
