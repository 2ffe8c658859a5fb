"""Validation on frozen samples."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from dav2.models.depth_anything import DepthAnything
from dav2.training.samples import TrainingSample
from dav2.training.validation import ValidationConfig, freeze, measure

CONFIG = ValidationConfig(
    every_steps=1,
    short_side_px=42,
    batch_size=2,
    keep_best=True,
    max_depth_m=None,
)


class Answers(DepthAnything):
    """A model that reads the answer off the red channel of the images of `discs`."""

    def __init__(self, answer):
        nn.Module.__init__(self)
        self.weight = nn.Parameter(torch.zeros(1))
        self.answer = answer

    def forward(self, images):
        return self.answer(images[:, 0] * 0.229 + 0.485)


def test_a_prediction_right_up_to_scale_and_shift_is_perfect(discs):
    frozen = freeze(discs(3), CONFIG)
    measures = measure(Answers(lambda red: 5 * red + 3), frozen, CONFIG)
    assert measures["delta1"] > 0.999
    assert measures["abs_rel_inverse"] < 0.02  # eight bits of red
    assert measures["pair_accuracy"] == 1.0


def test_a_constant_orders_no_pair(discs):
    measures = measure(Answers(torch.zeros_like), freeze(discs(3), CONFIG), CONFIG)
    assert measures["pair_accuracy"] == 0.0
    assert measures["abs_rel_inverse"] > 0.2


def test_no_ramp_orders_more_than_half_of_the_pairs(discs):
    def ramp(red):
        return torch.arange(red.shape[1], dtype=torch.float32)[:, None].expand_as(red)

    frozen = freeze(discs(3), CONFIG)
    for answer in (ramp, lambda red: -ramp(red)):
        assert measure(Answers(answer), frozen, CONFIG)["pair_accuracy"] == pytest.approx(0.5)


def test_metric_predictions_are_compared_as_they_stand(discs):
    config = replace(CONFIG, max_depth_m=20.0)
    frozen = freeze(discs(3, metres=True), config)
    exact = measure(Answers(lambda red: 1 / red), frozen, config)
    double = measure(Answers(lambda red: 2 / red), frozen, config)
    assert exact["abs_rel"] < 0.02
    assert exact["pair_accuracy"] == 1.0
    assert double["abs_rel"] == pytest.approx(1.0, abs=0.05)
    assert double["delta1"] == 0.0


def test_images_of_other_sizes_run_in_their_own_batches(discs):
    class Mixed:
        sample_ids = ("a", "b", "c")

        def read(self, index):
            shape = {"height": 56, "width": 42} if index == 1 else {}
            return discs(3, **shape).read(index)

    frozen = freeze(Mixed(), CONFIG)
    assert [sample.image.shape[:2] for sample in frozen] == [(42, 56), (56, 42), (42, 56)]
    assert measure(Answers(lambda red: red), frozen, CONFIG)["delta1"] > 0.999


def test_sky_and_the_unreliable_end_of_labels_are_not_compared(discs):
    sample = discs(1).read(0)
    target = sample.target.copy()
    target[:10] = 0.0
    target[10:20] = 0.03  # under a twentieth of the largest
    assert target.max() > 0.6

    class One:
        sample_ids = ("a",)

        def read(self, index):
            return replace(sample, target=target, pseudo=pseudo)

    pseudo = False
    (measured,) = freeze(One(), CONFIG)
    assert not measured.pixels[:10].any()
    assert measured.pixels[10:].all()
    pseudo = True
    (labelled,) = freeze(One(), CONFIG)
    assert not labelled.pixels[:20].any()
    assert labelled.pixels[20:].all()


def test_pairs_are_frozen_with_the_sample(discs):
    first, again = freeze(discs(2), CONFIG), freeze(discs(2), CONFIG)
    np.testing.assert_array_equal(first[1].pairs.closer, again[1].pairs.closer)
    assert not np.array_equal(first[0].pairs.closer, first[1].pairs.closer)


def test_samples_without_two_depths_are_refused():
    class Wall:
        sample_ids = ("wall",)

        def read(self, index):
            flat = np.ones((42, 56), np.float32)
            return TrainingSample("wall", np.zeros((42, 56, 3), np.uint8), flat, flat > 0)

    with pytest.raises(ValueError, match="expected images with different depths, got none among 1"):
        freeze(Wall(), CONFIG)
