"""Reading and using at the same time: one thread ahead of whoever works, or one behind."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def read_ahead(items: Iterable[T]) -> Iterator[T]:
    """Yields from an iterable that runs in a thread, one item ahead of whoever takes them."""
    iterator = iter(items)
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="read") as thread:
        coming = thread.submit(next, iterator, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, iterator, end)
            yield item  # type: ignore[misc]  # not the end, so T


def use_behind(items: Iterable[T], use: Callable[[T], None]) -> None:
    """Uses each item in a thread while the next one is made: one at a time, in their order.

    What `use` raises is raised here before a further item is used.

    Args:
        items: Made in the thread of the caller.
        use: Takes one item.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="use") as thread:
        used: Future[None] | None = None
        for item in items:
            if used is not None:
                used.result()
            used = thread.submit(use, item)
        if used is not None:
            used.result()
