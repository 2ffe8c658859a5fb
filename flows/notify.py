"""Sends an alarm through a notification block; the one that `flows.deploy` makes writes the log."""

from typing import Any

from prefect import flow
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block


class LogNotification(NotificationBlock):
    """Writes alarms to the log of the run that sends them, as a warning."""

    _block_type_name = "Log notification"
    _block_type_slug = "log-notification"

    async def notify(self, body: str, subject: str | None = None) -> None:
        """Logs an alarm."""
        self.logger.warning("%s: %s", subject or "alarm", body)


@flow(name="notify")
async def notify(subject: str, body: str, block: str = "log-notification/alarms") -> None:
    """Sends one alarm.

    Args:
        subject: What it is about.
        body: What has happened.
        block: Notification block as `type/name`, as `slack-webhook/team`.

    Raises:
        ValueError: There is no such block, or it sends nothing.
    """
    found: Any = await Block.aload(block)
    if not isinstance(found, NotificationBlock):
        raise ValueError(f"{block}: expected a notification block, got {type(found).__name__}")
    await found.notify(body, subject)
