"""Validation while a model trains."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn

from dav2.models.depth_anything import DepthAnything
from dav2.training.module import DepthTraining
from dav2.training.pictures import draw_validation
from dav2.training.validation import ValidationConfig, freeze, measure
from dav2.training.validator import Validator

CONFIG = ValidationConfig(
    every_steps=1,
    short_side_px=42,
    batch_size=2,
    keep_best=True,
    max_depth_m=None,
)


class Red(DepthAnything):
    """Says that red is close, as it is in `discs`, with some noise; its weight is one number."""

    def __init__(self):
        nn.Module.__init__(self)
        self.weight = nn.Parameter(torch.zeros(1))
        self.noise = 0.0

    def forward(self, images):
        generator = torch.Generator().manual_seed(0)
        red = images[:, 0] * 0.229 + 0.485
        return red + self.noise * torch.rand(red.shape, generator=generator)


class Training(DepthTraining):
    """Stands for a training that has come to a step."""

    def __init__(self):
        LightningModule.__init__(self)
        self.averaged, self._shell, self.num_steps_done = Red(), [], 0

    def come_to(self, step, *, noise):
        self.num_steps_done, self.averaged.noise = step, noise
        with torch.no_grad():
            self.averaged.weight.fill_(float(step))


@pytest.fixture
def frozen(discs):
    return freeze(discs(3), CONFIG)


def test_the_weights_of_the_best_validation_are_kept_and_survive_a_restart(frozen):
    validator, training = Validator(frozen, CONFIG), Training()
    for step, noise in enumerate((0.5, 0.1, 0.9), start=1):
        training.come_to(step, noise=noise)
        validator._validate(training, measuring=True)
    restarted = Validator(frozen, CONFIG)
    restarted.load_state_dict(validator.state_dict())
    model, measures = restarted.final(training)
    assert measures["step"] == 2
    assert model.weight.item() == 2.0
    assert [entry["step"] for entry in restarted.history] == [1, 2, 3]


def test_the_last_weights_are_kept_where_the_best_are_not_wanted(frozen):
    told = []
    validator = Validator(
        frozen,
        replace(CONFIG, keep_best=False),
        listener=lambda measures, step: told.append(step),
    )
    training = Training()
    for step, noise in ((1, 0.1), (2, 0.9)):
        training.come_to(step, noise=noise)
        validator._validate(training, measuring=True)
    assert validator.final(training)[1]["step"] == 2
    assert told == [1, 2]
    assert validator.state_dict()["best"] == {}


def test_every_validation_is_measured_and_drawn_from_one_prediction(frozen):
    shown = {}
    validator = Validator(
        frozen, CONFIG, viewer=lambda picture, step: shown.update({step: picture})
    )
    training, calls = Training(), []
    for step, noise in ((10, 0.9), (20, 0.1)):
        training.come_to(step, noise=noise)
        hook = training.averaged.register_forward_hook(lambda *_: calls.append(1))
        validator._validate(training, measuring=True)
        hook.remove()
        assert len(calls) == step / 5  # each time, three samples in batches of two
        np.testing.assert_array_equal(
            shown[step], draw_validation(training.averaged, frozen, CONFIG)
        )
        expected = measure(training.averaged, frozen, CONFIG)
        assert validator.history[-1] == {"step": float(step), **expected}
    assert not np.array_equal(shown[10], shown[20])
