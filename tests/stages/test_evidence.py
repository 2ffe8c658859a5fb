"""What a version is registered with agrees with dvc.lock and with the files."""

import json
from pathlib import Path

import pytest

from stages.evidence import check_evaluation, gather
from tests.fixtures.registry import MODEL, TRAINING, write_lock, write_project

WEIGHTS = f"models/{MODEL}.safetensors"


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path)
    return tmp_path


def test_names_data_gates_parameters_and_sources_of_a_model(project):
    found = gather(MODEL)
    assert found.weights == Path(WEIGHTS)
    assert set(found.inputs) == {
        WEIGHTS, "data/gated/unlabelled.parquet", "data/gated/evaluation.parquet",
        "reports/gates/pseudo.json",
    }  # fmt: skip
    assert found.gates == {"pseudo": True, "release": True}
    assert found.params == {"train_student": TRAINING, "evaluate": {"num_pairs": 20}}
    assert found.sources == ("photos",)


def test_evaluations_that_differ_in_protocol_have_another_hash_and_in_weights_the_same(project):
    before = gather(MODEL).evaluation
    Path(WEIGHTS).write_bytes(b"others")
    write_lock(project)
    assert gather(MODEL).evaluation == before
    lock = Path("dvc.lock").read_text()
    Path("dvc.lock").write_text(lock.replace("num_pairs: 20", "num_pairs: 21"))
    assert gather(MODEL).evaluation != before
    with pytest.raises(ValueError, match="expected the evaluation"):
        check_evaluation(MODEL, before)


def test_refuses_files_that_are_not_those_of_the_lock(project):
    Path(WEIGHTS).write_bytes(b"trained since")
    with pytest.raises(ValueError, match=r"expected what dvc\.lock says"):
        gather(MODEL)


def test_refuses_a_model_that_was_judged_with_other_evaluations(project):
    Path("reports/evaluation/teacher").mkdir()
    Path("reports/evaluation/teacher/metrics.json").write_text(json.dumps({}))
    with pytest.raises(ValueError, match=r"reports/evaluation: expected what dvc\.lock says"):
        gather(MODEL)


def test_names_the_models_there_are(project):
    with pytest.raises(ValueError, match=f"finished stage evaluate@teacher.*{MODEL}"):
        gather("teacher")


def test_asks_for_a_rebuild_where_there_was_none(project):
    Path("dvc.lock").unlink()
    with pytest.raises(FileNotFoundError, match="lock of a finished"):
        gather(MODEL)
