"""An old and a foreign model are evaluated by a worker of a real Prefect server."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from dav2.data.manifest import write_manifest
from dav2.models.checkpoints import load
from dav2.models.interchange import write_transformers
from flows.evaluate import MANIFEST, OURS, RESULTS
from stages.register import main as register
from tests.fixtures.evaluating import EVALUATE, write_diode, write_points
from tests.fixtures.prefect_team import Team, started_team
from tests.fixtures.registry import MODEL, NAME, write_project
from tests.stages.test_evaluate import SOURCES, manifest_of

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a registry of one version."""
    folder = tmp_path_factory.mktemp("registered")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        write_project(folder)
        register(MODEL)
    return folder


@pytest.fixture(scope="module")
def team(registered: Path) -> Iterator[Team]:
    with started_team() as made:
        done = made.python("flows.deploy")
        assert done.returncode == 0, done.stderr
        made.environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{registered / 'mlflow.db'}"
        write_diode(made.project / "rooms", "indoors", far_m=8.0, count=3)
        write_points(made.project / "points")
        (made.project / MANIFEST).parent.mkdir(parents=True)
        write_manifest(manifest_of(made.project, ["rooms", "points"]), made.project / MANIFEST)
        params = YAML(typ="safe").load(SOURCES) | YAML(typ="safe").load(EVALUATE)
        params["evaluate"] |= {"saved_predictions": 2, "consistency_samples": 1}
        YAML(typ="safe").dump(params, made.project / "params.yaml")
        network, _ = load(registered / f"models/{MODEL}.safetensors")
        write_transformers(network, made.project / "foreign")
        with made.worker():
            yield made


def evaluated(team: Team, name: str, checkpoint: str) -> list[dict]:
    """Returns the table that a run leaves."""
    run = team.start_run("evaluate/evaluate", name=name, checkpoint=checkpoint, gpu="0")
    team.wait(lambda: team.client.read_flow_run(run).state.is_final(), "its end", 240)
    assert team.states(run)[-1] == "Completed", "\n".join(team.lines(run))
    (table,) = [
        json.loads(artifact.data)
        for artifact in team.client.read_artifacts()
        if artifact.key == "evaluation" and artifact.flow_run_id == run
    ]
    return table


def test_a_registered_version_and_a_folder_of_transformers_stand_beside_ours(team: Team):
    table = evaluated(team, "old", f"{NAME}@challenger")
    assert {"rooms.delta1", "da2k.all"} <= {row["measure"] for row in table}
    assert all(isinstance(row["old"], float | int) for row in table)
    again = evaluated(team, "old", f"{NAME}@challenger")  # replaces what it wrote
    assert again == table

    (team.project / OURS).mkdir(parents=True)
    shutil.copytree(team.project / RESULTS / "old", team.project / OURS / "ours")
    beside = evaluated(team, "foreign", "foreign")
    assert {row["measure"]: row["ours"] for row in beside if row["ours"] != ""} == {
        row["measure"]: row["old"] for row in table
    }
    assert [row for row in beside if row["foreign"] != row["ours"]]  # other pixels for the model


def test_what_nobody_registered_fails_in_one_line(team: Team):
    run = team.start_run("evaluate/evaluate", name="none", checkpoint="nothing@champion")
    team.wait(lambda: team.client.read_flow_run(run).state.is_final(), "its end", 120)
    assert team.states(run)[-1] == "Failed"
    message = team.client.read_flow_run(run).state.message
    assert "nothing@champion" in message, message
    assert "\n" not in message
