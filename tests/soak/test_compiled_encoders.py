"""Blocks of the other encoders, compiled as trainings compile them."""

import pytest
import torch

from dav2.models.encoder_families import build_encoder
from tests.fixtures.encoder_families import SMALL, shrink

pytestmark = pytest.mark.soak


@pytest.mark.parametrize("name", SMALL)
def test_compiled_blocks_compute_the_same_features_and_gradients(monkeypatch, name):
    shrink(monkeypatch)
    torch.manual_seed(2)
    encoder = build_encoder(name)
    images = torch.randn(1, 3, 28, 42)
    found = []
    for is_compiled in (False, True):
        if is_compiled:
            for block in encoder.blocks[:2]:  # SAM's second attends to the whole image
                block.compile(dynamic=False)
        encoder.zero_grad()
        features = encoder(images)
        sum((feature**2).mean() for feature in features).backward()
        found.append([*features, encoder.blocks[0].attn.qkv.weight.grad.clone()])
    for plain, compiled in zip(*found, strict=True):
        assert torch.allclose(plain, compiled, rtol=1e-4, atol=1e-6)
