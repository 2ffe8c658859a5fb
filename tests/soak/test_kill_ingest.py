"""Ingest is killed at random moments, ten times, and ends with the bytes of an undisturbed run."""

import random

import pytest

from tests.fixtures.ingesting import IngestProject

pytestmark = pytest.mark.soak

NUM_PHOTOGRAPHS = 400
NUM_KILLS = 10


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The project, ingested once without disturbance."""
    folder = tmp_path_factory.mktemp("ingest")
    made = IngestProject(folder, num_photographs=NUM_PHOTOGRAPHS, num_workers=2)
    made.finish()
    made.expected = made.published()
    assert len(made.measured()) == NUM_PHOTOGRAPHS
    return made


def test_kills_leave_no_trace_and_lose_no_work(project, seed):
    project.forget()
    delays = random.Random(seed)
    before, num_kills = set(), 0
    for _ in range(NUM_KILLS):
        num_kills += project.kill(project.start(), after_s=delays.uniform(0.5, 5.0))
        now = project.measured()
        assert before <= now, f"seed {seed}: a sample was measured again"
        assert project.published() in ({}, project.expected), f"seed {seed}: half a result"
        before = now
    project.finish()
    assert before <= project.measured(), f"seed {seed}: a sample was measured again"
    assert len(project.measured()) == NUM_PHOTOGRAPHS
    assert project.published() == project.expected, f"seed {seed}: other bytes, {num_kills} kills"
    assert not project.parts()
