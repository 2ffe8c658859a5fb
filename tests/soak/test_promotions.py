"""Of two processes that promote at once one does, in a database of one's own and on a server."""

import os
import socket
import subprocess
import sys
import time
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from stages.promote import promote
from stages.registry import CHAMPION, PREVIOUS, aliases, connect
from tests.fixtures.registry import NAME, ROOT, add_version, write_policy

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]


@pytest.fixture(params=["database", "server"])
def client(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_policy(tmp_path)
    for package in ("dav2", "stages"):
        (tmp_path / package).symlink_to(ROOT / package)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    place = (tmp_path / "mlruns").as_uri()
    server = None
    if request.param == "server":
        server, address = start_server(tmp_path)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        place = None
    found = connect()
    found.create_experiment("depth", artifact_location=place)
    found.create_registered_model(NAME)
    yield found
    if server is not None:
        server.terminate()
        server.wait()


def start_server(folder):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1", "--serve-artifacts"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            urlopen(f"{address}/health").close()
        except URLError:
            time.sleep(0.2)
        else:
            return server, address
    server.kill()
    pytest.fail((folder / "server.log").read_text())


def test_of_two_processes_started_together_one_promotes(client):
    add_version(client, 0.5)
    assert promote(client, NAME).is_done
    add_version(client, 0.6)
    command = [sys.executable, "-m", "stages.promote", NAME]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    texts = [process.communicate()[1].decode() for process in both]
    assert sorted(process.returncode for process in both) == [0, 1], texts
    assert sum("version 2 is champion after version 1" in text for text in texts) == 1, texts
    assert sum("expected a challenger, got none" in text for text in texts) == 1, texts
    assert aliases(client, NAME) == {CHAMPION: "2", PREVIOUS: "1"}


def test_a_killed_promotion_leaves_a_lock_that_is_named_and_removed(client):
    from mlflow.exceptions import MlflowException

    add_version(client, 0.5)
    code = f"""
import sys, time
from stages.registry import connect, exclusive
with exclusive(connect(), {NAME!r}):
    print("held", flush=True)
    time.sleep(600)
"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    holder.kill()
    holder.wait()
    description = client.get_registered_model(f"{NAME}.lock").description
    assert f"process {holder.pid} on" in description
    subprocess.run([sys.executable, "-m", "stages.promote", NAME, "--unlock"], check=True)
    with pytest.raises(MlflowException, match="not found"):
        client.get_registered_model(f"{NAME}.lock")
    assert promote(client, NAME).is_done
