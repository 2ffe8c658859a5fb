"""The shipped parameters files: they fit, their models can be built, and their trainings start."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from dav2.models.depth_anything import DepthAnything, ModelConfig
from stages.experiment import resolve
from stages.params import PARAMS_FILE, read_document
from stages.sections import document_problems

FILES = [PARAMS_FILE, *sorted(Path("experiments").rglob("*.yaml"))]
SHIPPED = [
    (path, variant) for path in FILES for variant in read_document(path).get("variants", [None])
]
MILLIONS = {
    "vit64x4": (0.2, 1),
    "vit128x6": (1, 3),
    "vit192x8": (3, 8),
    "vits": (24, 25),  # 24.8, 97.5 and 335.3 as published, 1.3 billion announced
    "vitb": (97, 98),
    "vitl": (335, 336),
    "vitg": (1200, 1400),
}


@cache
def millions(encoder: str) -> float:
    """Parameters of a whole model, without memory for any."""
    with torch.device("meta"):
        model = DepthAnything(ModelConfig(encoder))
    return sum(weights.numel() for weights in model.parameters()) / 1e6


def named(value: Any) -> str:
    return value.as_posix() if isinstance(value, Path) else value or ""


@pytest.mark.parametrize(("path", "variant"), SHIPPED, ids=named)
def test_every_shipped_parameters_file_is_complete_and_valid(path: Path, variant: str | None):
    document = resolve(path, variant)
    assert document_problems(document, where=str(path)) == []
    matrix = document["matrix"]
    made = {"teacher"}
    for encoder in matrix["encoders"]:
        made |= {f"student-{encoder}-{labels}" for labels in matrix["labels"]}
        made |= {f"metric-{encoder}-{domain}" for domain in matrix["domains"]}
    assert set(matrix["models"]) <= made
    assert "pseudo" in matrix["labels"] or not matrix["domains"]


@pytest.mark.parametrize(("path", "variant"), SHIPPED, ids=named)
def test_the_models_of_every_shipped_file_can_be_built(path: Path, variant: str | None):
    document = resolve(path, variant)
    encoders = {*document["matrix"]["encoders"], document["train_teacher"]["encoder"]}
    for encoder in encoders:
        least, most = MILLIONS[encoder.removesuffix("_reg")]
        assert least < millions(encoder) < most
