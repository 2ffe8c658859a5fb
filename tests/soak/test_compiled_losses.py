"""Every loss as machine code: 10 to 40 seconds of compiling each."""

import jaxtyping
import pytest
import torch

from tests.fixtures.loss_terms import LOSSES, value_and_slope


@pytest.mark.soak
@pytest.mark.parametrize("name", LOSSES)
def test_compiled_and_uncompiled_losses_agree(name, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # pytest's checks of shapes
    loss = LOSSES[name]
    compiled = torch.compile(loss, fullgraph=True)
    for found, expected in zip(value_and_slope(compiled, 3), value_and_slope(loss, 3), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)
