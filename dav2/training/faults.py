"""What ends a training from outside, in one line; its last good progress stays."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist


@contextmanager
def told_in_one_line(*, where: str, num_ranks: int) -> Iterator[None]:
    """Turns the errors of PyTorch that are nobody's mistake in the code into one line each.

    Args:
        where: What is trained.
        num_ranks: Of processes that train it; only several can lose one.

    Raises:
        ConnectionError: If the device or another rank is lost; that rank's own message says why.
        ValueError: If a step needs more memory than the device has, or as the process that decodes
            samples says.
        OSError: Likewise, as the process that decodes samples says.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ValueError(
            f"{where}: expected a step to fit into the device's memory, got {_first(error)}; "
            "checkpoint_activations, or a smaller batch_size and a larger accumulate, need less"
        ) from error
    except torch.AcceleratorError as error:
        raise ConnectionError(
            f"{where}: expected the device to the end, got {_first(error)}; "
            "the last good progress is kept"
        ) from error
    except RuntimeError as error:
        if num_ranks == 1 or not _is_of_exchange(error):
            raise
        raise ConnectionError(
            f"{where}: expected {num_ranks} processes to the end, got an exchange with one that is "
            f"gone ({_first(error)}); the last good progress is kept"
        ) from error
    except (ValueError, OSError) as error:
        lines = str(error).strip().splitlines()
        if not lines or not lines[0].startswith("Caught "):
            raise
        # A loader's process sends its whole traceback as the message; the error itself ends it.
        message = re.split(rf"\n[\w.]*{type(error).__name__}: ", str(error))[-1]
        raise type(error)(" ".join(message.split())) from error


def _first(error: Exception) -> str:
    """Returns the first sentence of a message."""
    return str(error).partition("\n")[0].partition(". ")[0].rstrip(".")


def _is_of_exchange(error: RuntimeError) -> bool:
    # gloo's errors are plain ones that name its source file.
    return isinstance(error, dist.DistError) or "gloo/" in str(error)
