"""What `infra/local.sh` does before it starts anything; tests/soak starts it all."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from flows import postgres, servers
from flows.servers import SECRETS, Servers, main, open_servers

PORTS = {"postgres": 1, "prefect": 2, "mlflow": 3}


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "not-to-be-seen")


def test_new_secrets_are_shell_lines_that_differ_each_time(capsys):
    assert main(["secrets"]) == 0
    first = capsys.readouterr().out
    main(["secrets"])
    assert capsys.readouterr().out != first
    shown = subprocess.run(
        ["sh", "-c", f"{first}env"], capture_output=True, text=True, check=True, env={}
    ).stdout
    found = dict(line.split("=", 1) for line in shown.splitlines())
    assert set(SECRETS) <= set(found)
    assert len(found["MLFLOW_TRACKING_PASSWORD"]) >= 24
    assert found["PREFECT_API_AUTH_STRING"].startswith("admin:")


def test_a_missing_secret_is_named(tmp_path: Path, monkeypatch, secrets):
    monkeypatch.delenv("POSTGRES_PASSWORD")
    with pytest.raises(SystemExit, match=r"^environment: expected .* got no POSTGRES_PASSWORD"):
        main(["start", str(tmp_path)])
    assert not (tmp_path / "postgres").exists()


def test_ports_stay_as_they_were_first_chosen(tmp_path: Path):
    first = open_servers(tmp_path)
    with socket.create_server(("127.0.0.1", first.ports["mlflow"])):
        again = open_servers(tmp_path)
        assert again.ports == first.ports
        other = open_servers(tmp_path / "other")
    assert other.ports["mlflow"] != first.ports["mlflow"]
    assert first.artifacts == (tmp_path / "artifacts").as_uri()
    open_servers(tmp_path, "s3://bucket/models")
    assert open_servers(tmp_path).artifacts == "s3://bucket/models"


def test_a_taken_port_is_refused(tmp_path: Path, secrets):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = Servers(tmp_path, PORTS | {"mlflow": port}, "file:///nowhere")
        with pytest.raises(ValueError, match=rf"127\.0\.0\.1:{port}: expected a free port"):
            found.start("mlflow")


def test_no_password_stands_in_a_command_or_a_file(tmp_path: Path, secrets):
    found = Servers(tmp_path, PORTS, "file:///nowhere")
    for name in ("prefect", "mlflow"):
        command, variables, _ = found._plan(name)
        assert not [part for part in command if "not-to-be-seen" in part]
        addresses = [value for value in variables.values() if "postgresql" in value]
        assert addresses
        assert not [value for value in addresses if "not-to-be-seen" in value]
    for path in tmp_path.iterdir():
        assert "not-to-be-seen" not in path.read_text()


def test_status_tells_a_server_that_ended_from_another_process_of_its_number(tmp_path, capsys):
    found = open_servers(tmp_path)
    record = tmp_path / "prefect.json"
    record.write_text(f'{{"pid": {os.getpid()}, "started": 1.0}}')
    assert not found.is_running("prefect")
    record.write_text(f'{{"pid": {os.getpid()}, "started": {psutil.Process().create_time()!r}}}')
    assert found.is_running("prefect")
    assert main(["status", str(tmp_path)]) == 1
    assert "postgres does not run\nprefect runs at http://127.0.0.1:" in capsys.readouterr().out


def test_a_server_that_ends_while_starting_is_reported_with_its_log(tmp_path, monkeypatch, secrets):
    found = Servers(tmp_path, open_servers(tmp_path).ports, "file:///nowhere")
    broken = ([sys.executable, "-c", "raise SystemExit('no')"], {}, "/health")
    monkeypatch.setattr(Servers, "_plan", lambda *_: broken)
    with pytest.raises(RuntimeError, match=r"mlflow: expected an answer .* see .*mlflow\.log"):
        found.start("mlflow")
    assert (tmp_path / "mlflow.log").read_text() == "no\n"
    assert not found.is_running("mlflow")


def test_a_machine_without_postgresql_is_told_what_to_install(tmp_path: Path, monkeypatch, secrets):
    monkeypatch.setattr("flows.postgres.shutil.which", lambda _: None)
    monkeypatch.setattr(Path, "glob", lambda *_: iter(()))
    with pytest.raises(FileNotFoundError, match="initdb: expected PostgreSQL to be installed"):
        postgres.start(tmp_path / "data", 1, ())


def test_the_script_finds_the_project_from_any_folder(tmp_path: Path):
    script = Path(servers.__file__).parents[1] / "infra" / "local.sh"
    assert script.stat().st_mode & stat.S_IXUSR
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [script, "status"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path},
    )
    assert done.returncode == 1, done.stderr
    assert "mlflow does not run" in done.stdout
