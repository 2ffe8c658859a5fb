"""Learning rates over time."""

import pytest

from dav2.training.schedule import rate_factor


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [
        ("cosine", 4, 1.0),
        ("cosine", 9, 0.5),  # half way between 4 and 14
        ("cosine", 14, 0.0),
        ("linear", 9, 0.5),
        ("poly", 9, 0.5**0.9),
        ("constant", 13, 1.0),
        ("linear", 20, 0.0),  # past the end it stays there
    ],
)
def test_factors_are_as_worked_out_by_hand(schedule, step, expected):
    assert rate_factor(step, schedule, num_steps=14, warmup_steps=4) == pytest.approx(expected)


def test_warm_up_rises_to_one_and_never_starts_at_zero():
    factors = [rate_factor(step, "cosine", num_steps=14, warmup_steps=4) for step in range(5)]
    assert factors == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_without_warm_up_the_first_step_is_full():
    assert rate_factor(0, "poly", num_steps=10, warmup_steps=0) == 1.0
