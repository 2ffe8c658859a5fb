"""The shipped parameters files: they fit, their models can be built, and their trainings start."""

import json
from collections.abc import Callable
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from dav2.models.checkpoints import save
from dav2.models.depth_anything import DepthAnything, ModelConfig
from stages import finetune_metric, train_student, train_teacher, warm_encoder
from stages.experiment import resolve
from stages.params import PARAMS_FILE, read_document
from stages.sections import document_problems
from tests.fixtures.training import QuietRun, TrainingProject

FILES = [PARAMS_FILE, *sorted(Path("experiments").rglob("*.yaml"))]
SHIPPED = [
    (path, variant) for path in FILES for variant in read_document(path).get("variants", [None])
]
START, MODEL, REPORTS = Path("start.safetensors"), Path("models/made.safetensors"), Path("reports")
MILLIONS = {
    "vit64x4": (0.2, 1),
    "vit128x6": (1, 3),
    "vit192x8": (3, 8),
    "vits": (24, 25),  # 24.8, 97.5 and 335.3 as published, 1.3 billion announced
    "vitb": (97, 98),
    "vitl": (335, 336),
    "vitg": (1200, 1400),
    "beitl": (334, 336),
    "saml": (337, 339),
}


@cache
def millions(encoder: str) -> float:
    """Parameters of a whole model, without memory for any."""
    with torch.device("meta"):
        model = DepthAnything(ModelConfig(encoder))
    return sum(weights.numel() for weights in model.parameters()) / 1e6


resolved = cache(resolve)  # no test changes what it returns


def named(value: Any) -> str:
    return value.as_posix() if isinstance(value, Path) else value or ""


@pytest.mark.parametrize(("path", "variant"), SHIPPED, ids=named)
def test_every_shipped_parameters_file_is_complete_and_valid(path: Path, variant: str | None):
    document = resolved(path, variant)
    assert document_problems(document, where=str(path)) == []
    for stage in ("train_teacher", "train_student", "finetune_metric"):
        parallel = document[stage]["parallel"]
        num_ranks = parallel["num_machines"] * parallel["num_devices"]
        assert document[stage]["batch_size"] % num_ranks == 0


@pytest.mark.parametrize(("path", "variant"), SHIPPED, ids=named)
def test_the_models_of_every_shipped_file_can_be_built(path: Path, variant: str | None):
    document = resolved(path, variant)
    encoders = {*document["matrix"]["encoders"], document["train_teacher"]["encoder"]}
    for encoder in encoders:
        least, most = MILLIONS[encoder.removesuffix("_reg")]
        assert least < millions(encoder) < most


@pytest.fixture
def project(tmp_path, monkeypatch):
    @contextmanager
    def tracked(stage, params, *, inputs, outputs):
        yield QuietRun()

    documents = [(path, variant, resolved(path, variant)) for path, variant in SHIPPED]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stages.tracking.tracked", tracked)
    for stage in ("training", "warm_encoder"):
        monkeypatch.setattr(f"stages.{stage}.code_fingerprint", lambda modules: "code")
    num_threads = torch.get_num_threads()
    torch.manual_seed(3)
    save(DepthAnything(ModelConfig("vit64x4")), START, {})
    yield TrainingProject(tmp_path), documents
    torch.set_num_threads(num_threads)


def smallest(section: dict[str, Any]) -> dict[str, Any]:
    """The section with encoder, views and batches so small that two steps take no time."""
    small = section | {
        "num_steps": 2,
        "batch_size": 2,
        "accumulate": min(2, section["accumulate"]),
        "short_side_px": 28,
        "crops_px": [[28, 28]],
        "device": "cpu",
        "num_threads": 1,
        "log_every_steps": 1,
        "compile": False,
        "parallel": {"launcher": "local", "num_machines": 1, "num_devices": 1, "strategy": "ddp"},
        "running": section["running"]
        | {"num_workers": 0, "memory_limit_mb": 100, "checkpoint_every_steps": 9},
        "optimiser": section["optimiser"]
        | {"warmup_steps": min(1, section["optimiser"]["warmup_steps"])},
    }
    if "validation" in section:
        rare = {"every_steps": 2, "num_samples": 2, "min_pair_accuracy": 0.0}
        small["validation"] = section["validation"] | rare
    else:
        small["num_held_out"] = 2
    if "encoder" in section:
        small |= {"encoder": "vit64x4", "weights": None}
    if "encoder_weights" in section and section["encoder_weights"] is not None:
        given = section["encoder_weights"]
        small["encoder_weights"] = (
            {"vit64x4": str(START)} if isinstance(given, dict) else str(START)
        )
    if "label_noise" in section:
        strengths = section["label_noise"].values()
        small["label_noise"] = {"rooms": max(strengths)} if strengths else {}
    if section.get("num_pseudo_labels") is not None:
        small["num_pseudo_labels"] = 2
    return small


def started(made: TrainingProject, stage: str, section: dict[str, Any], run: Callable[[], None]):
    """Runs a stage with such a section, and returns the names of its losses."""
    made.params[stage] = section
    made.write_params()
    run()
    curves = pd.read_csv(REPORTS / "curves.csv")
    assert list(curves["step"]) == [1, 2]
    assert np.isfinite(curves.to_numpy()).all()
    return set(curves.columns)


def distinct(documents, stage: str, choices: Callable[[dict[str, Any]], list[str]]):
    """Every section of a stage in the shipped files, made small, once, and its choices."""
    found = {}
    for path, variant, document in documents:
        section = smallest(document[stage])
        for choice in choices(document["matrix"]):
            key = json.dumps([choice, section], sort_keys=True)
            found.setdefault(key, (f"{path} {variant}", choice, section))
    assert len(found) >= 2
    return found.values()


def labels_of(matrix: dict[str, Any]) -> list[str]:
    return [*matrix["labels"], *(kind for kind in ("both", "warm") if matrix[kind])]


def test_every_shipped_warm_up_starts(project):
    made, documents = project
    encoder = Path("models/encoder.safetensors")
    for where, _, section in distinct(documents, "warm_encoder", lambda matrix: [""]):
        manifest = Path("manifest.parquet")
        losses = started(
            made,
            "warm_encoder",
            section,
            partial(warm_encoder.main, "vit64x4", manifest, encoder, REPORTS),
        )
        assert "loss" in losses, where


def test_every_shipped_teacher_starts(project):
    made, documents = project
    for where, _, section in distinct(documents, "train_teacher", lambda matrix: [""]):
        losses = started(
            made,
            "train_teacher",
            section,
            partial(train_teacher.main, Path("manifest.parquet"), MODEL, REPORTS),
        )
        assert ("gradient" in losses) == (section["losses"]["gradient_weight"] > 0), where


def test_every_shipped_student_starts(project):
    made, documents = project
    folders = {"pseudo": Path("pseudo"), "synthetic": Path("synthetic"), "both": Path()}
    folders["warm"] = folders["pseudo"]
    folders["synthetic"].mkdir()
    Path("manifest.parquet").rename("synthetic/manifest.parquet")
    for where, labels, section in distinct(documents, "train_student", labels_of):
        kind, warmed = ("pseudo", START) if labels == "warm" else (labels, None)
        losses = started(
            made,
            "train_student",
            section,
            partial(train_student.main, "vit64x4", kind, folders[labels], MODEL, REPORTS, warmed),
        )
        terms = section["losses"]
        assert ("gradient" in losses) == (terms["gradient_weight"] > 0), where
        given = warmed is not None or section["encoder_weights"] is not None
        aligned = given and terms["feature_weight"] > 0
        assert ("features" in losses) == aligned, where


def test_every_shipped_metric_training_starts(project):
    made, documents = project
    for where, domain, section in distinct(documents, "finetune_metric", lambda it: it["domains"]):
        manifest = Path("manifest.parquet")
        losses = started(
            made,
            "finetune_metric",
            section,
            partial(finetune_metric.main, "vit64x4", domain, manifest, START, MODEL, REPORTS),
        )
        assert "silog" in losses, where
