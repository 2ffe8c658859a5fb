from pathlib import Path

import pytest

from flows.graph import Stage, mermaid, read_graph


@pytest.mark.usefixtures("project")
def test_lists_every_stage_after_all_it_waits_for():
    stages = read_graph()
    assert set(stages) == {"left", "right", "gate_join", "report"}
    assert list(stages)[2:] == ["gate_join", "report"]
    assert stages["gate_join"].upstream == ("left", "right")
    assert set(stages["report"].outputs) == {"report.txt", "numbers/metrics.json"}
    assert stages["left"].command == "python step.py left"


@pytest.mark.usefixtures("project")
def test_a_target_brings_what_it_needs_and_nothing_else():
    assert list(read_graph(["left"])) == ["left"]
    assert set(read_graph(["gate_join"])) == {"left", "right", "gate_join"}


def test_the_name_of_a_group_takes_all_its_stages(project: Path):
    (project / "dvc.yaml").write_text(
        "stages:\n  make:\n    foreach: [a, b]\n    do:\n      cmd: touch ${item}\n"
    )
    assert set(read_graph(["make"])) == {"make@a", "make@b"}
    assert set(read_graph(["make@b"])) == {"make@b"}


@pytest.mark.usefixtures("project")
def test_an_unknown_target_is_refused():
    with pytest.raises(ValueError, match="expected a stage named 'teacher', got "):
        read_graph(["teacher"])


def test_the_drawing_has_an_arrow_per_dependency_and_a_colour_per_state():
    stages = {
        "a@x": Stage("a@x", "", (), ()),
        "b": Stage("b", "", ("a@x",), ()),
    }
    drawing = mermaid(stages, {"a@x": "Restored", "b": "Failed"})
    assert 's0["a@x"]' in drawing
    assert drawing.count("-->") == 1
    assert "s0 --> s1" in drawing
    assert "class s0 Restored" in drawing
    assert "class s1 Failed" in drawing
