"""What each step of ingest takes, by timing the functions that it is made of."""

import hashlib
import inspect
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from pathlib import Path
from types import ModuleType
from typing import Any

from dav2.data import consistency, images, manifest, measurement, statistics, storage
from dav2.data.sample import SampleFiles
from stages import ingest, ingest_work


class Spans:
    """Times functions; what one calls of the others counts for those alone."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._stack: list[tuple[str, float]] = []

    def within(self, title: str, act: Callable[[], Any]) -> Any:
        """Returns what `act` returns and counts its time."""
        now = time.perf_counter()
        if self._stack:
            above, since = self._stack[-1]
            self.seconds[above] += now - since
        self._stack.append((title, now))
        try:
            return act()
        finally:
            now = time.perf_counter()
            _, since = self._stack.pop()
            self.seconds[title] += now - since
            if self._stack:
                self._stack[-1] = (self._stack[-1][0], now)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Times what ingest is made of until the block ends."""
        places: list[tuple[Any, str, str]] = [
            (storage.LocalStorage, "read", "reading"),
            (storage.LocalStorage, "list_files", "listing files"),
            (manifest.ManifestWriter, "write", "writing parquet"),
        ]
        for name, _ in inspect.getmembers(ingest_work.IngestWork, inspect.isfunction):
            places.append((ingest_work.IngestWork, name, f"SQLite and JSON: {name.strip('_')}"))
        for module in (images, statistics, consistency):
            for name in _functions_of(module):
                places.append((module, name, f"{module.__name__.split('.')[-1]}.{name}"))
        with ExitStack() as stack:
            for owner, name, title in places:
                function = getattr(owner, name)
                timed = self._timed(function, title)
                for place in (owner, *_importers(function, owner)):
                    stack.enter_context(replaced(place, name, timed))
            stack.enter_context(replaced(measurement, "hashlib", _Hashes(self)))
            yield

    def _timed(self, function: Callable[..., Any], title: str) -> Callable[..., Any]:
        if inspect.isgeneratorfunction(function):

            @wraps(function)
            def iterate(*arguments: Any, **options: Any) -> Iterator[Any]:
                found = function(*arguments, **options)
                while (one := self.within(title, lambda: next(found, self))) is not self:
                    yield one

            return iterate

        @wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            return self.within(title, lambda: function(*arguments, **options))

        return call


class _Hashes:
    def __init__(self, spans: Spans) -> None:
        self._spans = spans

    def sha256(self, data: bytes) -> Any:
        return self._spans.within("hashing", lambda: hashlib.sha256(data))


@contextmanager
def replaced(place: Any, name: str, value: Any) -> Iterator[None]:
    """Puts something else in the place of a name until the block ends."""
    before = getattr(place, name)
    setattr(place, name, value)
    try:
        yield
    finally:
        setattr(place, name, before)


def _functions_of(module: ModuleType) -> list[str]:
    found = inspect.getmembers(module, inspect.isfunction)
    return [name for name, function in found if function.__module__ == module.__name__]


def _importers(function: Any, owner: Any) -> list[ModuleType]:
    """Returns the modules of the project that have taken the function by its name."""
    return [
        module
        for title, module in list(sys.modules.items())
        if title.startswith(("dav2.", "stages."))
        and module is not owner
        and getattr(module, function.__name__, None) is function
    ]


def step_seconds(source: str) -> dict[str, float]:
    """Returns what each step of ingesting a source takes, read in this process."""

    def map_here(
        function: Any, jobs: Iterable[SampleFiles], *, prepare: Any, prepare_with: Any, **_: Any
    ) -> Iterator[Any]:
        prepare(*prepare_with)
        for files in jobs:
            yield spans.within("rest of measuring", partial(function, files))

    spans = Spans()
    with spans.watching(), replaced(ingest, "map_surviving", map_here):
        spans.within("rest", lambda: ingest.main(source, Path(f"{source}-steps")))
    return dict(spans.seconds)
