"""Registers an evaluated model and promotes it, or rolls a promotion back, under Prefect.

`python -m flows.promote` uses the server at PREFECT_API_URL, or one of its own for the time of the
run. Options: `python -m flows.promote --help`; docs/registry.md explains.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.guard import end_with_worker
from flows.sessions import Sessions, end_children
from flows.stage_runs import child_environment

REGISTERED = Path(".work/registered")
"""Where `stages.register` writes what a model became."""


@flow(name="promote")
def promote(
    name: str | None = None,
    model: str | None = None,
    approve: bool = False,
    rollback: bool = False,
) -> State[Any]:
    """Makes a challenger champion if the policy agrees; the run fails if it does not.

    Args:
        name: Registered model, as `depth-relative-vits`; not needed with `model`.
        model: One of params.yaml to register first, which makes it the challenger.
        approve: A person approves, where mlflow/promotion.yaml asks for that.
        rollback: The previous champion comes back; nothing is compared.
    """
    end_with_worker()
    if model is not None:
        name = register_version(model)
    assert name is not None
    flag = ["--rollback"] if rollback else ["--approve"] if approve else []
    outcome = decide(name, flag)
    if outcome["rules"]:
        create_table_artifact(key="promotion", table=outcome["rules"], description=outcome["says"])
    ended = Completed if outcome["done"] else Failed
    return ended(message=outcome["says"])


@task(cache_policy=NO_CACHE, persist_result=False)
def register_version(model: str) -> str:
    """Registers a model of params.yaml; returns its registered model."""
    result = REGISTERED / f"{model}.json"
    found = _run_stage(["stages.register", model], result, expected=(0,))
    return str(found["name"])


@task(cache_policy=NO_CACHE, persist_result=False)
def decide(name: str, flag: list[str]) -> dict[str, Any]:
    """Applies the policy, or rolls back; returns what `stages.promote` decided."""
    with tempfile.TemporaryDirectory() as scratch:  # another run may decide at the same time
        result = Path(scratch) / "outcome.json"
        command = ["stages.promote", name, *flag, "--outcome", str(result)]
        return _run_stage(command, result, expected=(0, 1))


def _run_stage(module: list[str], result: Path, expected: Sequence[int]) -> dict[str, Any]:
    """Runs `python -m ...` and returns what it wrote, however it judged."""
    result.unlink(missing_ok=True)
    command = [sys.executable, "-m", *module]
    with Sessions() as sessions:
        status, output = sessions.run(
            command, root=Path.cwd(), log=get_run_logger(), environment=child_environment()
        )
    if status not in expected or not result.is_file():
        last = (output.strip().splitlines() or ["no message"])[-1]
        ran = " ".join(module[:2])
        raise RuntimeError(f"{ran}: expected a result, got status {status}: {last}")
    content: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return content


def main(arguments: Sequence[str]) -> int:
    """Runs the flow as the command line says; returns 1 if nothing was promoted."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.promote", description="Promote a challenger, or roll back."
    )
    parser.add_argument("name", nargs="?", help="registered model, as depth-relative-vits")
    parser.add_argument(
        "--register", dest="model", metavar="MODEL", help="of params.yaml; register it first"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--approve", action="store_true", help="a person approves the promotion")
    what.add_argument("--rollback", action="store_true", help="the previous champion comes back")
    options = vars(parser.parse_args(arguments))
    if (options["name"] is None) == (options["model"] is None):
        parser.error("expected either a registered model or --register MODEL")
    if options["rollback"] and options["model"]:
        parser.error("expected --rollback of a registered model, got --register")
    older = psutil.Process().children()
    try:
        state = promote(**options, return_state=True)
    except BaseException:
        end_children(older)  # Prefect would leave the server that it started for this run
        raise
    sys.stdout.write(f"{state.message}\n")
    return 0 if state.is_completed() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
