"""Each training is killed at random moments, goes on, and ends with the same bytes."""

import random

import pytest

from tests.fixtures.killed_trainings import TRAININGS, KilledTraining, Moment

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

NUM_STEPS = 40
NUM_KILLS = 2
LONGEST_DELAY_S = 0.3
"""Several steps, or the writing of a checkpoint."""


@pytest.fixture(scope="module", params=TRAININGS)
def training(request, tmp_path_factory):
    """A training that has run once without disturbance, and how much it did with files."""
    made = KilledTraining(
        tmp_path_factory.mktemp(request.param), request.param, num_steps=NUM_STEPS
    )
    count = made.run().count
    return made, count, made.outputs()


def test_kills_leave_no_trace_in_the_weights(training, seed):
    made, count, expected = training
    numbers = random.Random(f"{seed} {made.stage} {made.arguments}")
    made.forget()
    before, moments, killed_at = 0, [], []
    for turn in range(1, NUM_KILLS + 1):
        delay_s = numbers.choice([0.0, numbers.uniform(0.0, LONGEST_DELAY_S)])
        moments.append(Moment(numbers.randint(1, count // turn), delay_s))  # less is left
        if made.run(moments[-1]) is None:
            killed_at.append(made.steps_kept())
            assert before <= killed_at[-1], f"seed {seed}, {moments}: steps were lost"
            before = killed_at[-1]
        assert made.outputs().items() <= expected.items(), f"seed {seed}, {moments}: half a result"
    made.run()
    print(f"seed {seed}: {moments}, steps kept {killed_at} of {NUM_STEPS}")  # noqa: T201
    assert made.outputs() == expected, f"seed {seed}, {moments}: other bytes"
    assert made.steps_kept() == NUM_STEPS
    assert not made.parts()
