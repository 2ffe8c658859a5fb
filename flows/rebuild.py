"""Brings the whole pipeline up to date under Prefect: the stages that `dvc repro` would run.

`python -m flows.rebuild` uses the server at PREFECT_API_URL, or one of its own for the time of the
run. Options: `python -m flows.rebuild --help`.
"""

import argparse
import json
import queue
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import psutil
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.concurrency.sync import concurrency
from prefect.futures import wait
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows.artifacts import publish
from flows.graph import Stage, read_graph
from flows.guard import end_with_worker
from flows.progress import ProgressLog
from flows.sessions import Sessions, end_children
from flows.slots import Plan
from flows.stage_runs import child_environment, run_stage, stages_left

CHAMPIONS = Path(".work/champions.json")
"""Where `stages.fetch_champions` writes."""

_GIVE_BACK_LIMIT_S = 5.0
_THREADS: Any = ThreadPoolTaskRunner()  # the flow counts the slots itself


@flow(name="rebuild", task_runner=_THREADS)
def rebuild(
    targets: list[str] | None = None,
    cpu_slots: int = 1,
    gpus: list[str] | None = None,
    retries: int = 0,
    retry_delay_s: float = 30.0,
    timeout_s: float | None = None,
    gpu_limit: str = "gpu",
    reason: str = "",
) -> State[Any]:
    """Runs every stage of `dvc.yaml` that changed, independent ones side by side.

    A stage that fails ends neither its neighbours nor this flow at once: what does not need it is
    still run, what needs it is not, and the flow fails at the end.

    Args:
        targets: Stages wanted, with all they need; none for the whole pipeline.
        cpu_slots: Stages that may run at once. One by default, since a training uses every thread
            that its parameters name; more pay off where cores are left.
        gpus: Devices of each GPU slot as CUDA_VISIBLE_DEVICES has them, as `["0", "1"]` or
            `["0,1"]`. Trainings, labelling and evaluation wait for one of these instead.
        retries: Further attempts of a stage that failed. Gates are never tried again.
        retry_delay_s: Seconds before each.
        timeout_s: Limit of one stage, seconds.
        gpu_limit: Concurrency limit of the server that a stage on a GPU also takes a place of, so
            that runs share the devices; without such a limit there they do not wait.
        reason: Why, for the log: what `flows.watch` saw.
    """
    end_with_worker()
    if problems := parameter_problems():
        return Failed(message=problems)
    root = Path.cwd()
    stages = read_graph(targets or ())
    plan = Plan(stages, cpu_slots, list(gpus or ()))
    log = get_run_logger()
    if reason:
        log.info("wanted because %s", reason)
    log.info("%d stages, %d at once, GPUs: %s", len(stages), cpu_slots, gpus or "none")
    stage_task = bring_up_to_date.with_options(
        retries=retries, retry_delay_seconds=retry_delay_s, retry_condition_fn=_worth_another_try
    )
    with Sessions() as sessions:
        limits = {"timeout_s": timeout_s, "gpu_limit": gpu_limit}
        states = _run_all(plan, sessions, stage_task=stage_task, limits=limits)
        failed = [name for name, state in states.items() if state == "Failed"]
        if any(name.startswith("gate_") for name in failed) and "report" in stages:
            build_partial_report(stages["report"], sessions, return_state=True)
        publish(stages, states, _champions(states, sessions), root=root)
        if not failed and not targets:
            prove_nothing_left(sessions)
    return _verdict(states)


@task(cache_policy=NO_CACHE, persist_result=False)
def bring_up_to_date(
    stage: Stage, sessions: Sessions, device: str | None, timeout_s: float | None, gpu_limit: str
) -> State[Any]:
    """Runs one stage; ends as Completed, UpToDate or Restored."""
    with nullcontext() if device is None else concurrency(gpu_limit, lease_duration=60):
        outcome = run_stage(
            stage,
            sessions,
            root=Path.cwd(),
            log=ProgressLog(get_run_logger(), stage.name),
            device=device,
            timeout_s=timeout_s,
        )
    return Completed(name=outcome)


@task(cache_policy=NO_CACHE, persist_result=False)
def build_partial_report(report: Stage, sessions: Sessions) -> None:
    """Builds the report of what there is after a gate has stopped the run."""
    command = [*shlex.split(report.command), "--partial"]
    status, _ = sessions.run(
        command, root=Path.cwd(), log=get_run_logger(), environment=child_environment()
    )
    if status:
        raise RuntimeError(f"{shlex.join(command)}: expected exit status 0, got {status}")


@task(cache_policy=NO_CACHE, persist_result=False)
def read_champions(sessions: Sessions) -> dict[str, Any]:
    """Returns version and measures of the registry's champions, by model."""
    CHAMPIONS.unlink(missing_ok=True)
    command = [sys.executable, "-m", "stages.fetch_champions", str(CHAMPIONS)]
    status, _ = sessions.run(
        command, root=Path.cwd(), log=get_run_logger(), environment=child_environment()
    )
    if status:
        raise RuntimeError(f"{shlex.join(command)}: expected exit status 0, got {status}")
    content: dict[str, Any] = json.loads(CHAMPIONS.read_text(encoding="utf-8"))
    return content


@task(cache_policy=NO_CACHE, persist_result=False)
def prove_nothing_left(sessions: Sessions) -> None:
    """Fails unless a plain `dvc repro` would run nothing any more."""
    left = stages_left(sessions, root=Path.cwd(), log=get_run_logger())
    if left:
        raise RuntimeError(f"dvc repro --dry: expected nothing left to run, got {left}")


def parameter_problems() -> str:
    """Returns one line for each section of params.yaml that does not fit; empty if all do."""
    if not Path("params.yaml").is_file():
        return ""
    command = [sys.executable, "-m", "stages.sections"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stderr.strip() if done.returncode else ""


def _run_all(
    plan: Plan, sessions: Sessions, *, stage_task: Any, limits: Mapping[str, Any]
) -> dict[str, str]:
    """Submits stages as slots get free until all have ended; returns how, by name."""
    ended: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    futures: dict[str, Any] = {}
    try:
        while len(plan.states) < len(plan.stages):
            while stage := plan.next():
                named = stage_task.with_options(task_run_name=stage.name)
                future = named.submit(
                    stage,
                    sessions,
                    plan.running[stage.name],
                    **limits,
                    wait_for=[futures[above] for above in stage.upstream],
                )
                futures[stage.name] = future
                future.add_done_callback(lambda done, name=stage.name: ended.put((name, done)))
            name, done = ended.get()
            done.wait()  # it has ended; only this makes its state known here
            plan.ended(name, _name_of(done.state))
    except BaseException:
        sessions.end()
        wait(list(futures.values()), timeout=_GIVE_BACK_LIMIT_S)  # places under limits
        raise
    return plan.states


def _champions(states: Mapping[str, str], sessions: Sessions) -> dict[str, Any]:
    """Returns the champions if something was evaluated; none if the registry does not answer."""
    evaluated = [name for name in states if name.partition("@")[0] == "evaluate"]
    if not any(states[name] in ("Completed", "Restored") for name in evaluated):
        return {}
    state = read_champions(sessions, return_state=True)
    return state.result() if state.is_completed() else {}


def _name_of(state: State[Any]) -> str:
    if state.name == "NotReady":  # something above it failed: Prefect did not start it
        return "NotRun"
    return str(state.name) if state.is_completed() else "Failed"


def _verdict(states: Mapping[str, str]) -> State[Any]:
    counts = {state: list(states.values()).count(state) for state in dict.fromkeys(states.values())}
    message = ", ".join(f"{count} {state}" for state, count in counts.items())
    failed = [name for name, state in states.items() if state == "Failed"]
    if failed:
        return Failed(message=f"failed: {', '.join(failed)} ({message})")
    return Completed(message=message)


def _worth_another_try(_task: Any, task_run: Any, state: State[Any]) -> bool:
    if task_run.name.startswith("gate_"):
        return False
    try:
        state.result()
    except InterruptedError:
        return False
    except (RuntimeError, OSError):
        return True
    return False


def main(arguments: list[str]) -> int:
    """Runs the flow as the command line says; returns the exit status.

    Raises:
        SystemExit: With one line, if a target is no stage or there is no slot; one line for each
            parameter that does not fit.
    """
    parser = argparse.ArgumentParser(
        prog="python -m flows.rebuild", description="Runs every stage of dvc.yaml that changed."
    )
    parser.add_argument("targets", nargs="*", help="stages, with all they need; default: all")
    parser.add_argument("--cpu-slots", type=int, default=1, help="stages at once (default 1)")
    parser.add_argument("--gpus", nargs="+", help="devices of each GPU slot, as: 0 1 or: 0,1")
    parser.add_argument("--retries", type=int, default=0, help="further attempts of a stage")
    parser.add_argument("--retry-delay-s", type=float, default=30.0)
    parser.add_argument("--timeout-s", type=float, help="limit of one stage")
    options = vars(parser.parse_args(arguments))
    try:
        Plan(read_graph(options["targets"]), options["cpu_slots"], options["gpus"] or [])
    except ValueError as error:
        raise SystemExit(str(error)) from None  # before a server is started for it
    if problems := parameter_problems():
        raise SystemExit(problems)
    older = psutil.Process().children()
    # On SIGTERM Prefect ends the run and hands the signal on to whoever had it before.
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        state = rebuild(**options, return_state=True)
    except BaseException:
        end_children(older)  # Prefect would leave the server that it started for this run
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0 if state.is_completed() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
