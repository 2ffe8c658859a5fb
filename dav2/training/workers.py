"""What goes wrong in the processes that decode samples, told as if it had gone wrong here."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """Turns what PyTorch says of its workers into what was wrong.

    PyTorch repeats a worker's error with its traceback inside the message, and calls a worker that
    was killed, mostly for want of memory, an error of the program.

    Raises:
        ChildProcessError: If a worker has died.
        ValueError: If a worker met one, with the worker's own message; likewise `OSError`.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        text = str(error).strip()
        if not text.startswith("Caught ") or "in DataLoader worker process" not in text:
            raise
        own = text.splitlines()[-1].partition(": ")[2]
        raise type(error)(own) from None
    except RuntimeError as error:
        text = str(error).strip()
        if not text.startswith("DataLoader worker (pid"):
            raise
        raise ChildProcessError(
            f"training data: expected its processes to live, got {text.splitlines()[0].strip(' .')}"
            ": fewer of them (running.num_workers) need less memory"
        ) from None
