import logging
import threading
from uuid import uuid4

import pytest

from flows import progress
from flows.progress import ProgressLog

BAR = "pseudo_label:  34%|###3      | 17/50 [00:03<00:06,  5.2it/s]"


@pytest.fixture
def published(monkeypatch) -> list:
    found: list = []
    artifact = uuid4()

    def create(share: float, key: str, description: str):
        found.append((key, share, description))
        return artifact

    def update(which, share: float, description: str):
        assert which == artifact
        found.append((share, description))

    monkeypatch.setattr(progress, "create_progress_artifact", create)
    monkeypatch.setattr(progress, "update_progress_artifact", update)
    return found


def test_a_bar_becomes_one_artifact_that_follows_it(published: list, caplog):
    log = ProgressLog(logging.getLogger("flows.test"), "evaluate@student_S")
    with caplog.at_level(logging.INFO, logger="flows.test"):
        log.info("%s", "begins")
        log.info("%s", BAR)
        thread = threading.Thread(target=log.info, args=("%s", BAR.replace("34%", "100%")))
        thread.start()
        thread.join()
    assert published == [
        ("progress-evaluate-student-s", 34.0, "evaluate@student_S: 17 of 50, 00:06 left, 5.2it/s"),
        (100.0, "evaluate@student_S: 17 of 50, 00:06 left, 5.2it/s"),
    ]
    assert [record.message for record in caplog.records][:2] == ["begins", BAR]


def test_lines_without_a_bar_publish_nothing(published: list):
    log = ProgressLog(logging.getLogger("flows.test"), "train_teacher")
    log.info("%s", "5% of the samples | 3/4 of them")
    log.info("done: 100%")
    assert published == []


def test_what_a_stage_adds_to_its_bar_is_shown_too(published: list):
    log = ProgressLog(logging.getLogger("flows.test"), "pseudo_label")
    log.info(BAR.replace("5.2it/s", "5.2it/s, 2.7+2.5/s, 1 failures"))
    log.info(BAR.partition(" [")[0])
    assert [says for *_, says in published] == [
        "pseudo_label: 17 of 50, 00:06 left, 5.2it/s, 2.7+2.5/s, 1 failures",
        "pseudo_label: 17 of 50",
    ]
