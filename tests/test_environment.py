"""The locked packages work together."""

import importlib
import re
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.version import Version

LOCK = Path("requirements.lock").read_text()


@pytest.mark.parametrize(
    "name",
    ["torch", "torchvision", "timm", "lightning", "mlflow", "mlflow.pytorch", "s3fs", "boto3"],
)
def test_imports_beside_the_others(name: str):
    module = importlib.import_module(name)
    assert "site-packages" in str(module.__file__)


def test_torchvision_is_of_the_same_build_as_torch():
    import torch
    from torchvision.ops import nms

    kept = nms(torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1]]), torch.tensor([0.9, 0.8]), 0.5)
    assert kept.tolist() == [0]


def test_no_folder_of_ours_hides_a_package():
    assert not Path("mlflow/__init__.py").exists()
    assert not Path("mlflow.py").exists()
    assert not list(Path("mlflow").rglob("*.py"))


def test_the_lock_pins_every_package_exactly_with_hashes():
    names = re.findall(r"^([a-z0-9][a-z0-9._-]*)(\S*)", LOCK, flags=re.MULTILINE)
    assert len(names) > 200
    assert all(rest.startswith("==") for _, rest in names)
    assert LOCK.count("--hash=sha256:") > len(names)


def test_the_lock_names_no_index():
    assert not re.search(r"https?://|--index|--find-links|file:", LOCK)


LINUX = {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}
MACOS = {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"}


def locked_for(platform: dict[str, str]) -> set[str]:
    environment = {**default_environment(), "python_full_version": "3.11.9", **platform}
    lines = re.findall(r"^([a-z0-9][^\\\n]*)", LOCK, flags=re.MULTILINE)
    requirements = [Requirement(line.strip()) for line in lines]
    return {r.name for r in requirements if r.marker is None or r.marker.evaluate(environment)}


def test_the_lock_serves_linux_and_macos():
    both = {"torch", "torchvision", "mitsuba", "mlflow", "prefect", "dvc"}
    assert both <= locked_for(LINUX)
    assert both <= locked_for(MACOS)
    assert "nvidia-cudnn-cu13" in locked_for(LINUX) - locked_for(MACOS)


@pytest.mark.parametrize(
    ("name", "floor"), [("mlflow", "3.16"), ("prefect", "3.6.28"), ("torch", "2.10")]
)
def test_is_no_older_than_the_last_known_hole(name: str, floor: str):
    assert Version(version(name)) >= Version(floor)


@pytest.mark.parametrize(("name", "ceiling"), [("fastapi", "0.151"), ("sqlalchemy", "2.1")])
def test_is_older_than_what_breaks_prefect(name: str, ceiling: str):
    assert Version(version(name)) < Version(ceiling)
