"""A Ray of this machine alone that ends with the process that wanted it, however that one ends.

Ray's own processes do not all follow a driver that is killed: its agents stay. So they are started
by a keeper, a process in a session of its own that inherits every orphan among them. It waits for
its standard input to close, which it does when its owner closes it, ends or is killed.
"""

import ctypes
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

ENVIRONMENT: Mapping[str, str] = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on Linux too: every port on 127.0.0.1 alone
    "RAY_AUTH_MODE": "token",
    "RAY_DEDUP_LOGS": "0",
    "RAY_LOG_TO_DRIVER": "0",
}
"""What Ray reads when it is imported, in the keeper and in whoever connects to its Ray."""

_SET_CHILD_SUBREAPER = 36  # of prctl(2)
_OBJECT_STORE_BYTES = 80_000_000  # the least that Ray takes; only records pass through it


@contextmanager
def local_ray(*, num_cpus: int, num_gpus: int) -> Iterator[str]:
    """Starts Ray, gives its address, and ends all its processes.

    Also sets what Ray reads from this process's environment, before it is imported.

    Args:
        num_cpus: Cores that Ray hands out.
        num_gpus: GPUs that it hands out.

    Raises:
        ConnectionError: If Ray does not start.
    """
    # Short: the paths of Ray's sockets, below it, may have 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    os.environ.update(ENVIRONMENT, RAY_AUTH_TOKEN=secrets.token_hex(32))
    log = folder / "keeper.log"
    with log.open("wb") as stream:
        keeper = subprocess.Popen(
            # -P: the modules beside this file are no top-level ones.
            [sys.executable, "-P", __file__, str(folder), str(num_cpus), str(num_gpus)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
            start_new_session=True,  # who kills this session leaves the keeper to clean up
            text=True,
        )
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    try:
        address = keeper.stdout.readline().strip()
        if not address:
            lines = log.read_text(errors="replace").splitlines() if log.exists() else []
            got = lines[-1] if lines else "nothing"
            raise ConnectionError(f"ray: expected Ray to start on this machine, got {got}")
        yield address
    finally:
        keeper.stdin.close()
        keeper.wait()
        keeper.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)  # of a keeper that was killed


def _keep(folder: Path, num_cpus: int, num_gpus: int) -> None:
    """Lets a process start Ray, waits for the owner's end and ends every process of Ray."""
    for number in (signal.SIGINT, signal.SIGHUP):  # meant for the owner, whose end will follow
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    _inherit_orphans()
    try:
        # In a process of its own, as starting takes long and the owner may end meanwhile.
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            _run_ray(folder, num_cpus, num_gpus)
        os.close(1)  # that process alone holds it: if it fails, the owner reads the end
        sys.stdin.read()
    finally:
        _end_descendants()
        shutil.rmtree(folder, ignore_errors=True)


def _run_ray(folder: Path, num_cpus: int, num_gpus: int) -> NoReturn:
    """Starts Ray, prints its address and waits to be killed."""
    try:
        print(_start(folder, num_cpus, num_gpus), flush=True)  # noqa: T201 - for the owner
        while True:
            signal.pause()
    except BaseException:  # whatever it is, this process must not go on as a second keeper
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(1)  # Ray's own handlers would wait for processes that are gone


def _start(folder: Path, num_cpus: int, num_gpus: int) -> str:
    import ray

    ray.init(
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        configure_logging=False,
        log_to_driver=False,
        _temp_dir=str(folder),
    )
    return str(ray.get_runtime_context().gcs_address)


def _inherit_orphans() -> None:
    """Makes this process the parent of every descendant whose own parent ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _end_descendants() -> None:
    """Kills until nothing is left: a process may start another before its turn comes."""
    import psutil

    while descendants := psutil.Process().children(recursive=True):
        for process in descendants:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(descendants, timeout=1)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):  # the orphans, which nobody else waits for
                pass


def _leave(*_: object) -> NoReturn:
    raise SystemExit(0)


if __name__ == "__main__":
    _keep(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
