import pytest
import torch

from dav2.losses.masked_pixels import masked_pixel_loss, masked_pixels
from dav2.models.depth_anything import DepthAnything, ModelConfig
from dav2.models.masked_image_model import MaskedImageModel


@pytest.fixture
def model():
    torch.manual_seed(0)
    return MaskedImageModel("vit64x4")


@pytest.fixture
def batch():
    torch.manual_seed(1)
    masked = torch.tensor([[1, 0, 0, 1, 0, 1], [0, 1, 1, 0, 1, 0]]).bool()
    return torch.randn(2, 3, 28, 42), masked


def test_what_is_masked_is_not_seen_and_what_is_visible_is(model, batch):
    images, masked = batch
    hidden = masked_pixels(masked, 28, 42)[:, None]
    painted = model(images, masked)
    assert torch.equal(model(torch.where(hidden, 7.0, images), masked), painted)
    assert not torch.allclose(model(torch.where(hidden, images, 7.0), masked), painted)


def test_masked_patches_are_told_apart_by_their_place(model, batch):
    painted = model(*batch)[0]
    assert not torch.allclose(painted[:, :14, :14], painted[:, 14:, :14])


def test_a_token_paints_the_pixels_of_its_own_patch_colour_by_colour(model, batch):
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.copy_(torch.arange(3 * 14 * 14))
    patch = torch.arange(3 * 14 * 14).float().view(3, 14, 14)
    assert torch.equal(model(*batch), patch.repeat(2, 1, 2, 3))


def test_with_nothing_masked_the_encoder_sees_the_image_as_ever(model, batch):
    images, masked = batch
    plain = model.encoder(images)
    for one, other in zip(model.encoder(images, torch.zeros_like(masked)), plain, strict=True):
        assert torch.equal(one, other)


def test_gradients_reach_the_mask_token_and_the_whole_encoder(model, batch):
    images, masked = batch
    masked_pixel_loss(model(images, masked), images, masked).backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.any(), name


def test_its_encoder_has_the_weights_of_a_depth_models(model):
    theirs = DepthAnything(ModelConfig("vit64x4")).encoder
    assert {name: weight.shape for name, weight in model.encoder.state_dict().items()} == {
        name: weight.shape for name, weight in theirs.state_dict().items()
    }
    assert not theirs.mask_token.requires_grad
