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
