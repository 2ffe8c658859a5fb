"""The stage `finetune_metric`."""

import json
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import torch

from dav2.models.checkpoints import load, save
from dav2.models.depth_anything import DepthAnything, ModelConfig
from stages import finetune_metric
from stages.params import load as load_params
from stages.training import initial_model
from tests.fixtures.training import QuietRun, TrainingProject

STUDENT = Path("student.safetensors")
MODEL, REPORTS = Path("models/metric.safetensors"), Path("reports/metric")


@pytest.fixture
def project(tmp_path, monkeypatch):
    @contextmanager
    def tracked(stage, params, *, inputs, outputs):
        assert (stage, set(inputs)) == ("finetune_metric", {"metric", "student"})
        yield QuietRun()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stages.tracking.tracked", tracked)
    monkeypatch.setattr("stages.training.code_fingerprint", lambda modules: "code")
    num_threads = torch.get_num_threads()
    torch.manual_seed(3)
    save(DepthAnything(ModelConfig("vit64x4")), STUDENT, {})
    yield TrainingProject(tmp_path)
    torch.set_num_threads(num_threads)


def main(domain="indoor", encoder="vit64x4"):
    finetune_metric.main(encoder, domain, Path("manifest.parquet"), STUDENT, MODEL, REPORTS)


@pytest.mark.parametrize(("domain", "max_depth_m"), [("indoor", 20.0), ("outdoor", 80.0)])
def test_leaves_a_model_in_metres_of_its_domain(project, domain, max_depth_m):
    main(domain)
    model, metadata = load(MODEL)
    assert model.config == ModelConfig("vit64x4", max_depth_m)
    assert (metadata["role"], metadata["domain"]) == ("metric", domain)
    assert "silog" in pd.read_csv(REPORTS / "curves.csv").columns
    final = json.loads((REPORTS / "validation.json").read_text())["final"]
    assert final["abs_rel"] > 0


def test_starts_from_the_students_encoder_and_a_new_head(project):
    student, _ = load(STUDENT)
    fresh, _ = initial_model("vit64x4", 0, None, max_depth_m=20.0)
    for with_head in (False, True):
        model, _ = initial_model("vit64x4", 0, STUDENT, max_depth_m=20.0, with_head=with_head)
        for name, tensor in model.state_dict().items():
            source = student if with_head or name.startswith("encoder.") else fresh
            assert torch.equal(tensor, source.state_dict()[name]), name


def test_keeping_the_best_keeps_the_smallest_error(project):
    section = project.params["finetune_metric"]
    section["validation"] = {**section["validation"], "keep_best": True, "every_steps": 1}
    project.write_params()
    main()
    found = json.loads((REPORTS / "validation.json").read_text())
    assert len(found["history"]) == 6
    assert found["final"]["abs_rel"] == min(entry["abs_rel"] for entry in found["history"])


def test_a_student_of_another_encoder_is_refused(project):
    with pytest.raises(ValueError, match=r"student\.safetensors: expected the .* weights"):
        main(encoder="vit128x6")


def test_other_scales_are_refused_because_metres_would_be_wrong(project):
    section = project.params["finetune_metric"]
    section["augment"] = {**section["augment"], "max_scale": 1.5}
    project.write_params()
    with pytest.raises(ValueError, match=r"finetune_metric\.augment\.max_scale: .*got 1\.5"):
        load_params("finetune_metric", finetune_metric.FinetuneMetricParams)
