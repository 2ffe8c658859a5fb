"""Moves the aliases of a registered model: promotion by the policy, and rollback.

`python -m flows.promote` runs it under Prefect; docs/registry.md explains both.
"""

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dav2.data.files import write_json
from stages.evidence import check_evaluation
from stages.fetch_champions import keep
from stages.params import load
from stages.program import run as run_program
from stages.promotion import POLICY, Finding, PromotionParams, as_table, compare
from stages.register import record_tables
from stages.registry import (
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    aliases,
    connect,
    exclusive,
    fetch_weights,
    unlock,
)
from stages.tracking import tracked

OUTCOMES = Path(".work/promotion")
"""Where the last decision on each registered model is written, unless the command line says."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was decided."""

    name: str
    is_done: bool
    says: str
    findings: list[Finding] = field(default_factory=list)


def main(arguments: Sequence[str]) -> None:
    """Decides as the command line says, writes the outcome down and logs it with its table.

    Raises:
        SystemExit: With status 1 if the promotion is refused or waits for approval.
    """
    given = _parse(arguments)
    client = connect()
    if given.unlock:
        unlock(client, given.name)
        return
    outcome = (
        rollback(client, given.name)
        if given.rollback
        else promote(client, given.name, is_approved=given.approve)
    )
    rows = [found.row() for found in outcome.findings]
    content = {"name": outcome.name, "done": outcome.is_done, "says": outcome.says, "rules": rows}
    write_json(content, given.outcome or OUTCOMES / f"{outcome.name}.json")
    if outcome.findings:
        logger.info("%s", as_table(outcome.findings))
    logger.info("%s", outcome.says)
    if not outcome.is_done:
        raise SystemExit(1)
    _keep_for_report(client, given.name)


def promote(client: Any, name: str, *, is_approved: bool = False) -> Outcome:
    """Makes the challenger champion if gate, policy and, where asked for, a person agree.

    Args:
        client: From `stages.registry.connect`.
        name: Registered model.
        is_approved: That a person approves; lifts no other condition.

    Returns:
        What was decided, with every comparison.

    Raises:
        FileNotFoundError: The champion must be evaluated anew and its inputs are not here.
        ValueError: No such model, no challenger, the policy does not fit, or likewise.
        TimeoutError: Another process holds the registered model's lock.
    """
    policy = load("promotion", PromotionParams, POLICY)
    with exclusive(client, name):
        current = aliases(client, name)
        if CHALLENGER not in current:
            raise ValueError(
                f"{name}: expected a challenger, got none beside champion "
                f"{current.get(CHAMPION, 'none')} (python -m stages.register <model>)"
            )
        outcome = _decide(client, name, current, policy, is_approved=is_approved)
        if outcome.is_done:
            if CHAMPION in current:  # first, so that a champion in office is never lost
                client.set_registered_model_alias(name, PREVIOUS, current[CHAMPION])
            client.set_registered_model_alias(name, CHAMPION, current[CHALLENGER])
            client.delete_registered_model_alias(name, CHALLENGER)
        decision = json.dumps([outcome.says, [found.row() for found in outcome.findings]])
        client.set_model_version_tag(name, current[CHALLENGER], "promotion", decision)
    return outcome


def rollback(client: Any, name: str) -> Outcome:
    """Makes the previous champion champion again, and the present one previous.

    Args:
        client: From `stages.registry.connect`.
        name: Registered model.

    Raises:
        ValueError: No such model, or no previous champion.
        TimeoutError: Another process holds the registered model's lock.
    """
    with exclusive(client, name):
        current = aliases(client, name)
        before, now = current.get(PREVIOUS), current.get(CHAMPION)
        if before is None or now is None or before == now:
            raise ValueError(f"{name}: expected a previous champion, got {before or 'none'}")
        client.set_registered_model_alias(name, CHAMPION, before)
        client.set_registered_model_alias(name, PREVIOUS, now)
    return Outcome(name, True, f"{name}: version {before} is champion again, {now} is previous")


def _decide(
    client: Any, name: str, current: dict[str, str], policy: PromotionParams, *, is_approved: bool
) -> Outcome:
    number = current[CHALLENGER]
    challenger = client.get_model_version(name, number)
    who = f"{name}: version {number}"
    if challenger.tags.get("gate.release") != "passed":
        seen = challenger.tags.get("gate.release", "no verdict")
        return Outcome(name, False, f"{who} is refused: expected a passed release gate, got {seen}")
    findings: list[Finding] = []
    if CHAMPION in current:
        champion = client.get_model_version(name, current[CHAMPION])
        with tempfile.TemporaryDirectory() as scratch:
            if champion.tags["evaluation.hash"] != challenger.tags["evaluation.hash"]:
                champion = _evaluated_anew(client, champion, challenger, policy, Path(scratch))
            findings = compare(
                policy,
                name,
                challenger=_tables(client, challenger, Path(scratch) / "challenger"),
                champion=_tables(client, champion, Path(scratch) / "champion"),
            )
    failed = [found for found in findings if not found.is_met]
    if failed:
        why = "; ".join(f"{found.measure} {found.seen}, needs {found.needs}" for found in failed)
        return Outcome(name, False, f"{who} is refused: {why}", findings)
    if policy.manual_approval and not is_approved:
        return Outcome(name, False, f"{who} may be promoted and waits for --approve", findings)
    after = f" after version {current[CHAMPION]}" if CHAMPION in current else ", the first"
    return Outcome(name, True, f"{who} is champion{after}", findings)


def _tables(client: Any, version: Any, folder: Path) -> Path:
    folder.mkdir()
    run_id = version.tags["evidence.run_id"]
    return Path(client.download_artifacts(run_id, "evidence", str(folder)))


def _evaluated_anew(
    client: Any, champion: Any, challenger: Any, policy: PromotionParams, scratch: Path
) -> Any:
    """Evaluates the champion as the challenger was; returns its version with the new tables."""
    from stages.evaluate import main as evaluate

    hash_ = challenger.tags["evaluation.hash"]
    manifest = check_evaluation(challenger.tags["model"], hash_)
    uri = f"models:/{champion.name}/{champion.version}"
    weights = fetch_weights(uri, scratch / "model")
    logger.info("%s was evaluated otherwise than the challenger: evaluating it anew", uri)
    with tracked("promote", policy, inputs={"model": weights, "evaluation": manifest}) as run:
        evaluate(champion.tags["model"], manifest, weights, scratch / "evaluation")
        record_tables(client, run.run_id, scratch / "evaluation")
    for key, value in (("evaluation.hash", hash_), ("evidence.run_id", run.run_id)):
        client.set_model_version_tag(champion.name, champion.version, key, value)
    return client.get_model_version(champion.name, champion.version)


def _keep_for_report(client: Any, name: str) -> None:
    """Copies the champion's tables; what fails here undoes no promotion."""
    from mlflow.exceptions import MlflowException

    try:
        keep(client, name)
    except (MlflowException, OSError) as error:
        logger.error("%s: expected its tables for the report, got %s", name, error)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stages.promote", description="Promote the challenger, or roll back."
    )
    parser.add_argument("name", help="registered model, as depth-relative-vits")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--approve", action="store_true", help="a person approves the promotion")
    what.add_argument("--rollback", action="store_true", help="the previous champion comes back")
    what.add_argument("--unlock", action="store_true", help="remove the lock of a killed process")
    parser.add_argument(
        "--outcome", type=Path, metavar="FILE", help=f"where to write it ({OUTCOMES}/<name>.json)"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run_program("promote", main, sys.argv[1:])
