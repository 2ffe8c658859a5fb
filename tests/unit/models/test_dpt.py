import pytest
import torch
import torch.nn.functional as F

from dav2.models.dpt import DPTHead, HeadConfig, head_config

CONFIG = HeadConfig(8, (5, 6, 7, 9), hidden_channels=4)


def make_head(max_depth_m=None):
    torch.manual_seed(0)
    return DPTHead(10, CONFIG, max_depth_m=max_depth_m).double().eval()


def make_features(rows=3, columns=5):
    torch.manual_seed(1)
    return [torch.randn(2, rows * columns, 10, dtype=torch.float64) for _ in range(4)]


def authors_head(head, features, rows, columns):
    """The head in the authors' order: each 1x1 fusion convolution after its upsampling."""
    weights = head.state_dict()

    def conv(values, name, **how):
        return F.conv2d(values, weights[name + ".weight"], weights.get(name + ".bias"), **how)

    def residual(values, name):
        hidden = conv(F.relu(values), name + ".conv1", padding=1)
        return conv(F.relu(hidden), name + ".conv2", padding=1) + values

    maps = [
        conv(tokens.transpose(1, 2).reshape(2, -1, rows, columns), f"projects.{index}")
        for index, tokens in enumerate(features)
    ]
    for index, factor in ((0, 4), (1, 2)):
        name = f"resize_layers.{index}"
        maps[index] = F.conv_transpose2d(
            maps[index], weights[name + ".weight"], weights[name + ".bias"], stride=factor
        )
    maps[3] = conv(maps[3], "resize_layers.3", stride=2, padding=1)
    maps = [
        conv(values, f"scratch.layer{index}_rn", padding=1)
        for index, values in enumerate(maps, start=1)
    ]
    path = None
    for level in (4, 3, 2, 1):
        name = f"scratch.refinenet{level}"
        path = maps[3] if path is None else path + residual(maps[level - 1], name + ".resConfUnit1")
        path = residual(path, name + ".resConfUnit2")
        finer = maps[level - 2] if level > 1 else None
        size = finer.shape[2:] if level > 1 else [2 * side for side in path.shape[2:]]
        path = F.interpolate(path, size=tuple(size), mode="bilinear", align_corners=True)
        path = conv(path, name + ".out_conv")
    out = conv(path, "scratch.output_conv1", padding=1)
    size = (14 * rows, 14 * columns)
    out = F.interpolate(out, size=size, mode="bilinear", align_corners=True)
    out = F.relu(conv(out, "scratch.output_conv2.0", padding=1))
    return conv(out, "scratch.output_conv2.2")[:, 0]


@pytest.mark.parametrize(("rows", "columns"), [(3, 5), (6, 4), (1, 1)])
def test_relative_head_equals_the_authors_order_of_operations(rows, columns):
    head, features = make_head(), make_features(rows, columns)
    with torch.no_grad():
        depth = head(features, (rows, columns))
    assert depth.shape == (2, 14 * rows, 14 * columns)
    # The last layer runs in float32.
    assert torch.allclose(
        depth.double(), F.relu(authors_head(head, features, rows, columns)), atol=1e-6
    )


def test_metric_head_is_a_sigmoid_times_the_largest_depth():
    head, features = make_head(max_depth_m=20.0), make_features()
    with torch.no_grad():
        depth = head(features, (3, 5))
    expected = 20 * authors_head(head, features, 3, 5).sigmoid()
    assert torch.allclose(depth.double(), expected, atol=1e-5)
    assert 0 < depth.min() < depth.max() < 20


def test_relative_head_starts_above_zero_everywhere():
    for seed in range(5):
        torch.manual_seed(seed)
        head = DPTHead(128, head_config("vit128x6"))
        features = [torch.randn(2, 12, 128) for _ in range(4)]
        assert head(features, (3, 4)).min() > 0.1


def test_every_trained_parameter_gets_a_gradient_and_the_unused_ones_are_frozen():
    head = make_head()
    head(make_features(), (3, 5)).mean().backward()
    without = {name for name, parameter in head.named_parameters() if parameter.grad is None}
    assert without == {
        f"scratch.refinenet4.resConfUnit1.{layer}.{kind}"
        for layer in ("conv1", "conv2")
        for kind in ("weight", "bias")
    }
    assert not any(dict(head.named_parameters())[name].requires_grad for name in without)


def test_result_is_float32_and_close_under_bfloat16_autocast():
    torch.manual_seed(0)
    head = DPTHead(10, CONFIG).eval()
    features = [tokens.float() for tokens in make_features()]
    with torch.no_grad():
        exact = head(features, (3, 5))
        with torch.autocast("cpu", torch.bfloat16):
            depth = head(features, (3, 5))
    assert depth.dtype == torch.float32
    assert not torch.equal(depth, exact)
    assert torch.allclose(depth, exact, atol=0.02)


def test_parameters_carry_the_authors_names():
    names = {f"projects.{index}.{kind}" for index in range(4) for kind in ("weight", "bias")}
    names |= {f"resize_layers.{index}.{kind}" for index in (0, 1, 3) for kind in ("weight", "bias")}
    names |= {f"scratch.layer{index}_rn.weight" for index in range(1, 5)}
    inner = ["out_conv"] + [f"resConfUnit{unit}.conv{layer}" for unit in (1, 2) for layer in (1, 2)]
    outer = [f"refinenet{index}.{layer}" for index in range(1, 5) for layer in inner]
    outer += ["output_conv1", "output_conv2.0", "output_conv2.2"]
    names |= {f"scratch.{layer}.{kind}" for layer in outer for kind in ("weight", "bias")}
    assert set(make_head().state_dict()) == names
