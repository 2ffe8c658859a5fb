"""Charts that relate two numbers, and grouped bars."""

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from stages.report_calibration import spreads
from stages.report_plots import (
    BarGroup,
    Place,
    Spread,
    grouped_bars,
    scatter_chart,
    spread_chart,
    spread_out,
)


def numbers(svg: str, name: str, kind: str) -> list[float]:
    nodes = ElementTree.fromstring(svg).iter()
    return [float(node.get(name)) for node in nodes if node.get("class", "").startswith(kind)]


def scatter(places):
    return scatter_chart("x", places, x_title="parameters", y_title="accuracy", percent=True)


def test_a_dearer_model_stands_farther_right_and_a_better_one_higher():
    places = [Place("a", "teacher", 1e6, 0.5, (0.4, 0.6)), Place("b", "pseudo", 1e8, 0.9, None)]
    svg = scatter(places)
    across, down = numbers(svg, "cx", "dot"), numbers(svg, "cy", "dot")
    assert len(numbers(svg, "x1", "whisker")) == 1
    # The better one is drawn first: from the top down.
    assert across[0] > across[1]
    assert down[0] < down[1]
    assert re.findall(r">(\d+ M)<", svg) == ["1 M", "10 M", "100 M"]


def test_models_of_one_cost_and_accuracy_stay_apart_and_so_do_their_names():
    svg = scatter([Place(name, "pseudo", 4e5, 0.6, None) for name in "abc"])
    across = numbers(svg, "cx", "dot")
    assert min(b - a for a, b in pairwise(across)) == pytest.approx(12)
    heights = re.findall(r'y="([\d.]+)">[abc]<', svg)
    assert min(float(b) - float(a) for a, b in pairwise(heights)) >= 15
    assert scatter([]) == ""


def test_names_are_moved_apart_and_kept_inside():
    assert spread_out([10, 11, 60], step=15, top=0, bottom=100) == [10, 25, 60]
    assert spread_out([95, 96, 97], step=15, top=0, bottom=100) == [70, 85, 100]
    assert spread_out([], step=15, top=0, bottom=100) == []


def test_a_bar_is_as_long_as_its_share_and_the_mark_stands_at_the_baseline():
    groups = [BarGroup("a & b", [("teacher", 0.8, (0.7, 0.9)), ("pseudo", 0.4, None)], 0.5)]
    svg = grouped_bars("Pairs", groups)
    long, short = numbers(svg, "width", "bar")
    assert long == pytest.approx(2 * short, abs=0.2)
    (mark,) = numbers(svg, "x1", "mark")
    (chance,) = numbers(svg, "x1", "grid chance")
    assert mark == chance
    assert grouped_bars("Pairs", []) == ""


def test_a_perfect_model_lies_on_the_line_of_the_truth():
    perfect = [Spread(metres, metres, metres, metres) for metres in (1.0, 3.0, 9.0)]
    svg = spread_chart("x", perfect, tone="metric")
    ElementTree.fromstring(svg)
    (line,) = re.findall(r'class="line metric" points="([^"]+)"', svg)
    (truth,) = re.findall(r'class="truth-line" d="M([\d.]+) ([\d.]+) L([\d.]+) ([\d.]+)"', svg)
    x1, y1, x2, y2 = map(float, truth)
    for x, y in (map(float, point.split(",")) for point in line.split()):
        assert y == pytest.approx(y1 + (x - x1) / (x2 - x1) * (y2 - y1), abs=0.2)
    assert spread_chart("x", perfect[:1], tone="metric") == ""


def test_quantiles_are_those_of_the_counted_pixels():
    edges = [1.0, 2.0, 4.0, 8.0, 16.0]
    counts = [[0, 0, 50], [0, 2, 50], [1, 1, 1000], [3, 0, 1]]
    found = spreads({"edges_m": edges, "counts": {"s": counts}}, "s")
    assert [one.true_m for one in found] == pytest.approx([2**0.5, 8**0.5])  # one pixel is too few
    assert found[0].middle_m == pytest.approx(2.0)
    assert found[0].low_m == pytest.approx(2**0.2)
    assert found[0].high_m == pytest.approx(4 * 2**0.8)
    assert (found[1].low_m, found[1].middle_m) == pytest.approx((2 * 2**0.1, 2 * 2**0.5))
