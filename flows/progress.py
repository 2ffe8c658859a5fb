"""Shows how far a stage is on the run's page: the bars that it draws become an artifact."""

import contextvars
import logging
import re
from collections.abc import MutableMapping
from typing import Any
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from flows.sessions import Log

# As tqdm draws it: 34%|###   | 17/50 [00:03<00:06,  5.2it/s, and what a stage says of itself]
_BAR = re.compile(r"(\d{1,3})%\|[^|]*\|\s*(\S+)/(\S+)(?: \[[^<\]]*<([^,\]]+),\s*([^\]]+)\])?")


class ProgressLog(logging.LoggerAdapter[Any]):
    """A log that also publishes the last bar of the lines that it gets."""

    def __init__(self, log: Log, stage: str) -> None:
        """Publishes for the run in whose context this is made, from whatever thread.

        Args:
            log: Gets all lines.
            stage: Whose bar it is.
        """
        super().__init__(log, {})
        self._stage = stage
        self._context = contextvars.copy_context()
        self._artifact: UUID | None = None

    def info(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Logs a line; of a bar in it, share, time left, rates and failures are published."""
        self.logger.info(msg, *args, **kwargs)
        if found := _BAR.search(str(msg) % args if args else str(msg)):
            share, done, total, left, rates = found.groups()
            says = f"{self._stage}: {done} of {total}"
            if left is not None:
                says += f", {left} left, {rates}"
            self._context.run(self._publish, min(float(share), 100.0), says)

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Leaves lines as they are."""
        return msg, kwargs

    def _publish(self, share: float, says: str) -> None:
        if self._artifact is None:
            key = f"progress-{re.sub(r'[^a-z0-9]+', '-', self._stage.lower()).strip('-')}"
            self._artifact = create_progress_artifact(share, key=key, description=says)  # type: ignore[assignment]
        else:
            update_progress_artifact(self._artifact, share, description=says)
