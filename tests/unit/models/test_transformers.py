"""Our numbers against Transformers' implementation, on the same random weights."""

import pytest
import torch
from PIL import Image

from dav2.models.checkpoints import load
from dav2.models.depth_anything import ModelConfig
from dav2.models.interchange import write_transformers
from tests.fixtures.transformers import random_model, relative_error


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("transformers")


@pytest.mark.parametrize(
    ("max_depth_m", "height", "width"),
    [
        (None, 140, 196),
        (None, 518, 518),
        (None, 518, 686),
        (None, 714, 350),  # positions spread along one axis and gathered along the other
        (20.0, 140, 196),
        (20.0, 518, 518),
    ],
)
def test_small_model_agrees(folder, max_depth_m, height, width):
    config = ModelConfig("vits", max_depth_m)
    place = folder / str(max_depth_m)
    assert relative_error(config, place, height=height, width=width) < 1e-5


def test_version_1_agrees(tmp_path):
    config = ModelConfig("vits", version=1)
    assert relative_error(config, tmp_path / "m", height=140, width=196) < 1e-5


def test_its_pipeline_takes_our_folder_and_we_take_what_it_saves(tmp_path):
    from transformers import AutoModelForDepthEstimation, pipeline

    model = random_model(ModelConfig("vits"))
    write_transformers(model, tmp_path / "ours")
    estimate = pipeline("depth-estimation", model=str(tmp_path / "ours"), device="cpu")
    depth = estimate(Image.new("RGB", (90, 60), (200, 80, 10)))["predicted_depth"]
    assert tuple(depth.shape[-2:]) == (60, 90)
    theirs = AutoModelForDepthEstimation.from_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    again, _ = load(tmp_path / "theirs")
    assert again.config == model.config
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
