"""Runs DVC for one stage at a time and tells apart how it ended."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from flows.graph import Stage
from flows.sessions import Log, Sessions

Outcome = Literal["Completed", "UpToDate", "Restored"]

_TAIL = 12


def run_stage(
    stage: Stage,
    sessions: Sessions,
    *,
    root: Path,
    log: Log,
    device: str | None = None,
    timeout_s: float | None = None,
) -> Outcome:
    """Brings one stage up to date, what it needs being so already.

    Waits for DVC's lock on the project, so that independent stages may run side by side.

    Args:
        stage: What to run.
        sessions: Owner of the processes; cancelling ends them there.
        root: Folder with `.dvc`.
        log: Gets the lines of the stage.
        device: What it sees as CUDA_VISIBLE_DEVICES; None leaves that as it is.
        timeout_s: Limit after which it is ended; None for no limit.

    Returns:
        `Completed` if its command ran, `UpToDate` if nothing had changed, `Restored` if DVC had
        results of the same inputs and code in its cache.

    Raises:
        RuntimeError: If DVC failed; the message ends with its last lines.
    """
    environment = {} if device is None else {"CUDA_VISIBLE_DEVICES": device}
    command = ["--wait-for-lock", "repro", "--single-item", stage.name]
    status, output = sessions.run(
        dvc_command(*command),
        root=root,
        log=log,
        environment={**child_environment(), **environment},
        timeout_s=timeout_s,
    )
    if status:
        tail = "\n".join(_without_advice(output)[-_TAIL:])
        raise RuntimeError(f"{stage.name}: expected exit status 0, got {status}\n{tail}")
    if f"Stage '{stage.name}' didn't change, skipping" in output:
        return "UpToDate"
    if f"Stage '{stage.name}' is cached - skipping run" in output:
        return "Restored"
    return "Completed"


def stages_left(sessions: Sessions, *, root: Path, log: Log) -> list[str]:
    """Returns the stages that a plain `dvc repro` would still run; empty after a full rebuild."""
    status, output = sessions.run(
        dvc_command("--wait-for-lock", "repro", "--dry"),
        root=root,
        log=log,
        environment=child_environment(),
    )
    if status:
        raise RuntimeError(f"dvc repro --dry: expected exit status 0, got {status}\n{output}")
    running = (line for line in output.splitlines() if line.startswith("Running stage '"))
    return [line.split("'")[1] for line in running]


def dvc_command(*arguments: str) -> list[str]:
    """Returns a command line for the DVC of this Python."""
    return [sys.executable, "-m", "dvc", *arguments]


def child_environment() -> Mapping[str, str]:
    """Returns variables with which `python` in a stage's command is the one that runs this."""
    folder = str(Path(sys.executable).parent)
    return {
        "PATH": os.pathsep.join([folder, os.environ.get("PATH", os.defpath)]),
        "PYTHONUNBUFFERED": "1",
        "DO_NOT_TRACK": "true",
        "DVC_NO_ANALYTICS": "1",
    }


def _without_advice(output: str) -> list[str]:
    """Returns the lines that are not DVC's hints about git and pushing."""
    hints = ("To track the changes", "To enable auto staging", "git add", "dvc config", "Use `dvc")
    lines = (line.strip() for line in output.splitlines())
    return [line for line in lines if line and not line.startswith(hints)]
