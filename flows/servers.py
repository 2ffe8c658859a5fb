"""The servers of a team on this machine: PostgreSQL, and on it Prefect and MLflow.

`infra/local.sh --help`; docs/schedules.md explains. Everything listens on 127.0.0.1 alone.
"""

import argparse
import contextlib
import json
import logging
import os
import secrets
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from flows import postgres
from flows.sessions import end_session
from flows.ui import HOST, free_port

SERVERS = ("postgres", "prefect", "mlflow")
"""In the order of starting; the others need the first."""
SECRETS = (
    "POSTGRES_PASSWORD",
    "PREFECT_API_AUTH_STRING",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_FLASK_SERVER_SECRET_KEY",
)
"""Variables of the environment that `start` needs; none is written to the disk."""
DATABASES = ("prefect", "mlflow", "mlflow_users")
START_LIMIT_S = 240.0

_FIRST_PORTS = {"postgres": 5432, "prefect": 4200, "mlflow": 5000}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Servers:
    """The servers whose databases, logs and process ids one folder holds."""

    folder: Path
    """Absolute. Everything but the secrets is in here."""
    ports: Mapping[str, int]
    artifacts: str
    """Where MLflow keeps artifacts: a folder or `s3://bucket/prefix`."""

    def start(self, name: str) -> None:
        """Starts one server and waits until it answers; does nothing if it runs.

        Raises:
            RuntimeError: If it ended, or did not answer within `START_LIMIT_S`.
            ValueError: If a secret is missing or its port is taken.
        """
        if self.is_running(name):
            return
        missing = [secret for secret in SECRETS if not os.environ.get(secret)]
        if missing:
            raise ValueError(
                f"environment: expected {', '.join(SECRETS)}, got no {', '.join(missing)} "
                "(`infra/local.sh secrets` makes some)"
            )
        if free_port(self.ports[name]) != self.ports[name]:
            raise ValueError(f"{HOST}:{self.ports[name]}: expected a free port, got a taken one")
        if name == "postgres":
            postgres.start(self.folder / "postgres", self.ports[name], DATABASES)
        else:
            self._start_process(name)
        logger.info("%s answers at %s", name, self.address(name))

    def stop(self, name: str) -> None:
        """Ends one server with all its processes; does nothing if it does not run."""
        if name == "postgres":
            postgres.stop(self.folder / "postgres")
        elif process := self._process(name):
            end_session(process.pid)
        self._record(name).unlink(missing_ok=True)

    def is_running(self, name: str) -> bool:
        """Tells whether a server's process lives."""
        if name == "postgres":
            return postgres.is_running(self.folder / "postgres")
        return self._process(name) is not None

    def address(self, name: str) -> str:
        """Returns where a server listens."""
        scheme = "postgresql" if name == "postgres" else "http"
        return f"{scheme}://{HOST}:{self.ports[name]}"

    def environment(self) -> dict[str, str]:
        """Returns what clients need besides the secrets."""
        return {
            "PREFECT_API_URL": f"{self.address('prefect')}/api",
            "MLFLOW_TRACKING_URI": self.address("mlflow"),
        }

    def _start_process(self, name: str) -> None:
        command, variables, health = self._plan(name)
        log = self.folder / f"{name}.log"
        with log.open("ab") as output:
            process = psutil.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, **variables},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        record = {"pid": process.pid, "started": process.create_time()}
        self._record(name).write_text(json.dumps(record), encoding="utf-8")
        try:
            port = self.ports[name]
            _wait_until(
                lambda: _listens(process, port) and _answers(self.address(name) + health),
                process,
                name,
                log,
            )
        except BaseException:
            self.stop(name)
            raise

    def _plan(self, name: str) -> tuple[list[str], dict[str, str], str]:
        """Returns command, variables and the path of the health check."""
        database = f"{HOST}:{self.ports['postgres']}"
        port = str(self.ports[name])
        # Addresses of databases are shown and logged, so none holds the password.
        variables = {
            "PGPASSWORD": os.environ["POSTGRES_PASSWORD"],
            "DO_NOT_TRACK": "true",
        }
        if name == "prefect":
            variables |= {
                "PREFECT_HOME": str(self.folder / "prefect"),
                "PREFECT_SERVER_DATABASE_CONNECTION_URL": (
                    f"postgresql+asyncpg://{postgres.USER}@{database}/prefect"
                ),
                "PREFECT_SERVER_API_AUTH_STRING": os.environ["PREFECT_API_AUTH_STRING"],
                "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": self.address(name),
                "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
                "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
                "PREFECT_API_URL": f"{self.address(name)}/api",
            }
            command = [sys.executable, "-m", "prefect", "server", "start"]
            return [*command, "--host", HOST, "--port", port], variables, "/api/health"
        users = self.folder / "mlflow_users.ini"
        users.write_text(
            "[mlflow]\ndefault_permission = READ\nauthorization_function = "
            "mlflow.server.auth:authenticate_request_basic_auth\n"
            f"database_uri = postgresql+psycopg://{postgres.USER}@{database}/mlflow_users\n",
            encoding="utf-8",
        )
        variables |= {
            "MLFLOW_BACKEND_STORE_URI": f"postgresql+psycopg://{postgres.USER}@{database}/mlflow",
            "MLFLOW_AUTH_CONFIG_PATH": str(users),
            "MLFLOW_AUTH_ADMIN_USERNAME": os.environ["MLFLOW_TRACKING_USERNAME"],
            "MLFLOW_AUTH_ADMIN_PASSWORD": os.environ["MLFLOW_TRACKING_PASSWORD"],
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # open to everybody who gets in
            "MLFLOW_SERVER_ALLOWED_HOSTS": f"{HOST}:{port},localhost:{port}",
            "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": f"http://{HOST}:{port},http://localhost:{port}",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth"]
        command += ["--host", HOST, "--port", port, "--workers", "1"]
        command += ["--serve-artifacts", "--artifacts-destination", self.artifacts]
        return command, variables, "/health"

    def _process(self, name: str) -> psutil.Process | None:
        """Returns the process that was started here, unless its number is somebody else's now."""
        if not self._record(name).is_file():
            return None
        record = json.loads(self._record(name).read_text(encoding="utf-8"))
        try:
            process = psutil.Process(record["pid"])
            ours = process.create_time() == record["started"]
            return process if ours and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    def _record(self, name: str) -> Path:
        return self.folder / f"{name}.json"


def open_servers(folder: Path, artifacts: str | None = None) -> Servers:
    """Returns the servers of a folder; the first time, ports that are free are chosen for good.

    Args:
        folder: Made if it does not exist.
        artifacts: A folder or `s3://bucket/prefix`; None for what was said the first time, or
            `artifacts` in the folder.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "servers.json"
    known = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
    ports = known.get("ports") or {name: free_port(port) for name, port in _FIRST_PORTS.items()}
    artifacts = artifacts or known.get("artifacts") or (folder / "artifacts").as_uri()
    content = json.dumps({"ports": ports, "artifacts": artifacts}, indent=1)
    settings.write_text(content, encoding="utf-8")
    return Servers(folder, ports, artifacts)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _listens(process: psutil.Process, port: int) -> bool:
    """Tells whether it is this process, or one below it, that has the port, and nobody else."""
    with contextlib.suppress(psutil.Error):  # gone meanwhile
        for one in (process, *process.children(recursive=True)):
            for connection in one.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                    return True
    return False


def _wait_until(done: Callable[[], bool], process: psutil.Popen, name: str, log: Path) -> None:
    deadline_s = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline_s and process.poll() is None:
        if done():
            return
        time.sleep(0.2)
    raise RuntimeError(f"{name}: expected an answer within {START_LIMIT_S:g} s, see {log}")


def _new_secrets() -> dict[str, str]:
    values = {name: secrets.token_urlsafe(24) for name in SECRETS}
    return values | {
        "PREFECT_API_AUTH_STRING": f"admin:{secrets.token_urlsafe(24)}",
        "MLFLOW_TRACKING_USERNAME": "admin",
    }


def _export(variables: Mapping[str, str]) -> str:
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


def main(arguments: Sequence[str]) -> int:
    """Does what the command line says; returns 1 if `status` finds a server that does not run.

    Raises:
        SystemExit: With one line, if something is missing or does not start.
    """
    parser = argparse.ArgumentParser(
        prog="infra/local.sh", description="PostgreSQL, Prefect and MLflow on this machine."
    )
    what = parser.add_subparsers(dest="what", required=True)
    what.add_parser("secrets", help="print new secrets, to be kept and sourced by a shell")
    for name, says in (
        ("start", "start what does not run"),
        ("stop", "end all of them"),
        ("status", "tell what runs; 1 if something does not"),
        ("environment", "print what clients need besides the secrets"),
        ("restart", "end and start one of them"),
    ):
        command = what.add_parser(name, help=says)
        if name == "restart":
            command.add_argument("server", choices=SERVERS)
        command.add_argument("folder", nargs="?", type=Path, default=Path(".servers"))
        if name == "start":
            command.add_argument("--artifacts", help="s3://bucket/prefix; default: in the folder")
    options = parser.parse_args(arguments)
    if options.what == "secrets":
        sys.stdout.write(_export(_new_secrets()))
        return 0
    try:
        return _do(options)
    except (ValueError, RuntimeError, OSError) as error:
        raise SystemExit(str(error)) from None


def _do(options: argparse.Namespace) -> int:
    servers = open_servers(options.folder, getattr(options, "artifacts", None))
    match options.what:
        case "start":
            for name in SERVERS:
                servers.start(name)
        case "stop":
            for name in reversed(SERVERS):
                servers.stop(name)
        case "restart":
            servers.stop(options.server)
            servers.start(options.server)
        case "environment":
            sys.stdout.write(_export(servers.environment()))
        case "status":
            running = {name: servers.is_running(name) for name in SERVERS}
            for name, runs in running.items():
                sys.stdout.write(
                    f"{name} {'runs at ' + servers.address(name) if runs else 'does not run'}\n"
                )
            return 0 if all(running.values()) else 1
    return 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    sys.exit(main(sys.argv[1:]))
