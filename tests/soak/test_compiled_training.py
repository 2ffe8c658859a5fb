"""A compiled training on a CPU: the same losses within rounding. A minute, most of it compiling."""

from dataclasses import replace

import pytest
import torch

from dav2.models.depth_anything import DepthAnything, ModelConfig
from dav2.training.fit import fit
from tests.unit.training import conftest

pytestmark = pytest.mark.soak

discs, augment, fit_config = conftest.discs, conftest.augment, conftest.fit_config


@pytest.mark.parametrize("checkpoint_activations", [False, True])
def test_a_compiled_training_follows_the_plain_one(
    discs, fit_config, tmp_path, checkpoint_activations
):
    def train(name, **changes):
        torch.manual_seed(0)
        config = replace(fit_config(num_steps=4, log_every_steps=1), **changes)
        model = DepthAnything(ModelConfig("vit64x4"))
        return fit(model, discs(7), discs(3, first=100), config=config, work=tmp_path / name)

    (tmp_path / "plain").mkdir()
    (tmp_path / "compiled").mkdir()
    plain = train("plain")
    compiled = train("compiled", compile_blocks=True, checkpoint_activations=checkpoint_activations)
    assert compiled.model.state_dict().keys() == plain.model.state_dict().keys()
    for row, expected in zip(compiled.curves, plain.curves, strict=True):
        assert row["loss"] == pytest.approx(expected["loss"], rel=1e-3)
