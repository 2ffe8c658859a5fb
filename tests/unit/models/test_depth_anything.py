import pytest
import torch

from dav2.models.depth_anything import DepthAnything, ModelConfig


@pytest.mark.parametrize(
    ("encoder", "total", "of_the_encoder"),
    [
        ("vits", 24.79, 22.06),
        ("vitb", 97.47, 86.58),
        ("vitl", 335.32, 304.37),
        ("vitg", 1258.13, 1136.48),
    ],
)
def test_published_sizes_have_the_authors_parameter_counts(encoder, total, of_the_encoder):
    with torch.device("meta"):
        model = DepthAnything(ModelConfig(encoder))
    millions = [
        sum(parameter.numel() for parameter in module.parameters()) / 1e6
        for module in (model, model.encoder)
    ]
    assert [round(count, 2) for count in millions] == [total, of_the_encoder]


@pytest.mark.parametrize("encoder", ["vit64x4", "vit128x6", "vit192x8"])
def test_small_models_take_any_multiple_of_14(encoder):
    torch.manual_seed(0)
    model = DepthAnything(ModelConfig(encoder)).eval()
    with torch.no_grad():
        for height, width in ((84, 112), (126, 168), (14, 28)):
            depth = model(torch.randn(2, 3, height, width))
            assert depth.shape == (2, height, width)
            assert depth.dtype == torch.float32
            assert depth.min() > 0


def test_one_image_does_not_see_another():
    torch.manual_seed(0)
    model = DepthAnything(ModelConfig("vit64x4")).double().eval()
    images = torch.randn(3, 3, 28, 42, dtype=torch.float64)
    with torch.no_grad():
        alone = torch.cat([model(image[None]) for image in images])
        assert torch.allclose(model(images), alone, atol=1e-6)


def test_every_trained_parameter_gets_a_gradient():
    torch.manual_seed(0)
    model = DepthAnything(ModelConfig("vit64x4"))
    depth = model(torch.randn(2, 3, 28, 42))
    (depth * torch.randn_like(depth)).mean().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    assert not model.encoder.mask_token.requires_grad


def test_features_are_the_tokens_of_the_last_layer():
    torch.manual_seed(0)
    model = DepthAnything(ModelConfig("vit64x4")).eval()
    images = torch.randn(2, 3, 28, 42)
    with torch.no_grad():
        depth, features = model.forward_with_features(images)
        assert torch.equal(depth, model(images))
        assert torch.equal(features, model.encoder(images)[-1])
    assert features.shape == (2, 6, 64)


@pytest.mark.parametrize("max_depth_m", [0.0, -1.0, float("inf"), float("nan")])
def test_refuses_a_largest_depth_that_is_not_positive(max_depth_m):
    with pytest.raises(ValueError, match="expected max_depth_m above 0 and finite, got"):
        ModelConfig("vit64x4", max_depth_m)
