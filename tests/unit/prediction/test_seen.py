"""What a model sees under a protocol: crops, sizes, mirrored images."""

import numpy as np
import pytest
import torch

from dav2.models.depth_anything import DepthAnything, ModelConfig
from dav2.predict import predict
from dav2.prediction.model_input import ModelInput
from dav2.prediction.seen import predict_with


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return DepthAnything(ModelConfig("vit64x4")).eval()


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 255, (36, 50, 3), dtype=np.uint8)


def test_the_plain_input_is_the_plain_prediction(model, image):
    (plain,) = predict(model, [image], short_side_px=28)
    (found,) = predict_with(model, [image], ModelInput(28), batch_size=2)
    assert np.array_equal(found, plain)


def test_the_mean_with_the_mirrored_image_is_mirrored_with_the_image(model, image):
    flipping = ModelInput(28, with_flip=True)
    (found,) = predict_with(model, [image], flipping, batch_size=2)
    (mirrored,) = predict_with(model, [image[:, ::-1]], flipping, batch_size=2)
    assert mirrored[:, ::-1] == pytest.approx(found, abs=1e-6)
    (plain,) = predict_with(model, [image], ModelInput(28), batch_size=2)
    assert not np.allclose(found, plain, rtol=1e-4)


def test_a_fixed_size_forgets_the_aspect(model, image):
    (found,) = predict_with(model, [image], ModelInput(28, size_px=(28, 28)), batch_size=2)
    (expected,) = predict(model, [image], size_px=(28, 28))
    assert found.shape == (36, 50)
    assert np.array_equal(found, expected)
    (plain,) = predict(model, [image], short_side_px=28)
    assert not np.allclose(found, plain, rtol=1e-4)


def test_upsampling_by_centres_differs_from_aligned_corners(model, image):
    (aligned,) = predict_with(model, [image], ModelInput(28), batch_size=2)
    (centred,) = predict_with(model, [image], ModelInput(28, upsampling="centred"), batch_size=2)
    assert not np.array_equal(aligned, centred)
    assert aligned[0, 0] == pytest.approx(centred[0, 0], rel=1e-5)


def test_what_the_model_does_not_see_continues_the_border(model):
    image = np.random.default_rng(1).integers(0, 255, (360, 1230, 3), dtype=np.uint8)
    cropping = ModelInput(28, image_crop="kitti_benchmark")
    (found,) = predict_with(model, [image], cropping, batch_size=1)
    (inside,) = predict(model, [image[8:, 7:1223]], short_side_px=28)
    assert np.array_equal(found[8:, 7:1223], inside)
    assert (found[:8, 7:1223] == inside[0]).all()
    assert (found[8:, :7] == inside[:, :1]).all()


class Plane(torch.nn.Module):
    """Says a plane, on which bilinear and (almost) bicubic interpolation agree off the border."""

    def __init__(self):
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor([0.3, 0.7]))

    def forward(self, images):
        rows, columns = (torch.arange(float(size)) for size in images.shape[2:])
        return (self.slope[0] * rows[:, None] + self.slope[1] * columns).expand(len(images), -1, -1)


@pytest.mark.slow
def test_centred_upsampling_is_that_of_transformers_post_processing():
    from transformers import DPTImageProcessor
    from transformers.modeling_outputs import DepthEstimatorOutput

    image = np.zeros((90, 126, 3), dtype=np.uint8)
    raw = DepthEstimatorOutput(predicted_depth=Plane()(torch.zeros(1, 3, 28, 42)).detach())
    (other,) = DPTImageProcessor().post_process_depth_estimation(raw, [image.shape[:2]])
    inner = np.s_[9:-9, 9:-9]

    def error(upsampling):
        seen = ModelInput(28, upsampling=upsampling)
        (found,) = predict_with(Plane(), [image], seen, batch_size=1)
        return np.abs(found - other["predicted_depth"].numpy())[inner].max()

    assert error("centred") < 0.05 < 4 * error("centred") < error("aligned")
