import json
import shutil
from pathlib import Path

import pytest

from stages.fetch_champions import main


@pytest.mark.slow
def test_writes_what_each_champion_measured_and_no_other_version(
    tmp_path: Path, monkeypatch, mlflow_store: Path
):
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(mlflow_store, tmp_path / "mlflow.db")
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(store, registry_uri=store)  # whatever other tests have set
    for family in ("depth-relative-vits", "depth-relative-vitb"):
        client.create_registered_model(family)
    for delta1 in (0.25, 0.5):
        tags = {
            "model": "student",
            "metrics.wild": json.dumps({"delta1": delta1}),
            "metrics.metric/studio": json.dumps({"abs_rel": 0.125}),
        }
        client.create_model_version("depth-relative-vits", "s3://bucket/model", tags=tags)
    client.set_registered_model_alias("depth-relative-vits", "champion", "1")
    client.set_registered_model_alias("depth-relative-vits", "challenger", "2")
    main(tmp_path / "champions.json")
    assert json.loads((tmp_path / "champions.json").read_text()) == {
        "student": {
            "version": "depth-relative-vits/1",
            "metrics": {"metric.studio.abs_rel": 0.125, "wild.delta1": 0.25},
        }
    }
