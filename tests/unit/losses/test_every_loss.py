"""What holds of every loss."""

import jaxtyping
import pytest
import torch

from tests.fixtures.loss_terms import LOSSES, maps, value_and_slope
from tests.fixtures.operations import Operations


@pytest.fixture
def unchecked(monkeypatch):
    """The checks of shapes that pytest adds cannot be compiled."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "name", ["features", "cutmix"]
)  # the latter has all that others consist of
def test_is_one_graph_and_traced_agrees_with_itself(name):
    loss = LOSSES[name]
    # To machine code it takes seconds each: tests/soak.
    backend = "inductor" if name == "features" else "eager"
    compiled = torch.compile(loss, backend=backend, fullgraph=True)
    for found, expected in zip(value_and_slope(compiled, 3), value_and_slope(loss, 3), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_never_waits_for_the_device_nor_loops_over_images(name):
    counts = []
    for batch in (2, 5):
        with Operations() as operations:
            value_and_slope(LOSSES[name], batch)
        assert not operations.waits
        counts.append(operations.counts)
    assert counts[0] == counts[1]


@pytest.mark.parametrize("name", LOSSES)
def test_is_a_mean_over_images(name):
    pred, target, valid = maps(4)
    loss = LOSSES[name]
    halves = [loss(pred[part], target[part], valid[part]) for part in (slice(2), slice(2, 4))]
    torch.testing.assert_close(loss(pred, target, valid), sum(halves) / 2)
