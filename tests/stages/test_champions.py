"""What was evaluated stands against the champion that a promotion left here."""

import json
import logging
from pathlib import Path

import pytest

from stages import promote as promoting
from stages.champions import CHAMPIONS, standings
from stages.fetch_champions import main as fetch
from stages.promote import promote
from stages.registry import connect
from stages.report_beside import BESIDE, write_beside
from tests.fixtures.registry import NAME, add_version, write_policy, write_tables

EVALUATION = Path("reports/evaluation")


@pytest.fixture
def client(empty_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").write_bytes(empty_store)
    write_policy(tmp_path)
    found = connect()
    found.create_experiment("depth", artifact_location=(tmp_path / "mlruns").as_uri())
    found.create_registered_model(NAME)
    return found


def evaluated(delta1: float) -> None:
    write_tables(EVALUATION / "student", delta1=delta1)


def beside() -> str:
    write_beside([], EVALUATION, source=None)
    text = BESIDE.read_text(encoding="utf-8")
    return json.loads(text.partition("parts: ")[2].partition(' }, "*")')[0])["champion"]


def test_a_promotion_leaves_the_champion_and_the_page_what_changed_since(client, monkeypatch):
    monkeypatch.setattr(promoting, "connect", lambda: client)
    add_version(client, 0.5)
    promoting.main([NAME])
    evaluated(0.6)
    (standing,) = standings(EVALUATION)
    assert (standing.alias, standing.version, standing.is_champion) == ("champion", "1", False)
    gain, hold = standing.findings
    assert gain.gain == pytest.approx(0.1)
    assert gain.is_met
    assert hold.is_met
    assert "dvc.lock does not tell" in standing.doubt
    text = beside()
    assert "against the champion of depth-relative-vit64x4, version 1" in text
    assert "+0.1000" in text


def test_the_champion_itself_stands_against_the_one_before(client):
    add_version(client, 0.5)
    promote(client, NAME)
    number = add_version(client, 0.6)
    client.set_model_version_tag(NAME, number, "weights.md5", "a" * 32)
    promote(client, NAME)
    fetch()
    evaluated(0.6)
    Path("dvc.lock").write_text(
        f"stages: {{x: {{outs: [{{path: models/student.safetensors, md5: {'a' * 32}}}]}}}}"
    )
    (standing,) = standings(EVALUATION)
    assert (standing.alias, standing.version, standing.is_champion) == ("previous", "1", True)
    assert standing.findings[0].gain == pytest.approx(0.1)
    assert "is champion of depth-relative-vit64x4; compared with the one before" in beside()


def test_the_first_champion_has_nothing_to_stand_against(client):
    number = add_version(client, 0.5)
    client.set_model_version_tag(NAME, number, "weights.md5", "b" * 32)
    promote(client, NAME)
    fetch()
    evaluated(0.5)
    Path("dvc.lock").write_text(
        f"stages: {{x: {{outs: [{{path: models/student.safetensors, md5: {'b' * 32}}}]}}}}"
    )
    text = beside()
    assert "there is nothing to compare it with" in text
    assert "<table" not in text


def test_without_champion_model_or_policy_nothing_is_said(client):
    evaluated(0.5)
    assert standings(EVALUATION) == []
    add_version(client, 0.5)
    fetch()
    assert [path.name for path in CHAMPIONS.iterdir()] == [NAME]
    assert standings(EVALUATION) == []
    promote(client, NAME)
    fetch()
    assert len(standings(EVALUATION)) == 1
    assert standings(Path("elsewhere")) == []
    Path("mlflow/promotion.yaml").unlink()
    assert beside() == ""


def test_a_policy_that_does_not_fit_costs_what_stands_beside_and_not_the_page(client, caplog):
    CHAMPIONS.mkdir(parents=True)
    Path("mlflow/promotion.yaml").write_text("promotion: 3\n")
    with caplog.at_level(logging.ERROR):
        write_beside([], EVALUATION, source=None)
    assert not BESIDE.exists()
    assert "expected to write what stands beside the page" in caplog.text


def test_tables_that_cannot_be_fetched_undo_no_promotion(client, monkeypatch, caplog):
    def refuse(*_):
        raise OSError("no answer")

    monkeypatch.setattr(promoting, "connect", lambda: client)
    monkeypatch.setattr(promoting, "keep", refuse)
    add_version(client, 0.5)
    promoting.main([NAME])
    assert f"{NAME}: expected its tables for the report, got no answer" in caplog.text
    assert not CHAMPIONS.exists()
