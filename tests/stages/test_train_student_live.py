"""The stage `train_student_live`."""

import json
import re
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML

from dav2.models.checkpoints import load, save
from dav2.models.depth_anything import DepthAnything, ModelConfig
from stages import pseudo_label, train_student, train_student_live
from tests.fixtures.labelling import ARGUMENTS, Project
from tests.fixtures.training import PROJECT, RUNNING, SHORT, VALIDATION, QuietRun

MODEL, REPORTS = Path("models/student.safetensors"), Path("reports/student")


@pytest.fixture
def project(tmp_path, monkeypatch):
    @contextmanager
    def tracked(stage, params, *, inputs, outputs):
        yield QuietRun()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stages.tracking.tracked", tracked)
    num_threads = torch.get_num_threads()
    made = Project(tmp_path)
    made.add_photographs("wild", 8)
    made.write()
    write_teacher(0)
    shipped = YAML(typ="safe").load(PROJECT / "params.yaml")["train_student"]
    content = YAML(typ="safe").load(tmp_path / "params.yaml")
    running = RUNNING | {"shards_root": None}
    content["train_student"] = shipped | SHORT | {"validation": VALIDATION, "running": running}
    content["train_student"]["num_steps"] = 2
    content["train_student"]["running"] = running | {"num_workers": 2, "memory_limit_mb": 1}
    (tmp_path / "params.yaml").write_text(json.dumps(content))
    yield made
    torch.set_num_threads(num_threads)


def write_teacher(seed):
    """Random weights, with depths that differ enough to have an order."""
    torch.manual_seed(seed)
    model = DepthAnything(ModelConfig("vit64x4"))
    last = model.head.scratch.output_conv2[2]
    with torch.no_grad():
        last.weight.abs_().mul_(50)
    save(model, ARGUMENTS[1], {})


def live(encoder="vit64x4"):
    train_student_live.main(encoder, *ARGUMENTS[:2], MODEL, REPORTS)


def test_a_student_that_asks_the_teacher_becomes_that_of_the_shards(project):
    params = YAML(typ="safe").load(Path("params.yaml"))
    params["pseudo_label"]["batch_size"] = 1  # as a student asks: larger ones may round otherwise
    Path("params.yaml").write_text(json.dumps(params))
    live()
    asked, metadata = load(MODEL)
    assert not ARGUMENTS[2].exists()
    assert (metadata["role"], metadata["labels"]) == ("student", "pseudo")
    assert json.loads((REPORTS / "validation.json").read_bytes())["num_samples"] == 2

    pseudo_label.main(*ARGUMENTS)
    stored = Path("models/stored.safetensors")
    train_student.main("vit64x4", "pseudo", ARGUMENTS[2], stored, Path("reports/stored"))
    expected, other = load(stored)
    assert metadata["fingerprint"] != other["fingerprint"]
    weights = expected.state_dict()
    assert set(weights) == set(asked.state_dict())
    for name, tensor in asked.state_dict().items():
        assert torch.equal(tensor, weights[name]), name


def test_a_photograph_that_cannot_be_read_any_more_ends_the_training_in_one_line(project):
    for path in Path("wild").iterdir():
        path.write_bytes(b"another file")
    with pytest.raises((ValueError, OSError)) as error:
        live()
    assert re.search(r"\d{3}\.jpg", str(error.value))
    assert "\n" not in str(error.value)
    assert not MODEL.exists()
    for path in Path("wild").iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"\d{3}\.jpg"):
        live()


def test_another_teacher_or_resolution_is_another_training(project, monkeypatch):
    marks = []
    monkeypatch.setattr(
        train_student_live,
        "fit_student",
        lambda stage, params, encoder, labels, loaded, **_: marks.append(loaded[0][2]),
    )
    for _ in range(2):
        live()
    write_teacher(1)
    live()
    params = YAML(typ="safe").load(Path("params.yaml"))
    params["pseudo_label"]["short_side_px"] = 42
    Path("params.yaml").write_text(json.dumps(params))
    live()
    assert marks[0] == marks[1]
    assert len(set(marks)) == 3


def test_words_and_teachers_that_do_not_fit_are_refused_in_one_line(project):
    with pytest.raises(ValueError, match=r"train_student_live: expected an encoder of .* 'vitx'"):
        live("vitx")
    project.write_teacher(0, max_depth_m=20.0)
    with pytest.raises(ValueError, match="expected a teacher of relative depth, got"):
        live()
