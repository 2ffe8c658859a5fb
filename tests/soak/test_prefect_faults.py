"""Runs that are cancelled, workers that are killed, machines that vanish."""

import time
from collections.abc import Iterator
from contextlib import suppress
from uuid import UUID

import psutil
import pytest

from tests.fixtures.prefect_team import Team, started_team

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

LEFT_AFTER_S = 10.0
WORKERS_OWN = "_workspace_runtime_bootstrap.py hook"
"""What a worker starts after a run has ended, to note that down: no part of the run."""


@pytest.fixture(scope="module")
def deployed() -> Iterator[Team]:
    with started_team() as made:
        done = made.python("flows.deploy")
        assert done.returncode == 0, done.stderr
        watched = made.client.read_deployment_by_name("watch/watch")
        made.client.update_deployment_schedule(watched.id, watched.schedules[0].id, active=False)
        yield made


@pytest.fixture
def team(deployed: Team) -> Team:
    deployed.renew()
    deployed.end_runs()  # of a test that failed
    return deployed


def hanging(team: Team, order: str = "hang") -> UUID:
    """Starts a run and waits until its stage hangs."""
    team.order("train_teacher", order)
    run = team.start_run("rebuild/rebuild", targets=["train_teacher"], gpus=["0"])
    team.wait(team.hangs, "a stage that hangs")
    return run


def of_runs(team: Team, worker: int) -> list[str]:
    """The command lines of all that runs have started, in whatever session."""
    found = []
    for process in team.marked():
        with suppress(psutil.Error):
            if process.pid != worker:
                found.append(" ".join(process.cmdline())[:200])
    return [line for line in found if WORKERS_OWN not in line]


def flow_process(worker: int) -> psutil.Process:
    """The process of the one rebuild that a worker runs."""
    (found,) = [
        child
        for child in psutil.Process(worker).children()
        if any("dvc" in " ".join(below.cmdline()) for below in child.children())
    ]
    return found


def completes(team: Team, run: UUID) -> None:
    """Has the run, restarted, go through."""
    (team.project / "train_teacher.order").unlink()  # before the automation restarts it
    team.wait(lambda: team.states(run)[-1] == "Completed", "the end of the restarted run", 240)
    assert team.client.read_flow_run(run).run_count == 2
    assert "train_teacher" in team.spans()


@pytest.mark.parametrize("order", ["hang", "ray"])
def test_cancelling_leaves_no_process_and_frees_the_device(team: Team, order: str):
    if order == "ray":
        pytest.importorskip("ray")
    with team.worker() as worker:
        run = hanging(team, order)
        assert len(of_runs(team, worker.pid)) >= (8 if order == "ray" else 5)
        team.cancel(run)
        time.sleep(LEFT_AFTER_S)
        assert of_runs(team, worker.pid) == []
        assert worker.poll() is None
        team.wait(lambda: team.states(run)[-1] == "Cancelled", "its state")
        (team.project / "train_teacher.order").unlink()
        other = team.start_run("rebuild/other", targets=["train_teacher"], gpus=["0"])
        team.wait(lambda: team.states(other)[-1] == "Completed", "the place of the GPU")
    assert not [state for state in team.states(run) if state in ("Crashed", "AwaitingRetry")]


@pytest.mark.parametrize("order", ["hang", "ray"])
def test_the_run_of_a_killed_worker_ends_is_crashed_and_restarted(team: Team, order: str):
    if order == "ray":
        pytest.importorskip("ray")
    with team.worker() as worker:
        run = hanging(team, order)
        worker.kill()
        worker.wait()
        time.sleep(LEFT_AFTER_S)
        assert of_runs(team, worker.pid) == []
    team.wait(lambda: "AwaitingRetry" in team.states(run), "the automation")
    assert "Crashed" in team.states(run)
    with team.worker():
        completes(team, run)


@pytest.mark.parametrize("when", ["at once", "when it has ended", "when it is gone as well"])
def test_a_run_cancelled_after_its_worker_was_killed_stays_cancelled(team: Team, when: str):
    with team.worker() as worker:
        run = hanging(team)
        if when == "when it is gone as well":
            flow_process(worker.pid).kill()
        worker.kill()
        worker.wait()
        if when == "when it has ended":
            team.wait(lambda: team.states(run)[-1] == "AwaitingRetry", "the automation")
        team.cancel(run)
        time.sleep(LEFT_AFTER_S)
        assert of_runs(team, worker.pid) == []
        team.wait(lambda: team.states(run)[-1] == "Cancelled", "its end")
    with team.worker():
        other = team.start_run("rebuild/other", targets=["train_student"])
        team.wait(lambda: team.states(other)[-1] == "Completed", "another run")
    assert "train_teacher" not in team.spans()
    assert team.states(run)[-1] == "Cancelled", team.states(run)


def test_a_killed_run_is_crashed_by_its_worker_and_restarted_once(team: Team):
    with team.worker() as worker:
        run = hanging(team)
        killed = {process.pid for process in team.marked()} - {worker.pid}
        flow_process(worker.pid).kill()
        time.sleep(LEFT_AFTER_S)
        assert not killed & {process.pid for process in team.marked()}
        team.wait(lambda: "Crashed" in team.states(run), "its state")
        completes(team, run)
        time.sleep(LEFT_AFTER_S)
    assert team.states(run).count("Crashed") == 1, team.states(run)
    assert team.client.read_flow_run(run).run_count == 2  # before, and once after


def test_a_run_whose_machine_vanished_is_crashed_for_lack_of_a_heartbeat(team: Team):
    with team.worker():
        run = hanging(team)
        time.sleep(3)  # its first heartbeat arrives
        for process in team.marked():
            process.kill()
        assert team.states(run)[-1] == "Running"
        team.wait(lambda: "Crashed" in team.states(run), "the automation", 300)
        messages = [state.message for state in team.client.read_flow_run_states(run)]
        assert "No heartbeat for two minutes" in messages
    with team.worker():
        completes(team, run)


def test_worker_and_run_killed_at_once_leave_no_stage(team: Team):
    with team.worker() as worker:
        run = hanging(team)
        for process in (psutil.Process(worker.pid), flow_process(worker.pid)):
            process.kill()
        time.sleep(LEFT_AFTER_S)
        assert of_runs(team, worker.pid) == []
        assert team.states(run)[-1] == "Running"  # until the heartbeat is missed
        team.wait(lambda: "Crashed" in team.states(run), "the automation", 300)
    with team.worker():
        completes(team, run)
