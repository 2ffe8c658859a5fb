"""How the process of a stage starts and ends."""

import atexit
import gc
import logging
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from stages.ranks import rank

logger = logging.getLogger(__name__)


def run(stage: str, main: Callable[..., object], *arguments: object, **options: object) -> NoReturn:
    """Runs a stage and ends the process; what is wrong with data or parameters is one line.

    Python would collect garbage hundreds of times while PyTorch and MLflow load, and take all they
    made apart at the end: four seconds a process (docs/performance.md). So garbage is collected
    seldom, and nothing is taken apart; what is registered to happen at exit happens.

    Args:
        stage: Name of the stage, for the message.
        main: What it does.
        arguments: Passed on.
        options: Likewise.
    """
    gc.set_threshold(100_000, 50, 100)
    status = 0
    try:
        main(*arguments, **options)
    except SystemExit as end:
        status = _status_of(end)
    except (ValueError, OSError) as error:
        logger.debug("what failed", exc_info=True)
        where = f"{stage} (rank {rank()})" if rank() else stage
        status = _status_of(SystemExit(f"{where}: {error}"))
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _status_of(end: SystemExit) -> int:
    """Returns the status that Python itself would end with, after the message if there is one."""
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    sys.stderr.write(f"{end.code}\n")
    return 1
