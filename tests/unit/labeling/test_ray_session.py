"""The keeper ends whatever its Ray left, when its owner ends; `make soak` starts a real Ray."""

import shutil
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest

from dav2.labeling import ray_session

# Stands for Ray: a process whose parent ends at once, in a session of its own, deaf to SIGTERM.
KEEPER = """
import subprocess, sys, time
from pathlib import Path
from dav2.labeling import ray_session

ORPHAN = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
ORPHAN += "os.setsid(); print(os.getpid(), flush=True); time.sleep(300)"

def start(folder, num_cpus, num_gpus):
    command = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]])"
    made = subprocess.Popen(
        [sys.executable, "-c", command, ORPHAN], stdout=subprocess.PIPE
    )
    address = made.stdout.readline().decode().strip()
    if sys.argv[2] == "starting":
        print(address, flush=True)
        time.sleep(300)
    return address

ray_session._start = start
ray_session._keep(Path(sys.argv[1]), 1, 0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are inherited on Linux alone")
@pytest.mark.parametrize("how", ["closed", "terminated", "starting"])
def test_the_keeper_ends_orphans_and_removes_its_folder(tmp_path, how):
    folder = tmp_path / "ray"
    folder.mkdir()
    keeper = subprocess.Popen(
        [sys.executable, "-c", KEEPER, str(folder), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    orphan = psutil.Process(int(keeper.stdout.readline()))
    try:
        if how == "terminated":
            keeper.terminate()
        else:
            keeper.stdin.close()
        assert keeper.wait(timeout=60) == 0
        assert not orphan.is_running()
        assert not folder.exists()
    finally:
        with suppress(psutil.NoSuchProcess):
            orphan.kill()
        keeper.kill()


def test_a_ray_that_does_not_start_is_one_line(monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    for name in [*ray_session.ENVIRONMENT, "RAY_AUTH_TOKEN"]:
        monkeypatch.setenv(name, "")
    started_s = time.monotonic()
    with (
        pytest.raises(ConnectionError, match="expected Ray to start on this machine, got nothing"),
        ray_session.local_ray(num_cpus=1, num_gpus=0),
    ):
        pass
    assert time.monotonic() - started_s < 60
