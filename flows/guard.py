"""Ends what nobody would end any more: the stage of a run that was killed, a run without a worker.

`python -m flows.guard <leader>` is started beside every session; `flows.sessions` does that.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from uuid import UUID

WORKER_CHECK_S = 0.5
"""How often a run looks whether the worker that started it lives."""

_ASKING_LIMIT_S = 3.0
_ENDED_WELL = b"."
_lost = threading.Event()
_WORKER = os.getppid()  # at import, before anything can have happened to it


@contextmanager
def guarded(leader: int) -> Iterator[None]:
    """Has a session ended from outside if this process is killed before the block is left.

    Args:
        leader: Process id that the session began with.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.guard", str(leader)],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # whoever kills this process's group leaves the guard alone
    )
    try:
        yield
    finally:
        process.communicate(_ENDED_WELL)


def end_with_worker() -> None:
    """Has this run ended like a cancelled one once the worker that started it is gone.

    Nobody else would hear of a cancellation then, and Prefect would let the run go on. It is marked
    as crashed, so that the automation of prefect.yaml may restart it. Does nothing for a run that
    no worker started.
    """
    if "PREFECT__FLOW_RUN_ID" not in os.environ:
        return
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    pause = threading.Event()
    while os.getppid() == _WORKER:  # one that has died hands its children on at once
        pause.wait(WORKER_CHECK_S)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # they led to the worker; a log that writes there would end its thread
        os.dup2(nowhere, stream)
    _lost.set()
    os.kill(os.getpid(), signal.SIGTERM)


def settle() -> None:
    """Ends a run that has lost its worker as cancelled if it is to be; after its stages' end.

    Raises:
        prefect.exceptions.Abort: It is cancelled now, and Prefect is not to mark it as crashed: it
            would do so whatever the server says.
    """
    if not _lost.is_set():
        return
    from prefect.exceptions import Abort

    cancelled = threading.Event()
    here = copy_context()  # with Prefect's settings
    asking = threading.Thread(target=here.run, args=(_finish_cancelling, cancelled), daemon=True)
    asking.start()
    asking.join(_ASKING_LIMIT_S)  # whether the server answers or not
    if cancelled.is_set():
        raise Abort("its worker was killed, and it was cancelled")


def _finish_cancelling(cancelled: threading.Event) -> None:
    """Does for a run that is being cancelled what its worker would have done."""
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelled

    run = UUID(os.environ["PREFECT__FLOW_RUN_ID"])
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run).state
        if state is not None and state.is_cancelling():
            client.set_flow_run_state(run, Cancelled())
            cancelled.set()


def main(leader: int) -> None:
    """Waits until the process at the other end of the standard input says or shows its end."""
    from flows.sessions import end_session

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.stdin.buffer.read(1) != _ENDED_WELL:
        end_session(leader)


if __name__ == "__main__":
    main(int(sys.argv[1]))
