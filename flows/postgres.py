"""A PostgreSQL server in a folder, from the distribution's packages."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import psycopg
from psycopg import sql

from flows.ui import HOST

USER = "postgres"
"""The role that owns the databases, and the account that runs the server if this is root."""


def start(folder: Path, port: int, databases: Sequence[str]) -> None:
    """Starts a server at 127.0.0.1 and creates the databases that do not exist.

    Only those who know the password in POSTGRES_PASSWORD get in; there is no socket file.

    Args:
        folder: Its data; made if it does not exist.
        port: Where it listens.
        databases: Names.

    Raises:
        RuntimeError: With the last lines of its log, if it does not start.
        FileNotFoundError: If PostgreSQL is not installed.
    """
    if not (folder / "PG_VERSION").is_file():
        _create(folder)
    options = f"-c listen_addresses={HOST} -c port={port} -c unix_socket_directories=''"
    _control(folder, "start", "--wait", "--log", str(folder / "server.log"), "--options", options)
    with psycopg.connect(
        host=HOST, port=port, user=USER, password=os.environ["POSTGRES_PASSWORD"], autocommit=True
    ) as connection:
        there = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
        for name in databases:
            if name not in there:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def stop(folder: Path) -> None:
    """Ends the server; what clients have not committed is rolled back."""
    if is_running(folder):
        _control(folder, "stop", "--wait", "--mode", "fast")


def is_running(folder: Path) -> bool:
    """Tells whether the server of a folder runs."""
    if not (folder / "postmaster.pid").is_file():
        return False
    return _run(["pg_ctl", "status", "--pgdata", str(folder)]).returncode == 0


def _create(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    if os.geteuid() == 0:
        shutil.chown(folder, USER, USER)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as password:
        password.write(os.environ["POSTGRES_PASSWORD"])
        password.flush()
        if os.geteuid() == 0:
            shutil.chown(password.name, USER)
        command = ["initdb", "--pgdata", str(folder), "--username", USER, "--encoding", "UTF8"]
        command += ["--locale", "C", "--auth", "scram-sha-256", "--pwfile", password.name]
        done = _run(command)
    if done.returncode:
        raise RuntimeError(
            f"{folder}: expected a folder that {USER} may reach and write, got: "
            f"{(done.stderr or done.stdout).strip().splitlines()[-1]}"
        )


def _control(folder: Path, *arguments: str) -> None:
    done = _run(["pg_ctl", *arguments, "--pgdata", str(folder)])
    if done.returncode:
        log = folder / "server.log"
        tail = log.read_text(encoding="utf-8").splitlines()[-3:] if log.is_file() else []
        said = " / ".join(tail) or (done.stderr or done.stdout).strip()
        raise RuntimeError(f"postgres: expected pg_ctl {arguments[0]} to succeed, got: {said}")


def _run(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """Runs a program of PostgreSQL, which refuses to work for root, as its own account."""
    arguments = [_program(command[0]), *command[1:]]
    if os.geteuid() == 0:
        arguments = ["runuser", "-u", USER, "--", *arguments]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        # A file rather than a pipe: the server inherits it and would keep the pipe open.
        done = subprocess.run(
            arguments, cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        output.seek(0)
        return subprocess.CompletedProcess(arguments, done.returncode, output.read(), "")


def _program(name: str) -> str:
    """Returns the path of a program; Debian keeps those of a server out of PATH."""
    if found := shutil.which(name):
        return found
    versions = Path("/usr/lib/postgresql").glob(f"*/bin/{name}")
    newest = max(versions, key=lambda path: int(path.parts[4]), default=None)
    if newest is None:
        raise FileNotFoundError(
            f"{name}: expected PostgreSQL to be installed (Debian: apt-get install postgresql)"
        )
    return str(newest)
