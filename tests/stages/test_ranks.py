"""Which rank a process is, and that ranks end."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages.ranks import end_with_first_rank, is_first_rank, rank

PROJECT = Path(__file__).parents[2]
# Starts another rank, as Lightning does, says its number and dies.
FIRST = """
import os, signal, subprocess, sys
from stages.ranks import end_with_first_rank
end_with_first_rank()
other = "import time; from stages.ranks import end_with_first_rank; end_with_first_rank()"
env = {**os.environ, "LOCAL_RANK": "1"}
child = subprocess.Popen([sys.executable, "-c", other + "; time.sleep(60)"], env=env)
print(child.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def _lone_process(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "DAV2_FIRST_RANK_PID"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, 0),
        ({"RANK": "5", "LOCAL_RANK": "1"}, 5),
        ({"LOCAL_RANK": "1", "SLURM_PROCID": "0"}, 1),
        ({"SLURM_PROCID": "3"}, 3),
    ],
)
def test_the_rank_is_the_one_among_all_machines(monkeypatch, given, expected):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert rank() == expected
    assert is_first_rank() == (expected == 0)


def test_a_rank_that_the_first_one_did_not_start_is_refused(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ValueError, match="started by the first one, got rank 2 from elsewhere"):
        end_with_first_rank()


def test_no_rank_outlives_the_first_one():
    ended = subprocess.run(
        [sys.executable, "-c", FIRST], cwd=PROJECT, capture_output=True, text=True, timeout=30
    )
    begin = time.monotonic()
    while Path(f"/proc/{int(ended.stdout)}").exists() and _state(int(ended.stdout)) != "Z":
        assert time.monotonic() - begin < 10
        time.sleep(0.05)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"
