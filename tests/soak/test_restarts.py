"""PostgreSQL, the object store or MLflow is restarted: nothing is lost, nothing there twice."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import psycopg
import pytest
from moto.core.base_backend import BackendDict
from moto.moto_server.werkzeug_app import create_backend_app

from flows import postgres
from flows.servers import SECRETS, open_servers
from stages.digests import dvc_digest
from stages.registry import CHALLENGER, LOCK_SUFFIX, aliases
from tests.fixtures.registry import MODEL, NAME, write_project
from tests.fixtures.s3_server import Gate, environment, s3_client, served

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
AWAY_S = 6.0
NUM_STEPS = 60
STAGE = f"""
import sys, time
from pathlib import Path
import numpy as np
from pydantic import BaseModel
from stages.tracking import tracked

class Settings(BaseModel):
    steps: int = {NUM_STEPS}

name, source, target = sys.argv[1:]
with tracked(name, Settings(), inputs={{"source": Path(source)}}, outputs=[Path(target)]) as run:
    for step in range({NUM_STEPS}):
        run.log_metrics({{"loss": 1.0 / (step + 1)}}, step=step)
        run._flush()  # as if fifteen seconds had passed
        if step % 10 == 0:
            run.log_picture(f"{{step}}.png", np.zeros((8, 9, 3), np.uint8))
        Path("steps", name).write_text(str(step))
        time.sleep(0.1)
    Path(target).write_text(Path(source).read_text() + name)
"""
PIPELINE = """
stages:
  train:
    cmd: python stage.py train source weights
    deps:
      - source
    outs:
      - weights
  evaluate:
    cmd: python stage.py evaluate weights metrics
    deps:
      - weights
    outs:
      - metrics
"""


class Team:
    """PostgreSQL, MLflow and an object store, each of which can be restarted."""

    def __init__(self, folder):
        self.stack = ExitStack()
        BackendDict.reset()
        self.gate = Gate(create_backend_app("s3"))
        self.port = self.stack.enter_context(served(self.gate))
        self.endpoint = f"http://127.0.0.1:{self.port}"
        s3_client(self.endpoint).create_bucket(Bucket="mlflow")
        os.environ |= environment(self.endpoint) | {"MLFLOW_S3_ENDPOINT_URL": self.endpoint}
        self.servers = open_servers(folder, "s3://mlflow/artifacts")
        for name in ("postgres", "mlflow"):
            self.servers.start(name)
        os.environ |= self.servers.environment()

    def stop(self, name):
        """Ends a server as a crash would."""
        if name == "store":
            self.stack.close()
        elif name == "mlflow":
            leader = self.servers._process("mlflow")
            for process in [leader, *leader.children(recursive=True)]:
                process.send_signal(signal.SIGKILL)
            psutil.wait_procs([leader])
        else:
            data = self.servers.folder / "postgres"
            postgres._control(data, "stop", "--wait", "--mode", "immediate")

    def start(self, name):
        """Starts it with what it held."""
        if name == "store":
            self.stack = ExitStack()
            self.stack.enter_context(served(self.gate, self.port))
        else:
            self.servers.start(name)

    def restart(self, name):
        self.stop(name)
        time.sleep(AWAY_S)
        self.start(name)


@pytest.fixture(scope="module")
def team():
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)  # PostgreSQL does not work for root
    with pytest.MonkeyPatch.context() as patch:
        for name in SECRETS:
            patch.setenv(name, "admin:a-secret-of-tests" if "AUTH" in name else "a-secret-of-tests")
        for name in (*environment(""), "MLFLOW_S3_ENDPOINT_URL", "MLFLOW_TRACKING_URI"):
            patch.setenv(name, "")  # so that they come back afterwards
        team = Team(folder)
        yield team
        for name in ("mlflow", "postgres"):
            team.servers.stop(name)
        team.stack.close()
    shutil.rmtree(folder)


@pytest.fixture
def client(team):
    from mlflow import MlflowClient

    uri = team.servers.address("mlflow")
    return MlflowClient(tracking_uri=uri, registry_uri=uri)  # whatever other tests have set


def runs(client):
    experiment = client.get_experiment_by_name("depth")
    return client.search_runs([experiment.experiment_id]) if experiment else []


def wait_for(path, text):
    deadline_s = time.monotonic() + 120
    while not path.exists() or path.read_text() != text:
        assert time.monotonic() < deadline_s, f"{path}: expected {text}"
        time.sleep(0.02)


@pytest.mark.parametrize("server", ["postgres", "store", "mlflow"])
def test_a_rebuild_goes_on_and_loses_no_number(team, client, server, tmp_path, initialised):
    project = tmp_path / "project"
    shutil.copytree(initialised, project)
    (project / "dvc.yaml").write_text(PIPELINE)
    (project / "stage.py").write_text(STAGE)
    (project / "source").write_text("photographs")
    (project / "steps").mkdir()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}
    before = {run.info.run_id for run in runs(client)}
    rebuild = subprocess.Popen(
        ["dvc", "repro"], cwd=project, env=variables,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    wait_for(project / "steps" / "train", "20")
    team.restart(server)
    said = rebuild.communicate(timeout=600)[0]
    assert rebuild.returncode == 0, said

    made = [run for run in runs(client) if run.info.run_id not in before]
    assert sorted(run.info.run_name for run in made) == ["evaluate", "train"]
    for run in made:
        assert run.info.status == "FINISHED"
        history = client.get_metric_history(run.info.run_id, "loss")
        assert sorted(metric.step for metric in history) == list(range(NUM_STEPS))
        assert [name for name in run.data.tags if name.startswith("dvc.out.")]
        kept = {file.path for file in client.list_artifacts(run.info.run_id)}
        lost = {f"{step}.png" for step in range(0, NUM_STEPS, 10)} - kept
        for name in lost:  # said, where MLflow gave up before the store was back
            assert f"MLflow could not keep the picture {name}" in said
        assert len(lost) <= (2 if server == "store" else 0)
    assert "Traceback" not in said
    done = subprocess.run(["dvc", "status", "--quiet"], cwd=project, env=variables)
    assert done.returncode == 0


def register(folder):
    command = [sys.executable, "-m", "stages.register", MODEL]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)


def has_card(client, md5):
    made = [run for run in runs(client) if run.info.run_name == "register"]
    made = [run for run in made if run.info.status == "RUNNING"]
    return made and any(file.path == "card" for file in client.list_artifacts(made[0].info.run_id))


def versions(client, md5):
    wanted = f"name = '{NAME}' and tags.`weights.md5` = '{md5}'"
    return client.search_model_versions(wanted)


@pytest.mark.parametrize("server", ["postgres", "store", "mlflow"])
@pytest.mark.parametrize("moment", [has_card, versions])
def test_a_registration_ends_well_or_says_why_and_makes_one_version(
    team, client, server, moment, tmp_path
):
    seed = ["postgres", "store", "mlflow"].index(server) + (3 if moment is versions else 0)
    write_project(tmp_path, seed=seed)
    md5 = dvc_digest(tmp_path / f"models/{MODEL}.safetensors")
    first = register(tmp_path)
    while not moment(client, md5):
        assert first.poll() is None, first.communicate()[1]
        time.sleep(0.05)
    team.restart(server)
    said = first.communicate(timeout=600)[1]
    logging.getLogger(__name__).info("%s: %d %s", server, first.returncode, said[-500:])
    if first.returncode:
        assert "Traceback" not in said
        assert "expected" in said.splitlines()[-1]
        unlock = [sys.executable, "-m", "stages.promote", NAME, "--unlock"]
        subprocess.run(unlock, cwd=tmp_path, check=True)
        again = register(tmp_path)
        assert again.communicate()[1].endswith(f"is {MODEL}\n")

    (version,) = versions(client, md5)
    assert aliases(client, NAME)[CHALLENGER] == str(version.version)
    tags = client.get_model_version(NAME, version.version).tags
    assert tags["evidence.md5"]
    kept = {file.path for file in client.list_artifacts(tags["evidence.run_id"])}
    assert {"evidence", "card"} & kept
    assert client.get_run(tags["evidence.run_id"]).info.status == "FINISHED"
    names = [model.name for model in client.search_registered_models()]
    assert NAME + LOCK_SUFFIX not in names
    fetch = [sys.executable, "-m", "stages.fetch_weights", f"{NAME}@{CHALLENGER}", "fetched"]
    subprocess.run(fetch, cwd=tmp_path, check=True)  # the store refuses all but the server
    assert dvc_digest(tmp_path / "fetched") == md5


TRACK = """
from pydantic import BaseModel
from stages.tracking import tracked
class P(BaseModel):
    a: int = 1
with tracked("x", P(), inputs={}) as run:
    run.log_metrics({"m": 1.0})
"""


def test_two_processes_at_once_make_one_database(team, tmp_path):
    port = team.servers.ports["postgres"]
    login = {"host": "127.0.0.1", "port": port, "user": postgres.USER}
    password = os.environ["POSTGRES_PASSWORD"]
    with psycopg.connect(**login, password=password, autocommit=True) as connection:
        connection.execute("CREATE DATABASE fresh")
    uri = f"postgresql+psycopg://{postgres.USER}@127.0.0.1:{port}/fresh"
    variables = os.environ | {
        "MLFLOW_TRACKING_URI": uri, "PGPASSWORD": password, "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    command = [sys.executable, "-c", TRACK]
    folders = [tmp_path / name for name in ("one", "one", "two", "two")]  # two projects
    for folder in folders:
        folder.mkdir(exist_ok=True)
    made = [
        subprocess.Popen(command, cwd=folder, env=variables, stderr=subprocess.PIPE, text=True)
        for folder in folders
    ]
    said = [process.communicate()[1] for process in made]
    assert [process.returncode for process in made] == [0] * 4, said
    code = (
        "from mlflow import MlflowClient; import sys; client = MlflowClient(sys.argv[1]);"
        "(one,) = [e for e in client.search_experiments() if e.name == 'depth'];"
        "runs = client.search_runs([one.experiment_id]);"
        "print(len(runs), {run.info.status for run in runs})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, uri], env=variables, capture_output=True, text=True
    )
    assert done.stdout == "4 {'FINISHED'}\n", done.stderr
