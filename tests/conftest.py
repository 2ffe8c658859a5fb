"""What tests of several folders share."""

import contextlib
import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def initialised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `git init` and `dvc init` leave it. To copy: it takes more than a second."""
    from dvc.repo import Repo

    folder = tmp_path_factory.mktemp("initialised")
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    Repo.init(str(folder)).close()
    return folder


@pytest.fixture(scope="session")
def mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store, to copy to `mlflow.db`: MLflow's migrations take more than a second."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with contextlib.chdir(path.parent):  # where MLflow makes a folder for artifacts
        MlflowClient(f"sqlite:///{path}").search_experiments()
    return path
