"""A database with MLflow's tables, which take seconds to make, once for all tests of stages."""

import pytest

from stages.registry import connect


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory) -> bytes:
    """The bytes of an `mlflow.db` without runs, experiments and models."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        connect()
    return (folder / "mlflow.db").read_bytes()
