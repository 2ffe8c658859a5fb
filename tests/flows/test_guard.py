import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.exceptions import Abort
from prefect.states import Cancelling, Running

from flows import guard

ROOT = Path(__file__).resolve().parents[2]

RUN = """
import logging, pathlib, sys
from flows.guard import end_with_worker
from flows.sessions import Sessions
end_with_worker()
child = "import os, pathlib, time\\npathlib.Path('child').write_text(str(os.getpid()))\\n"
child += "time.sleep(300)"
code = "import subprocess, sys, time\\n"
code += f"subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True)\\n"
code += "time.sleep(300)"
command = [sys.executable, "-c", code]
Sessions().run(command, root=pathlib.Path(), log=logging.getLogger())
"""
"""A run whose stage has a child in a session of its own."""

WORKER = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"

BY_WORKER = {
    "PREFECT__FLOW_RUN_ID": "00000000-0000-0000-0000-000000000001",
    "PREFECT_API_URL": "http://127.0.0.1:9/api",  # nobody answers, and the run ends all the same
}


def started(folder: Path, command: list[str], **variables: str) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.DEVNULL)
    deadline_s = time.monotonic() + 60
    while not ((folder / "child").exists() and (folder / "child").read_text()):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    return process


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def wait_for_the_end(processes: list[psutil.Process], within_s: float) -> None:
    deadline_s = time.monotonic() + within_s
    while living(processes):
        assert time.monotonic() < deadline_s, living(processes)
        time.sleep(0.05)


@pytest.mark.slow
def test_a_killed_run_leaves_nothing_of_its_stage(tmp_path: Path):
    run = started(tmp_path, [sys.executable, "-c", RUN])
    below = psutil.Process(run.pid).children(recursive=True)
    assert len(below) == 3  # the stage, its child and the guard
    run.kill()
    run.wait()
    wait_for_the_end(below, within_s=10)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_ends_with_its_worker(tmp_path: Path, number: signal.Signals):
    command = [sys.executable, "-c", WORKER, RUN]
    worker = started(tmp_path, command, **BY_WORKER)
    below = psutil.Process(worker.pid).children(recursive=True)
    assert len(below) == 4
    worker.send_signal(number)
    worker.wait()
    wait_for_the_end(below, within_s=10)


@pytest.mark.slow
def test_a_run_that_no_worker_started_outlives_its_shell(tmp_path: Path):
    shell = started(tmp_path, [sys.executable, "-c", WORKER, RUN])
    below = psutil.Process(shell.pid).children(recursive=True)
    shell.kill()
    shell.wait()
    time.sleep(2.5)  # longer than it takes to look for a worker
    assert len(living(below)) == 4
    below[0].kill()
    wait_for_the_end(below, within_s=10)


@pytest.mark.usefixtures("prefect_server")
def test_of_runs_without_a_worker_the_one_that_is_cancelled_ends_as_cancelled(
    monkeypatch: pytest.MonkeyPatch,
):
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(flow(lambda: None, name="empty"), state=Running())
        monkeypatch.setenv("PREFECT__FLOW_RUN_ID", str(run.id))
        guard.settle()  # its worker lives
        monkeypatch.setattr(guard, "_lost", threading.Event())
        guard._lost.set()
        guard.settle()  # it is not cancelled: Prefect is to mark it as crashed
        assert client.read_flow_run(run.id).state_name == "Running"
        client.set_flow_run_state(run.id, Cancelling())
        with pytest.raises(Abort, match="it was cancelled"):
            guard.settle()
        assert client.read_flow_run(run.id).state_name == "Cancelled"
