"""Which process of a training this is, where several devices train one model."""

import os
import threading
import time

_FIRST_RANK_PID = "DAV2_FIRST_RANK_PID"
_POLL_S = 0.5


def rank() -> int:
    """Returns this process's rank, as torchrun, Lightning or Slurm name it; 0 for a lone one."""
    names = ("RANK", "LOCAL_RANK", "SLURM_PROCID")  # Lightning's own ranks share one machine
    return int(next((os.environ[name] for name in names if name in os.environ), "0"))


def is_first_rank() -> bool:
    """Returns whether this process writes what is to be written once."""
    return rank() == 0


def end_with_first_rank() -> None:
    """Ends this process as soon as the one that started it is gone, however it ended.

    For ranks of one machine that the first one starts: a rank that waits for a lost one would
    wait for half an hour. In the first rank itself, only leaves its number for the others.

    Raises:
        ValueError: If another program set this process's rank.
    """
    if is_first_rank():
        os.environ[_FIRST_RANK_PID] = str(os.getpid())
        return
    given = os.environ.get(_FIRST_RANK_PID)
    if given is None:
        raise ValueError(
            f"parallel.launcher: expected `local` ranks to be started by the first one, got rank "
            f"{rank()} from elsewhere"
        )
    first = int(given)

    def watch() -> None:
        while os.getppid() == first:
            time.sleep(_POLL_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="first-rank").start()
