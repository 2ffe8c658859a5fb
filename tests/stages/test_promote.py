"""Aliases move by the policy, one process at a time, and back."""

import json
import logging
import os
import signal
import threading
from pathlib import Path

import pytest

from stages import promote as promoting
from stages.promote import main, promote, rollback
from stages.registry import (
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    aliases,
    connect,
    exclusive,
    unlock,
)
from tests.fixtures.registry import NAME, add_version, write_policy, write_tables


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


def test_the_first_that_passed_its_gate_is_champion(client):
    add_version(client, 0.5)
    outcome = promote(client, NAME)
    assert outcome.is_done
    assert aliases(client, NAME) == {CHAMPION: "1"}


def test_a_failed_gate_refuses_and_so_does_a_missing_verdict(client):
    add_version(client, 0.5, gate="failed")
    refused = promote(client, NAME, is_approved=True)
    assert not refused.is_done
    assert "expected a passed release gate, got failed" in refused.says
    client.delete_model_version_tag(NAME, "1", "gate.release")
    assert "got no verdict" in promote(client, NAME).says
    assert aliases(client, NAME) == {CHALLENGER: "1"}


def test_a_better_one_is_promoted_a_worse_one_refused_with_reasons_and_rolled_back(client):
    for delta1 in (0.5, 0.6):
        add_version(client, delta1)
        assert promote(client, NAME).is_done
    assert aliases(client, NAME) == {CHAMPION: "2", PREVIOUS: "1"}
    add_version(client, 0.4)
    refused = promote(client, NAME)
    assert not refused.is_done
    assert [found.measure for found in refused.findings if not found.is_met] == [
        "photos/delta1", "da2k/all"
    ]  # fmt: skip
    assert "photos/delta1 -0.2000 to -0.2000, needs better by more than 0" in refused.says
    assert aliases(client, NAME) == {CHAMPION: "2", PREVIOUS: "1", CHALLENGER: "3"}
    says, rows = json.loads(client.get_model_version(NAME, "3").tags["promotion"])
    assert says == refused.says
    assert rows[0]["gain"] == pytest.approx(-0.2)
    assert "version 1 is champion again" in rollback(client, NAME).says
    assert aliases(client, NAME) == {CHAMPION: "1", PREVIOUS: "2", CHALLENGER: "3"}


def test_with_manual_approval_the_better_one_waits_and_the_worse_one_is_not_helped(client):
    write_policy(Path(), manual_approval=True)
    add_version(client, 0.5)
    waiting = promote(client, NAME)
    assert (waiting.is_done, CHAMPION in aliases(client, NAME)) == (False, False)
    assert "waits for --approve" in waiting.says
    assert promote(client, NAME, is_approved=True).is_done
    add_version(client, 0.4)
    assert "is refused" in promote(client, NAME, is_approved=True).says


def test_nothing_to_promote_or_to_roll_back_to_is_said_in_one_line(client):
    with pytest.raises(ValueError, match="expected a challenger, got none beside champion none"):
        promote(client, NAME)
    with pytest.raises(ValueError, match="expected a previous champion, got none"):
        rollback(client, NAME)
    with pytest.raises(ValueError, match=f"other: expected a registered model, got {NAME}"):
        promote(client, "other")


def test_a_champion_of_another_evaluation_is_evaluated_as_the_challenger_was(client, monkeypatch):
    asked = []

    def evaluate(_name, manifest, weights, output):
        asked.append((manifest, weights))
        write_tables(output, delta1=0.55)

    def fetch(uri, folder):
        folder.mkdir()
        (folder / "w.safetensors").write_text(uri)
        return folder / "w.safetensors"

    Path("evaluation.parquet").write_bytes(b"")
    monkeypatch.setattr(promoting, "fetch_weights", fetch)
    monkeypatch.setattr(promoting, "check_evaluation", lambda *_: Path("evaluation.parquet"))
    monkeypatch.setattr("stages.evaluate.main", evaluate)
    add_version(client, 0.5)
    promote(client, NAME)
    add_version(client, 0.6, evaluation="another")
    outcome = promote(client, NAME)
    assert outcome.findings[0].gain == pytest.approx(0.05)  # against 0.55, not 0.5
    assert [manifest for manifest, _ in asked] == [Path("evaluation.parquet")]
    assert client.get_model_version(NAME, "1").tags["evaluation.hash"] == "another"


def test_of_two_at_once_one_promotes_and_the_other_finds_nothing_left(client):
    add_version(client, 0.5)
    promote(client, NAME)
    add_version(client, 0.6)
    outcomes = []
    start = threading.Barrier(2)

    def run():
        start.wait()
        try:
            outcomes.append(promote(client, NAME).says)
        except ValueError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert aliases(client, NAME) == {CHAMPION: "2", PREVIOUS: "1"}
    assert sorted(text.split(": ")[1][:9] for text in outcomes) == ["expected ", "version 2"]


def test_who_waits_too_long_learns_who_holds_the_lock(client):
    with (
        exclusive(client, NAME),
        pytest.raises(TimeoutError, match=r"got it held by process \d+ on .* --unlock"),
        exclusive(client, NAME, patience_s=0),
    ):
        pass
    with exclusive(client, NAME, patience_s=0):  # free again
        pass


def test_a_process_that_is_asked_to_end_frees_its_lock(client):
    with pytest.raises(SystemExit, match="143"), exclusive(client, NAME):
        os.kill(os.getpid(), signal.SIGTERM)
    with exclusive(client, NAME, patience_s=0):
        pass


def test_the_lock_of_a_killed_process_is_removed_by_hand(client):
    lock = exclusive(client, NAME)
    lock.__enter__()  # and never left
    main([NAME, "--unlock"])
    with exclusive(client, NAME, patience_s=0):
        pass
    unlock(client, NAME)  # nobody holds it: nothing happens


def test_the_command_writes_its_decision_and_a_refusal_ends_with_status_1(client, caplog):
    caplog.set_level(logging.INFO)
    for delta1 in (0.5, 0.4):
        add_version(client, delta1)
        if delta1 == 0.5:
            main([NAME])
    with pytest.raises(SystemExit, match="1"):
        main([NAME])
    written = json.loads(Path(f".work/promotion/{NAME}.json").read_text())
    assert (written["done"], written["rules"][0]["is_met"]) == (False, False)
    assert "| FAILS | photos/delta1 | 0." in caplog.text
    assert aliases(client, NAME) == {CHAMPION: "1", CHALLENGER: "2"}
