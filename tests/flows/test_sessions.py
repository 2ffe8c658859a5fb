import logging
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from flows.sessions import Sessions, end_session

LOG = logging.getLogger("flows.test")


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def wait_for(path: Path) -> int:
    deadline_s = time.monotonic() + 20
    while time.monotonic() < deadline_s:
        if path.exists() and path.read_text():
            return int(path.read_text())
        time.sleep(0.02)
    raise AssertionError(f"{path} did not appear")


def lives(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_returns_status_and_lines_of_both_outputs(tmp_path: Path):
    code = "import sys; print('one'); print('two', file=sys.stderr); sys.exit(3)"
    status, output = Sessions().run(python(code), root=tmp_path, log=LOG)
    assert status == 3
    assert sorted(output.splitlines()) == ["one", "two"]


def test_a_progress_bar_leaves_few_lines_in_the_log(tmp_path: Path, caplog):
    code = "print('\\r'.join(f'{i} of 1000' for i in range(1000)) + '\\nend')"
    with caplog.at_level(logging.INFO, logger=LOG.name):
        _, output = Sessions().run(python(code), root=tmp_path, log=LOG)
    assert output.splitlines() == ["999 of 1000", "end"]
    assert [record.message for record in caplog.records] == ["0 of 1000", *output.splitlines()]


def test_passes_folder_and_environment_on(tmp_path: Path):
    code = "import os; print(os.getcwd(), os.environ['CUDA_VISIBLE_DEVICES'])"
    _, output = Sessions().run(
        python(code), root=tmp_path, log=LOG, environment={"CUDA_VISIBLE_DEVICES": "0,3"}
    )
    assert output == f"{tmp_path.resolve()} 0,3"


def test_what_a_command_leaves_behind_is_ended(tmp_path: Path):
    code = (
        "import pathlib, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'])\n"
        "pathlib.Path('pid').write_text(str(child.pid))"
    )
    status, _ = Sessions().run(python(code), root=tmp_path, log=LOG)
    assert status == 0
    assert not lives(wait_for(tmp_path / "pid"))


def test_a_command_that_takes_too_long_is_ended(tmp_path: Path):
    code = (
        "import os, pathlib, time; pathlib.Path('pid').write_text(str(os.getpid())); time.sleep(99)"
    )
    with pytest.raises(TimeoutError, match="expected an end within 1 s"):
        Sessions().run(python(code), root=tmp_path, log=LOG, timeout_s=1)
    assert not lives(wait_for(tmp_path / "pid"))


@pytest.mark.slow
def test_ending_reaches_children_in_sessions_of_their_own_that_ignore_it(tmp_path: Path):
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"
    code = (
        "import pathlib, subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {stubborn!r}], start_new_session=True)\n"
        "time.sleep(0.5)\n"
        "pathlib.Path('pid').write_text(str(child.pid))\n"
        "time.sleep(300)"
    )
    sessions, caught = Sessions(), []

    def run():
        try:
            sessions.run(python(code), root=tmp_path, log=LOG)
        except InterruptedError as error:
            caught.append(str(error))

    runner = threading.Thread(target=run)
    runner.start()
    child = wait_for(tmp_path / "pid")
    sessions.end()
    runner.join(10)
    assert not lives(child)
    assert "ended, the run was cancelled" in caught[0]


def test_nothing_starts_after_the_end(tmp_path: Path):
    sessions = Sessions()
    sessions.end()
    with pytest.raises(InterruptedError, match="not started, the run was cancelled"):
        sessions.run(python("open('made', 'w')"), root=tmp_path, log=LOG)
    assert not (tmp_path / "made").exists()


def test_a_session_without_processes_needs_no_ending():
    started_s = time.monotonic()
    end_session(2**22 + 1)
    assert time.monotonic() - started_s < 2
