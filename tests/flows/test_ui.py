import os
import pty
import re
import select
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from flows import ui
from flows.ui import HOST, ReportHandler, Service, free_port, services

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def site(tmp_path: Path):
    """A project with a report, a script beside it and something that is nobody's business."""
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "index.html").write_text("the report")
    (tmp_path / ".work").mkdir()
    (tmp_path / ".work" / "run_facts.js").write_text("facts")
    (tmp_path / ".work" / "report_facts.html").write_text("champion")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "reports" / "link.txt").symlink_to(tmp_path / "secret.txt")
    handler = partial(ReportHandler, directory=str(tmp_path))
    server = ThreadingHTTPServer((HOST, 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://{HOST}:{server.server_port}"
    server.shutdown()
    server.server_close()


def fetched(address: str, **headers: str) -> str | int:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_the_report_and_the_scripts_beside_it_are_served(site: str):
    assert fetched(f"{site}/") == "the report"
    assert fetched(f"{site}/reports/index.html") == "the report"
    assert fetched(f"{site}/.work/run_facts.js") == "facts"
    assert fetched(f"{site}/.work/report_facts.html") == "champion"


@pytest.mark.parametrize("path", ["/secret.txt", "/reports/../secret.txt", "/reports/link.txt"])
def test_nothing_else_of_the_project_is_served(site: str, path: str):
    assert fetched(f"{site}{path}") == 404


def test_a_foreign_name_for_this_machine_is_refused(site: str):
    assert fetched(f"{site}/reports/index.html", Host="example.org") == 403


def test_a_taken_port_is_passed_over():
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert port < free_port(port) < port + 100


def test_without_a_free_port_it_says_so(monkeypatch: pytest.MonkeyPatch):
    def refuse(self, address):
        raise OSError("taken")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(RuntimeError, match="expected a free port from 5000 to 5099, got none"):
        free_port(5000)


def test_only_servers_that_the_environment_does_not_name_are_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.org")
    assert [service.name for service in services(tmp_path)] == ["Prefect"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////data/team.db")
    monkeypatch.setenv("PREFECT_API_URL", "https://prefect.example.org/api")
    (only,) = services(tmp_path)
    assert only.name == "MLflow"
    assert "sqlite:////data/team.db" in only.command
    assert only.environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert "--host 127.0.0.1" in " ".join(only.command)


def run_in_terminal(folder: Path, **environment: str) -> tuple[subprocess.Popen, int]:
    """Starts the screen in `folder` on a terminal of its own; returns it and our end of that."""
    ours, theirs = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if "PREFECT_" not in name}
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.ui"],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT), **environment},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    return process, ours


def read_until(terminal: int, words: str, limit_s: float) -> str:
    shown, deadline_s = "", time.monotonic() + limit_s
    while words not in shown:
        assert time.monotonic() < deadline_s, shown
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 4096).decode()
    return shown


def test_enter_ends_it(tmp_path: Path):
    process, terminal = run_in_terminal(
        tmp_path,
        MLFLOW_TRACKING_URI="http://mlflow.test",
        PREFECT_API_URL="http://prefect.test/api",
    )
    shown = read_until(terminal, "Press Enter", 30)
    assert "MLflow   http://mlflow.test (named by the environment)" in shown
    os.write(terminal, b"\n")
    read_until(terminal, "Stopped.", 10)
    assert process.wait(10) == 0
    os.close(terminal)


@pytest.mark.slow
def test_all_three_answer_and_none_is_left_after_ctrl_c(tmp_path: Path):
    process, terminal = run_in_terminal(tmp_path)
    shown = read_until(terminal, "Press Enter", 150)
    addresses = dict(re.findall(r"(Report|MLflow|Prefect) +(http://127\.0\.0\.1:\d+/)", shown))
    assert fetched(addresses["Report"]) == 404  # nothing rebuilt yet
    assert "MLflow" in str(fetched(addresses["MLflow"]))
    assert fetched(addresses["Prefect"] + "api/health") == "true"
    started = psutil.Process(process.pid).children(recursive=True)
    assert len(started) >= 2
    os.kill(process.pid, 2)
    read_until(terminal, "Stopped.", 30)
    assert process.wait(10) == 0
    assert [one for one in started if one.is_running() and one.status() != "zombie"] == []
    os.close(terminal)


def test_a_server_that_dies_at_its_start_ends_the_screen(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    broken = Service("Broken", f"http://{HOST}:1/", [sys.executable, "-c", "raise SystemExit(3)"])
    monkeypatch.setattr(ui, "services", lambda root: [broken])
    assert ui.main() == 1


def test_a_server_that_never_answers_is_told(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ui, "START_LIMIT_S", 0.2)
    silent = Service("Silent", f"http://{HOST}:1/", [])
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with pytest.raises(RuntimeError, match="Silent: expected an answer at http"):
        ui._wait_until_up(silent, process)
    process.kill()
    process.wait()


def test_a_server_that_dies_later_ends_the_screen_too():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    with pytest.raises(RuntimeError, match=r"Late: ended by itself, see \.work/ui/late\.log"):
        ui._wait_for_key([(Service("Late", "", []), process)])
