"""A DVC project of four stages, and one Prefect server for all tests of flows."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PIPELINE = """
stages:
  left:
    cmd: python step.py left
    deps: [source.txt, step.py]
    outs: [left.txt]
  right:
    cmd: python step.py right
    deps: [source.txt, step.py]
    outs: [right.txt]
  gate_join:
    cmd: python step.py join
    deps: [left.txt, right.txt, step.py]
    outs: [verdict.json]
  report:
    cmd: python step.py report
    deps: [verdict.json, step.py]
    outs: [report.txt]
    metrics: [numbers/metrics.json]
"""

STEP = """
import json, pathlib, subprocess, sys, time
name, here = sys.argv[1], pathlib.Path()
with (here / "ran.log").open("a") as log:
    log.write(f"start {name} {time.monotonic()}\\n")
order = here / f"{name}.order"
if order.exists() and order.read_text() == "fail":
    sys.exit(f"{name}: expected luck, got none")
if order.exists() and order.read_text() == "hang":
    # A child in a session of its own, as some launchers start them, that ignores being asked.
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"
    child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    (here / "hanging").write_text(str(child.pid))
    time.sleep(300)
if order.exists() and order.read_text() == "meet":  # only side by side can both go on
    (here / f"{name}.here").touch()
    patience_s = time.monotonic() + 60
    while len(list(here.glob("*.here"))) < 2:
        if time.monotonic() > patience_s:
            sys.exit(f"{name}: expected company, got none")
        time.sleep(0.05)
verdict = {"gate": "join", "verdict": "", "success": True, "expectations": [
    {"says": "it is so", "severity": "warning", "limit": "1", "seen": "2", "success": False}]}
match name:
    case "join": (here / "verdict.json").write_text(json.dumps(verdict))
    case "report" if "--partial" in sys.argv: (here / "partial.txt").write_text("so far")
    case "report":
        (here / "numbers").mkdir(exist_ok=True)
        (here / "numbers" / "metrics.json").write_text('{"wild": {"delta1": 0.5}}')
        (here / "report.txt").write_text("all")
    case _: (here / f"{name}.txt").write_text(name + (here / "source.txt").read_text())
with (here / "ran.log").open("a") as log:
    log.write(f"end {name} {time.monotonic()}\\n")
"""


@pytest.fixture
def dvc(tmp_path: Path) -> Callable[..., str]:
    """Runs DVC in the project and returns what it says."""

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "dvc", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout

    return run


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, initialised: Path) -> Path:
    """A fresh project: a diamond whose join is a gate."""
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(initialised, tmp_path, dirs_exist_ok=True)
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "step.py").write_text(STEP)
    (tmp_path / "source.txt").write_text("1")
    return tmp_path


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """One server with an empty database for the whole session."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield
