"""Each training stage, killed and started again, ends with the bytes of an undisturbed run.

`make soak` (tests/soak/test_kill_training.py) kills them at random moments.
"""

import signal

import pytest

from tests.fixtures.killed_trainings import KilledTraining, Moment

NUM_STEPS = 15
MOMENTS = {
    # While a checkpoint is written; then between two of them, by a signal that Lightning handles.
    "teacher": (Moment(61), Moment(30, 0.02, signal.SIGTERM)),
    "student-pseudo": (Moment(30),),
    "metric": (Moment(60, 0.05),),
}


@pytest.mark.slow
@pytest.mark.parametrize("training", MOMENTS)
def test_a_killed_training_goes_on_and_ends_with_the_same_bytes(training, tmp_path, monkeypatch):
    made = KilledTraining(tmp_path, training, num_steps=NUM_STEPS)
    kept = [0]
    for moment in MOMENTS[training]:
        assert made.run(moment) is None, "it had finished before it was killed"
        assert made.outputs() == {}
        kept.append(made.steps_kept())
    assert kept == sorted(kept)
    assert 0 < kept[-1] < NUM_STEPS
    assert f"goes on after step {kept[-1]}" in made.run().shown
    resumed = made.outputs()
    assert not made.parts()
    made.forget()
    made.run_here(monkeypatch)
    assert made.outputs() == resumed
    assert len(resumed) == 3
