"""How the learning rate changes over a training."""

import math
from typing import Literal, assert_never

ScheduleName = Literal["constant", "linear", "poly", "cosine"]


def rate_factor(step: int, schedule: ScheduleName, *, num_steps: int, warmup_steps: int) -> float:
    """Returns the factor of the learning rate at a step.

    Warm-up rises linearly from 1 / `warmup_steps` to 1; after it the factor falls from 1 towards 0,
    which it reaches at `num_steps`, one step after the last. V1 of Depth Anything trained with
    `linear`, V2's metric code with `poly`, (1 - t)^0.9; V2's own schedule is not published.

    Args:
        step: Optimiser steps taken before this one, from 0.
        schedule: Shape of the fall.
        num_steps: Steps of the whole training.
        warmup_steps: Steps of the rise; 0 for none.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    done = min(1.0, (step - warmup_steps) / max(1, num_steps - warmup_steps))
    match schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1.0 - done
        case "poly":
            return float((1.0 - done) ** 0.9)
        case "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * done))
        case _:
            assert_never(schedule)
