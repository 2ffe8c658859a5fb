import copy

import pytest
import torch

from dav2.models import inference
from dav2.models.depth_anything import DepthAnything, ModelConfig
from dav2.models.inference import prepare


@pytest.fixture(scope="module", params=[None, 20.0])
def model(request):
    torch.manual_seed(0)
    model = DepthAnything(ModelConfig("vit64x4", request.param)).eval()
    with torch.no_grad():
        for block in model.encoder.blocks:  # or attention is flat, and any is right
            block.attn.qkv.weight.mul_(4)
    return model


def prepared(model, precision):
    ready = copy.deepcopy(model)
    prepare(ready, device="cpu", precision=precision)
    return ready


@torch.no_grad()
def depth_of(model, images):
    return model(images.to(next(model.parameters()).dtype))


def test_float32_keeps_every_bit(model):
    images = torch.randn(2, 3, 56, 70)
    assert torch.equal(depth_of(prepared(model, "float32"), images), depth_of(model, images))


# 300 tokens and the class token: more than one chunk of queries, the last one partly filled.
@pytest.mark.parametrize(("height", "width"), [(210, 280), (56, 70)])
def test_bfloat16_stays_close(model, height, width):
    images = torch.randn(2, 3, height, width)
    exact, coarse = depth_of(model, images), depth_of(prepared(model, "bfloat16"), images)
    assert coarse.dtype == torch.float32
    assert not torch.equal(exact, coarse)
    assert (exact - coarse).abs().max() < 0.05 * (exact.max() - exact.min())


def test_attention_in_chunks_is_attention(model):
    attention = copy.deepcopy(model.encoder.blocks[1].attn)
    tokens = torch.randn(2, 301, 64)
    with torch.no_grad():
        expected = attention(tokens)
        found = inference._ChunkedAttention(attention)(tokens)
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx2": True, "avx512_bf16": False}, torch.float32),
    ],
)
def test_auto_follows_the_instructions_of_the_cpu(model, monkeypatch, capabilities, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert next(prepared(model, "auto").parameters()).dtype == dtype


def test_a_torch_that_cannot_tell_gets_float32(model, monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert next(prepared(model, "auto").parameters()).dtype == torch.float32


def test_names_of_weights_stay(model):
    assert prepared(model, "bfloat16").state_dict().keys() == model.state_dict().keys()
