import asyncio
import logging

import pytest

from flows import notify
from flows.notify import LogNotification


def test_the_block_of_the_log_warns(caplog):
    with caplog.at_level(logging.WARNING):
        asyncio.run(LogNotification().notify("it broke", "rebuild"))
    (record,) = caplog.records
    assert (record.levelname, record.message) == ("WARNING", "rebuild: it broke")


def test_an_alarm_goes_through_the_block_that_is_named(monkeypatch):
    sent = []

    class Kept(LogNotification):
        async def notify(self, body: str, subject: str | None = None) -> None:
            sent.append((subject, body))

    async def load(name: str):
        return {"kept/team": Kept(), "string/team": "text"}[name]

    monkeypatch.setattr(notify.Block, "aload", load)
    asyncio.run(notify.notify.fn("rebuild", "it broke", "kept/team"))
    assert sent == [("rebuild", "it broke")]
    with pytest.raises(ValueError, match="string/team: expected a notification block, got str"):
        asyncio.run(notify.notify.fn("rebuild", "it broke", "string/team"))
