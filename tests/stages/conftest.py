"""What takes seconds to make, once for all tests of stages: MLflow's tables, a finished project."""

import shutil
from pathlib import Path

import pytest

from stages.registry import connect
from tests.fixtures.report_project import write_project


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory) -> bytes:
    """The bytes of an `mlflow.db` without runs, experiments and models."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        connect()
    return (folder / "mlflow.db").read_bytes()


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory) -> Path:
    """A project in which every stage before the report has run; to read only."""
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_project()
    return root


@pytest.fixture
def report_project(finished_project, tmp_path, monkeypatch) -> Path:
    """A copy of it, to spoil."""
    shutil.copytree(finished_project, tmp_path / "p")
    monkeypatch.chdir(tmp_path / "p")
    return tmp_path / "p"
