import re
from xml.etree import ElementTree

import pytest

from stages.params import read_document
from stages.report_charts import Dot, Line, bar_chart, dot_chart, graph_chart, line_chart
from stages.report_graph import read_graph

PIPELINE = """
stages:
  ingest:
    foreach: ${sources}
    do:
      desc: List the samples
      cmd: x
      deps: ["${item.watch}"]
      outs: ["data/ingest/${key}"]
  gate_data:
    cmd: x
    deps: [data/ingest]
    outs: [data/training/synthetic, data/gated/unlabelled.parquet]
  train:
    matrix: {encoder: [a, b], labels: [pseudo, synthetic]}
    cmd: x
    deps: ["data/training/${item.labels}"]
    outs: ["models/${item.encoder}-${item.labels}.st"]
  train_more:
    matrix: {encoder: "${matrix.none}", labels: [pseudo]}
    cmd: x
    deps: ["data/training/${item.labels}"]
    outs: ["models/${item.encoder}-more.st"]
  evaluate:
    foreach: [a-pseudo, b-pseudo]
    do:
      cmd: x
      deps: ["models/${item}.st", data/training/synthetic]
      outs: [{"reports/${item}": {cache: false}}]
      metrics: ["reports/${item}/metrics.json"]
"""


@pytest.fixture
def graph(tmp_path):
    path = tmp_path / "dvc.yaml"
    path.write_text(PIPELINE)
    return read_graph({"sources": {"a": {}}, "matrix": {"none": []}}, path)


def test_edges_follow_patterns_and_leave_out_what_follows_from_others(graph):
    assert graph.edges == [("ingest", "gate_data"), ("gate_data", "train"), ("train", "evaluate")]


def test_a_gate_stands_below_what_it_judges(graph):
    places = {node.name: (node.column, node.row) for node in graph.nodes}
    assert places == {"ingest": (0, 0), "gate_data": (0, 1), "train": (1, 0), "evaluate": (2, 0)}


def test_a_stage_repeated_over_nothing_is_not_drawn(graph):
    assert "train_more" not in {node.name for node in graph.nodes}


def test_repeated_stages_say_what_over(graph):
    assert [node.note for node in graph.nodes] == [
        "each source",
        "",
        "encoder by labels",
        "2 sets",
    ]
    assert graph.nodes[0].says == "List the samples"


def test_the_pipeline_of_the_project_has_no_stage_without_a_place():
    graph = read_graph(read_document())
    needed = {end for _, end in graph.edges}
    assert {node.name for node in graph.nodes} - needed == {"render"}
    assert len({(node.column, node.row) for node in graph.nodes}) == len(graph.nodes)


def test_a_missing_pipeline_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a pipeline"):
        read_graph({}, tmp_path / "dvc.yaml")


def test_charts_are_xml_with_a_name(graph):
    for svg in (
        graph_chart("Stages", graph, states={"gate_data": "fail"}),
        line_chart("Loss <of> a", [Line("loss", "teacher", [(0, 1.0), (10, 0.25)])]),
        dot_chart("Pairs", [Dot("a & b", "pseudo", 0.5, (0.4, 0.6))], percent=True),
    ):
        root = ElementTree.fromstring(svg)
        assert root.get("aria-label")
    assert 'class="stage fail"' in graph_chart("Stages", graph, states={"gate_data": "fail"})


def test_a_higher_value_stands_higher_and_farther_right():
    svg = line_chart("Loss", [Line("loss", "teacher", [(0, 1.0), (10, 0.25)])])
    points = re.search(r'points="([^"]+)"', svg)[1]
    (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in points.split())
    assert x1 < x2
    assert y1 < y2  # SVG counts downwards
    dots = [Dot("a", "pseudo", 0.2, None), Dot("b", "trivial", 0.7, None)]
    places = re.findall(r'cx="([\d.]+)"', dot_chart("Pairs", dots, percent=True))
    assert float(places[0]) < float(places[1])


def test_nothing_to_draw_gives_nothing():
    assert line_chart("Loss", [Line("loss", "teacher", [])]) == ""
    assert dot_chart("Pairs", [], percent=True) == ""


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, 1e-9, 12345.0])
def test_a_single_value_is_drawn_inside_the_chart(value):
    svg = line_chart("Loss", [Line("loss", "teacher", [(5, value)])])
    x, y = map(float, re.search(r'points="([\d.]+),([\d.]+)"', svg).groups())
    assert 0 <= x <= 420
    assert 0 <= y <= 210


def test_bars_are_as_tall_as_their_counts_and_the_ends_are_named():
    chart = ElementTree.fromstring(bar_chart("x", [2, 0, 4], [0.5, 1, 1.5, 2], unit="m"))

    bars = [node for node in chart.iter() if node.tag.endswith("rect")]
    texts = [node.text for node in chart.iter() if node.tag.endswith("text")]
    tall = [float(bar.get("height")) for bar in bars]
    assert tall[1] == pytest.approx(2 * tall[0])
    assert texts == ["up to 4", "0.5 m", "2 m"]
    assert bar_chart("x", [0, 0], [0, 1, 2], unit="").count("<rect") == 0
