import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from pydantic import BaseModel

from stages import tracking
from stages.digests import dvc_digest
from stages.tracking import recorded, tracked


class Inner(BaseModel):
    rate: float


class Settings(BaseModel):
    steps: int
    inner: Inner


SETTINGS = Settings(steps=3, inner=Inner(rate=0.5))


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "DVC_STAGE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "labelled.parquet").write_bytes(b"abc")
    return tmp_path


@pytest.fixture
def store(project, mlflow_store):
    """The project's store, made before."""
    return shutil.copyfile(mlflow_store, project / "mlflow.db")


def the_run(project):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    (run,) = client.search_runs([experiment.experiment_id])
    return client, run


def test_a_run_holds_parameters_metrics_inputs_and_files(project, monkeypatch):
    monkeypatch.setenv("DVC_STAGE", "train_student@vit-pseudo")
    inputs = {"labelled": Path("labelled.parquet")}
    with tracked("train_student", SETTINGS, inputs=inputs, outputs=[Path("out.json")]) as run:
        for step in range(3):
            run.log_metrics({"val/delta1": 0.5 + step / 10}, step=step)
        run.log_picture("validation.png", np.zeros((4, 5, 3), np.uint8))
        Path("out.json").write_text("{}")
    client, seen = the_run(project)
    assert seen.info.status == "FINISHED"
    assert seen.info.run_name == "train_student@vit-pseudo"
    assert seen.data.params == {"steps": "3", "inner.rate": "0.5"}
    history = client.get_metric_history(seen.info.run_id, "val/delta1")
    assert [(metric.step, metric.value) for metric in history] == [(0, 0.5), (1, 0.6), (2, 0.7)]
    (dataset,) = seen.inputs.dataset_inputs
    assert dataset.dataset.digest == dvc_digest(Path("labelled.parquet"))
    assert dataset.dataset.name == "labelled.parquet"
    assert seen.data.tags["dvc.out.out.json"] == dvc_digest(Path("out.json"))
    names = {file.path for file in client.list_artifacts(seen.info.run_id)}
    assert names == {"validation.png"}
    assert (project / "mlruns").is_dir()


@pytest.mark.usefixtures("store")
def test_a_block_that_raises_leaves_a_failed_run_and_a_line(project):
    def fail():
        with tracked("train_teacher", SETTINGS, inputs={}) as run:
            run.log_metrics({"loss": 1.0}, step=1)
            raise RuntimeError("no luck")

    with pytest.raises(RuntimeError, match="no luck"):
        fail()
    _, seen = the_run(project)
    assert seen.info.status == "FAILED"
    assert seen.data.metrics == {"loss": 1.0}
    (line,) = tracking.RUNS.read_text().splitlines()
    facts = json.loads(line)
    assert (facts["stage"], facts["status"]) == ("train_teacher", "FAILED")
    assert facts["run_id"] == seen.info.run_id
    assert facts["peak_rss_mb"] > 10


def test_a_missing_input_stops_before_a_run_exists(project):
    with (
        pytest.raises(FileNotFoundError, match="nothing there"),
        tracked("train_teacher", SETTINGS, inputs={"labelled": Path("absent")}),
    ):
        pass
    assert not (project / "mlflow.db").exists()


def test_other_ranks_record_nothing(project, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    with tracked("train_teacher", SETTINGS, inputs={}) as run:
        run.log_metrics({"loss": 1.0})
        run.log_picture("p.png", np.zeros((4, 5, 3), np.uint8))
    assert sorted(path.name for path in project.iterdir()) == ["labelled.parquet"]


def test_a_lost_store_costs_the_record_and_not_the_work(store, caplog):
    with tracked("train_teacher", SETTINGS, inputs={}) as run:
        database = sqlite3.connect(store)
        database.execute("DROP TABLE metrics")
        database.commit()
        run.log_metrics({"loss": 1.0})
        finished = True
    assert finished
    assert "MLflow could not record 1 numbers" in caplog.text


@pytest.mark.usefixtures("store")
def test_a_lost_artifact_store_costs_the_pictures_and_not_the_work(project, caplog):
    (project / "mlruns").write_text("a file where a folder should be")
    with tracked("train_teacher", SETTINGS, inputs={}) as run:
        run.log_picture("validation.png", np.zeros((4, 5, 3), np.uint8))
        finished = True
    assert finished
    assert "MLflow could not keep the picture validation.png" in caplog.text
    _, seen = the_run(project)
    assert seen.info.status == "FINISHED"


def test_a_server_that_does_not_answer_at_the_start_is_one_line(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with (
        pytest.raises(ConnectionError, match="expected a tracking store that answers") as caught,
        tracked("train_teacher", SETTINGS, inputs={}),
    ):
        pytest.fail("the block ran")
    assert "\n" not in str(caught.value)


class Away:
    """A client whose server is lost for some requests, each of which takes a minute."""

    def __init__(self, clock, num_lost):
        self.clock, self.num_lost, self.kept, self.num_asked = clock, num_lost, [], 0

    def log_batch(self, run_id, metrics):
        self.num_asked += 1
        if self.num_asked <= self.num_lost:
            self.clock[0] += 60.0
            raise MlflowException("no answer\nand a trace")
        self.kept += [metric.step for metric in metrics]

    def set_tag(self, run_id, name, value):
        self.kept.append(name)

    def set_terminated(self, run_id, status):
        self.kept.append(status)


@pytest.mark.parametrize("num_lost", [1, 2])
def test_a_server_that_is_away_costs_a_tenth_of_the_time_and_no_number(monkeypatch, num_lost):
    clock = [0.0]
    monkeypatch.setattr(tracking.time, "monotonic", lambda: clock[0])
    client = Away(clock, num_lost)
    run = tracking.Run(client, "id")
    for step in range(70):
        clock[0] += 16.0
        run.log_metrics({"loss": 1.0}, step=step)
        if step == 36:
            assert client.num_asked == 1  # for ten minutes after the one that it cost
    run.finish("FINISHED", {Path("out.json"): "0" * 32})
    assert client.kept == [*range(70), "dvc.out.out.json", "FINISHED"]


def test_numbers_of_a_server_that_stays_away_are_an_error_in_one_line(monkeypatch, caplog):
    clock = [0.0]
    monkeypatch.setattr(tracking.time, "monotonic", lambda: clock[0])
    client = Away(clock, num_lost=99)
    run = tracking.Run(client, "id")
    run.log_metrics({"loss": 1.0})
    run.finish("FINISHED", {Path("out.json"): "0" * 32})
    assert caplog.messages == [
        "MLflow could not record 1 numbers: no answer",
        "MLflow could not record the hash of out.json: it did not answer before",
        "MLflow could not close the run: it did not answer before",
    ]
    assert client.num_asked == 1


@pytest.mark.usefixtures("store")
def test_a_run_whose_creation_was_asked_for_twice_is_there_once(project, monkeypatch):
    from mlflow import MlflowClient

    create = MlflowClient.create_run

    def create_twice(*arguments, **options):
        create(*arguments, **options)
        return create(*arguments, **options)

    monkeypatch.setattr(MlflowClient, "create_run", create_twice)
    with tracked("train_teacher", SETTINGS, inputs={}) as run:
        pass
    _, seen = the_run(project)
    assert seen.info.run_id == run.run_id
    assert seen.data.params["steps"] == "3"


@pytest.mark.usefixtures("store")
def test_an_experiment_that_another_machine_created_meanwhile_is_used(project, monkeypatch):
    from mlflow import MlflowClient

    create = MlflowClient.create_experiment

    def create_second(client, name, **options):
        create(client, name, **options)
        return create(client, name, **options)

    monkeypatch.setattr(MlflowClient, "create_experiment", create_second)
    with tracked("train_teacher", SETTINGS, inputs={}):
        pass
    assert the_run(project)[1].info.status == "FINISHED"


def test_a_database_that_does_not_answer_at_the_start_is_one_line(project, monkeypatch):
    monkeypatch.setattr("mlflow.store.db.utils.MAX_RETRY_COUNT", 1)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql+psycopg://me:hidden@127.0.0.1:9/mlflow")
    with (
        pytest.raises(ConnectionError, match=r"tracking store that answers.*refused") as caught,
        tracked("train_teacher", SETTINGS, inputs={}),
    ):
        pytest.fail("the block ran")
    assert "\n" not in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("torn", ['{"stage": "ing', '{"stage": "ing\n', "\0\0\0\n", "[1]\n"])
def test_a_torn_line_of_facts_is_left_out_with_a_warning(project, caplog, torn):
    with recorded("ingest"):
        pass
    with tracking.RUNS.open("a") as stream:
        stream.write(torn)
    with recorded("render"):
        pass
    text = tracking.FACTS.read_text()
    entries = json.loads(text.removeprefix("window.runFacts = ").removesuffix(";\n"))
    assert [entry["stage"] for entry in entries] == ["ingest", "render"]
    assert "runs.jsonl: expected JSON, got 1 torn lines" in caplog.text
    assert json.loads(tracking.RUNS.read_text().splitlines()[-1])["stage"] == "render"


def test_facts_that_cannot_be_written_do_not_hide_the_stages_own_error(project, caplog):
    (project / ".work").write_text("a file where a folder should be")
    with pytest.raises(RuntimeError, match="no luck"), recorded("ingest"):
        raise RuntimeError("no luck")
    assert "runs.jsonl: expected to record a line about the stage, got" in caplog.text


def test_facts_keep_the_last_run_of_each_stage(project, monkeypatch):
    for address in ("ingest@a", "ingest@b", "ingest@a"):
        monkeypatch.setenv("DVC_STAGE", address)
        with recorded("ingest") as facts:
            facts["images"] = 7
    assert len(tracking.RUNS.read_text().splitlines()) == 3
    text = tracking.FACTS.read_text()
    assert text.startswith("window.runFacts = ")
    entries = json.loads(text.removeprefix("window.runFacts = ").removesuffix(";\n"))
    assert [entry["stage"] for entry in entries] == ["ingest@a", "ingest@b"]
    assert entries[0]["images"] == 7


def test_a_stage_called_inside_another_keeps_its_own_name(project, monkeypatch):
    monkeypatch.setenv("DVC_STAGE", "evaluate@teacher")
    with recorded("ingest"):
        pass
    assert json.loads(tracking.RUNS.read_text())["stage"] == "ingest"


def test_a_temporary_experiment_writes_to_the_projects_store(project, monkeypatch):
    copy = project / ".dvc" / "tmp" / "exps" / "x"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    assert tracking.tracking_uri() == f"sqlite:///{project / 'mlflow.db'}"


def test_a_stated_store_is_used(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://tracking.example")
    assert tracking.tracking_uri() == "https://tracking.example"


@pytest.mark.slow
def test_processes_that_start_together_all_get_a_run(project):
    code = (
        "from pydantic import BaseModel\n"
        "from stages.tracking import tracked\n"
        "class P(BaseModel):\n    a: int = 1\n"
        "with tracked('x', P(), inputs={}) as run:\n    run.log_metrics({'m': 1.0})\n"
    )
    root = Path(tracking.__file__).parents[1]
    processes = [
        subprocess.Popen([sys.executable, "-c", code], cwd=project, env={"PYTHONPATH": str(root)})
        for _ in range(3)
    ]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert len(tracking.RUNS.read_text().splitlines()) == 3
