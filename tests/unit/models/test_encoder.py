import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dav2.models.encoder import Encoder, encoder_config

NAMES = ["vit64x4", "vit128x6", "vit192x8", "vits", "vitb", "vitl", "vitg"]


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    encoder = Encoder("vit64x4").double().eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder


def cubic_weight(distance):
    a, x = -0.75, abs(distance)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def cubic_matrix(length, target):
    """DINOv2's resampling along one axis: scale (target + 0.1) / length, edges repeated."""
    matrix = np.zeros((target, length))
    for row in range(target):
        source = (row + 0.5) * length / (target + 0.1) - 0.5
        for tap in range(math.floor(source) - 1, math.floor(source) + 3):
            matrix[row, min(max(tap, 0), length - 1)] += cubic_weight(source - tap)
    return matrix


@pytest.mark.parametrize(("rows", "columns"), [(6, 8), (9, 12), (12, 20)])
def test_positions_are_resized_as_dinov2_does(encoder, rows, columns):
    stored = encoder.pos_embed.detach()[0].numpy()
    grid = stored[1:].reshape(12, 12, 64)
    resized = np.einsum(
        "ri,cj,ijk->rck", cubic_matrix(12, rows), cubic_matrix(12, columns), grid
    ).reshape(-1, 64)
    positions = encoder._positions(rows, columns)[0].detach().numpy()
    assert np.allclose(positions, np.concatenate([stored[:1], resized]), atol=2e-6)


def test_positions_at_the_native_size_are_the_stored_ones(encoder):
    assert torch.equal(encoder._positions(12, 12), encoder.pos_embed.float())


def test_features_equal_a_transformer_written_out(encoder):
    images = torch.randn(2, 3, 42, 70, dtype=torch.float64)
    weights = {name: value.detach() for name, value in encoder.state_dict().items()}

    def linear(values, name):
        return F.linear(values, weights[name + ".weight"], weights[name + ".bias"])

    def norm(values, name):
        centred = values - values.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return scaled * weights[name + ".weight"] + weights[name + ".bias"]

    patches = images.unfold(2, 14, 14).unfold(3, 14, 14).permute(0, 2, 3, 1, 4, 5).flatten(3)
    patches = patches.flatten(1, 2) @ weights["patch_embed.proj.weight"].flatten(1).T
    patches = patches + weights["patch_embed.proj.bias"]
    tokens = torch.cat([weights["cls_token"].expand(2, -1, -1), patches], dim=1)
    tokens = tokens + encoder._positions(3, 5).detach()
    expected = []
    for index in range(4):
        block = f"blocks.{index}."
        qkv = linear(norm(tokens, block + "norm1"), block + "attn.qkv")
        query, key, value = qkv.reshape(2, 16, 3, 2, 32).permute(2, 0, 3, 1, 4)
        attention = (query @ key.transpose(-1, -2) / math.sqrt(32)).softmax(-1)
        mixed = (attention @ value).transpose(1, 2).reshape(2, 16, 64)
        tokens = tokens + linear(mixed, block + "attn.proj") * weights[block + "ls1.gamma"]
        hidden = F.gelu(linear(norm(tokens, block + "norm2"), block + "mlp.fc1"))
        tokens = tokens + linear(hidden, block + "mlp.fc2") * weights[block + "ls2.gamma"]
        expected.append(norm(tokens, "norm")[:, 1:])

    features = encoder(images)
    assert len(features) == 4
    for ours, plain in zip(features, expected, strict=True):
        assert torch.allclose(ours, plain, atol=1e-10)


@pytest.mark.parametrize("shape", [(28, 41), (27, 42), (0, 42)])
def test_refuses_sides_that_are_no_multiples_of_the_patch(encoder, shape):
    with pytest.raises(ValueError, match=rf"multiples of 14 px, got {shape[0]} x {shape[1]}"):
        encoder(torch.zeros(1, 3, *shape, dtype=torch.float64))


@pytest.mark.parametrize("name", NAMES)
def test_four_layers_end_with_the_last_block_and_heads_are_32_or_64_wide(name):
    config = encoder_config(name)
    assert list(config.layers) == sorted(set(config.layers))
    assert len(config.layers) == 4
    assert config.layers[-1] == config.depth - 1
    assert config.width % config.num_heads == 0
    assert config.width // config.num_heads in (32, 64)
    assert config.native_px % 14 == 0


def test_small_encoders_start_from_distinct_sine_cosine_positions():
    positions = Encoder("vit128x6").pos_embed.detach()[0]
    assert torch.equal(positions[0], torch.zeros(128))
    row, column = 5, 7
    token = positions[1 + row * 12 + column]
    # 32 frequencies: sin row, cos row, sin column, cos column; the first frequency is 1.
    assert token[0] == pytest.approx(math.sin(row))
    assert token[32] == pytest.approx(math.cos(row))
    assert token[64] == pytest.approx(math.sin(column))
    assert token[96 + 31] == pytest.approx(math.cos(column * 10_000 ** (-31 / 32)))
    assert torch.cdist(positions[1:], positions[1:]).add(torch.eye(144) * 9).min() > 0.5


def test_giant_encoder_gates_with_dinov2s_hidden_width():
    with torch.device("meta"):
        encoder = Encoder("vitg")
    assert encoder.blocks[0].mlp.fc1.weight.shape == (2 * 4096, 1536)
    assert encoder.blocks[0].mlp.fc2.weight.shape == (1536, 4096)
