"""Commands that run in sessions of their own, so that ending one ends all it started."""

import contextlib
import io
import logging
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import psutil

from flows.guard import guarded

GRACE_S = 5.0
"""How long a session may take to end by itself before it is killed."""
PROGRESS_EVERY_S = 10.0
"""How often a progress bar leaves a line in the log."""

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]


class Sessions:
    """The commands that one run has in progress, in any number of threads; leaving ends them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._leaders: set[int] = set()
        self._ended = False

    def __enter__(self) -> "Sessions":
        return self

    def __exit__(self, *_: object) -> None:
        # In a thread of its own, so that a second Ctrl-C cannot cut it short.
        ending = threading.Thread(target=self.end)
        ending.start()
        ending.join()

    def run(
        self,
        command: Sequence[str],
        *,
        root: Path,
        log: Log,
        environment: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> tuple[int, str]:
        """Runs a command in its own session, passes its lines to the log and waits for it.

        Whatever the command started and left behind is ended when this returns or raises, and also
        if this process is killed meanwhile.

        Args:
            command: Program and arguments.
            root: Folder to run in.
            log: Gets each line of both outputs; of a progress bar one in `PROGRESS_EVERY_S`.
            environment: Variables added to those of this process.
            timeout_s: Limit after which the session is ended; None for no limit.

        Returns:
            Exit status and the lines of both outputs, without those of progress bars.

        Raises:
            TimeoutError: If the limit passed.
            InterruptedError: If `end` was called before or meanwhile.
        """
        process = self._start(command, root, environment)
        lines: list[str] = []
        reader = threading.Thread(target=_follow, args=(process, log, lines), daemon=True)
        try:
            with guarded(process.pid):
                try:
                    reader.start()
                    status = process.wait(timeout_s)
                finally:
                    end_session(process.pid)
        except subprocess.TimeoutExpired:
            raise TimeoutError(
                f"{' '.join(command)}: expected an end within {timeout_s:g} s, got none"
            ) from None
        finally:
            process.wait()
            self._leaders.discard(process.pid)
        reader.join(GRACE_S)
        if self._ended:
            raise InterruptedError(f"{' '.join(command)}: ended, the run was cancelled")
        return status, "\n".join(lines)

    def end(self) -> None:
        """Ends every command in progress, from whatever thread, and lets none start any more."""
        with self._lock:
            self._ended = True
            running = list(self._leaders)
        for leader in running:
            end_session(leader)

    def _start(
        self, command: Sequence[str], root: Path, environment: Mapping[str, str] | None
    ) -> "subprocess.Popen[bytes]":
        with self._lock:  # `end` sees either the process, or keeps it from starting
            if self._ended:
                raise InterruptedError(f"{' '.join(command)}: not started, the run was cancelled")
            process = subprocess.Popen(
                command,
                cwd=root,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._leaders.add(process.pid)
        return process


def end_session(leader: int, grace_s: float = GRACE_S) -> None:
    """Ends all processes of a session, and those that descend from them in other sessions.

    Args:
        leader: Process id that the session began with; it need not live any more.
        grace_s: Seconds between asking and killing.
    """
    _end(lambda: _members(leader), grace_s)


def end_children(older: Collection[psutil.Process], grace_s: float = GRACE_S) -> None:
    """Ends the processes that this one started, in whatever session, and what descends from them.

    Args:
        older: Children of this process that are to live on, as those from before a run.
        grace_s: Seconds between asking and killing.
    """

    def find() -> dict[int, psutil.Process]:
        found: dict[int, psutil.Process] = {}
        for child in psutil.Process().children():
            if child not in older:
                found[child.pid] = child
                with contextlib.suppress(psutil.Error):  # gone already
                    found |= {below.pid: below for below in child.children(recursive=True)}
        return found

    _end(find, grace_s)


def _end(find: Callable[[], dict[int, psutil.Process]], grace_s: float) -> None:
    """Ends all processes that are found, by process id, until none is found that lives.

    Asks with SIGTERM and kills after the grace period. Stopped processes are continued, so that
    they can end.
    """
    asked: dict[int, psutil.Process] = {}
    deadline_s = time.monotonic() + grace_s
    while living := [p for p in {**asked, **find()}.values() if _lives(p)]:
        for process in living:
            if time.monotonic() > deadline_s:
                _send(process, signal.SIGKILL)
            elif process.pid not in asked:
                _send(process, signal.SIGTERM)
                _send(process, signal.SIGCONT)
            asked[process.pid] = process
        time.sleep(0.05)


def _members(leader: int) -> dict[int, psutil.Process]:
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader:
                found[process.pid] = process
                found |= {child.pid: child for child in process.children(recursive=True)}
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue  # gone already, or somebody else's
    return found


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _send(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.Error):  # gone already
        process.send_signal(number)


def _follow(process: "subprocess.Popen[bytes]", log: Log, lines: list[str]) -> None:
    assert process.stdout is not None
    shown_s = 0.0
    # No newline translation: progress bars end in carriage returns.
    with io.TextIOWrapper(process.stdout, encoding="utf-8", errors="replace", newline="") as stream:
        for line in stream:
            text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", line).strip("\r\n")
            if line.endswith("\r"):
                if time.monotonic() - shown_s < PROGRESS_EVERY_S:
                    continue
                shown_s = time.monotonic()
            else:
                lines.append(text)
            if text.strip():
                log.info("%s", text)
