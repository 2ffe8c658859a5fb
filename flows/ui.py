"""Shows MLflow, Prefect and the report on this machine until a key is pressed (`make ui`)."""

import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from flows.sessions import end_session

HOST = "127.0.0.1"
LOGS = Path(".work/ui")
START_LIMIT_S = 180.0

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Service:
    """One server that runs as a process of its own."""

    name: str
    address: str
    command: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)


class ReportHandler(SimpleHTTPRequestHandler):
    """Serves the report and what it shows beside itself, nothing else of the project."""

    SHOWN = ("/reports/", "/.work/run_facts.js", "/.work/report_facts.html", "/.work/data_docs/")

    def do_GET(self) -> None:
        """Answers with a file; `/` leads to the report."""
        host = self.headers.get("Host", "").partition(":")[0]
        if host not in (HOST, "localhost"):  # a page elsewhere whose name was pointed here
            self.send_error(403)
        elif self.path == "/":
            self.send_response(302)
            self.send_header("Location", "/reports/index.html")
            self.end_headers()
        else:
            super().do_GET()

    def translate_path(self, path: str) -> str:
        """Returns the file of an address; one that does not exist for what is not shown."""
        root = Path(self.directory).resolve()
        found = Path(super().translate_path(path)).resolve()
        shown = any(found.is_relative_to(root / prefix.strip("/")) for prefix in self.SHOWN)
        return str(found if shown else root / "not-shown")

    def log_message(self, format: str, *args: Any) -> None:
        """Keeps the terminal quiet."""


def main() -> int:
    """Starts the servers, shows their addresses, waits for Enter or Ctrl-C and ends them all.

    A server that the environment names (MLFLOW_TRACKING_URI, PREFECT_API_URL) is shown, not
    started. What the others say goes to `.work/ui`.

    Returns:
        0 after the key, 1 if a server ended by itself or did not start.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    before = {number: signal.signal(number, _as_interrupt) for number in _ENDING}
    root = Path.cwd()
    LOGS.mkdir(parents=True, exist_ok=True)
    report = ThreadingHTTPServer(
        (HOST, free_port(8000)), partial(ReportHandler, directory=str(root))
    )
    threading.Thread(target=report.serve_forever, daemon=True).start()
    running: list[tuple[Service, subprocess.Popen[bytes]]] = []
    status = 0
    try:
        logger.info("Starting; the first time this takes up to a minute ...")
        for service in services(root):
            running.append((service, _start(service)))
        for name, address in _foreign():
            logger.info("%-8s %s (named by the environment)", name, address)
        missing = "" if Path("reports/index.html").is_file() else " (none yet: `make repro`)"
        logger.info("%-8s http://%s:%d/%s", "Report", HOST, report.server_port, missing)
        for service, process in running:
            _wait_until_up(service, process)
            logger.info("%-8s %s", service.name, service.address)
        logger.info("Press Enter or Ctrl-C to stop all of them.")
        status = _wait_for_key(running)
    except KeyboardInterrupt:
        pass
    except RuntimeError as error:
        logger.error("%s", error)
        status = 1
    finally:
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)  # the ending is not to be cut short
        for _, process in running:
            end_session(process.pid)
            process.wait()
        report.shutdown()
        for number, handler in before.items():
            signal.signal(number, handler)
    logger.info("Stopped.")
    return status


def services(root: Path) -> list[Service]:
    """Returns the servers to start here: those the environment does not name."""
    found = []
    if not _is_server(os.environ.get("MLFLOW_TRACKING_URI", "")):
        found.append(_mlflow(root, free_port(5000)))
    if not os.environ.get("PREFECT_API_URL"):
        found.append(_prefect(free_port(4200)))
    return found


def free_port(first: int) -> int:
    """Returns the first port from `first` on that nobody listens at.

    Raises:
        RuntimeError: If 100 in a row are taken.
    """
    for port in range(first, first + 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"{HOST}: expected a free port from {first} to {first + 99}, got none")


def _mlflow(root: Path, port: int) -> Service:
    store = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root / 'mlflow.db'}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port)]
    command += ["--backend-store-uri", store, "--no-serve-artifacts", "--workers", "1"]
    command += ["--default-artifact-root", (root / "mlruns").as_uri()]
    return Service(
        name="MLflow",
        address=f"http://{HOST}:{port}/",
        command=command,
        environment={
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # open to everybody who gets in
            "MLFLOW_SERVER_ALLOWED_HOSTS": f"{HOST}:{port},localhost:{port}",
            "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": f"http://{HOST}:{port},http://localhost:{port}",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
        },
    )


def _prefect(port: int) -> Service:
    return Service(
        name="Prefect",
        address=f"http://{HOST}:{port}/",
        command=[
            *(sys.executable, "-m", "prefect", "server", "start"),
            *("--host", HOST, "--port", str(port)),
        ],
        environment={
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
            "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": f"http://{HOST}:{port}",
            "DO_NOT_TRACK": "true",
        },
    )


def _foreign() -> list[tuple[str, str]]:
    named = [
        ("MLflow", os.environ.get("MLFLOW_TRACKING_URI", "")),
        ("Prefect", os.environ.get("PREFECT_API_URL", "").removesuffix("/api")),
    ]
    return [(name, address) for name, address in named if _is_server(address)]


def _is_server(address: str) -> bool:
    return address.startswith(("http://", "https://"))


def _start(service: Service) -> "subprocess.Popen[bytes]":
    with (LOGS / f"{service.name.lower()}.log").open("wb") as log:
        return subprocess.Popen(
            service.command,
            env={**os.environ, **service.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _wait_until_up(service: Service, process: "subprocess.Popen[bytes]") -> None:
    port = int(service.address.rstrip("/").rpartition(":")[2])
    deadline_s = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline_s and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.1)
    log = LOGS / f"{service.name.lower()}.log"
    raise RuntimeError(f"{service.name}: expected an answer at {service.address}, see {log}")


def _wait_for_key(running: Sequence[tuple[Service, "subprocess.Popen[bytes]"]]) -> int:
    listening = sys.stdin is not None and sys.stdin.isatty()
    while all(process.poll() is None for _, process in running):
        if not listening:
            time.sleep(0.2)
        elif select.select([sys.stdin], [], [], 0.2)[0]:
            sys.stdin.readline()
            return 0
    name = next(service.name for service, process in running if process.poll() is not None)
    raise RuntimeError(f"{name}: ended by itself, see {LOGS / f'{name.lower()}.log'}")


def _as_interrupt(_number: int, _frame: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
