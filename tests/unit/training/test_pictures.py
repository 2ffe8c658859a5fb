"""The picture of a validation."""

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from dav2.models.depth_anything import DepthAnything
from dav2.training.pictures import draw_validation
from dav2.training.validation import ValidationConfig, freeze

CONFIG = ValidationConfig(
    every_steps=1,
    short_side_px=42,
    batch_size=2,
    keep_best=False,
    max_depth_m=None,
)


class Red(DepthAnything):
    """Says that red is close, as it is in `discs`."""

    def __init__(self):
        nn.Module.__init__(self)
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images):
        return 4 * images[:, 0] + 9


def test_a_row_shows_image_target_and_an_aligned_prediction_in_the_same_greys(discs):
    frozen = freeze(discs(3), CONFIG)
    frozen[0].pixels[:5] = False
    picture = draw_validation(Red(), frozen, CONFIG, num_rows=2)
    assert picture.shape == (42 + 2 + 42, 56 + 2 + 56 + 2 + 56, 3)
    first = picture[:42]
    np.testing.assert_array_equal(first[:, :56], frozen[0].image)
    target, prediction = first[:, 58:114].astype(int), first[:, 116:].astype(int)
    assert (target[:5] == 0).all()
    assert target.max() == 255
    assert np.abs(target[5:] - prediction[5:]).max() <= 4
    assert (picture[42:44] == 255).all()


def test_samples_of_other_sizes_stand_in_one_picture(discs):
    tall = freeze(discs(1, height=56, width=42), CONFIG)
    wide = freeze(discs(1), CONFIG)
    assert draw_validation(Red(), wide + tall, CONFIG).shape == (2 * 56 + 2, 3 * 56 + 4, 3)


def test_metres_are_drawn_as_they_are(discs):
    config = replace(CONFIG, max_depth_m=20.0)

    class Metres(Red):
        def forward(self, images):
            return torch.full(images[:, 0].shape, 2.0)

    picture = draw_validation(Metres(), freeze(discs(1, metres=True), config), config)
    prediction = picture[:, 116:]
    assert len(np.unique(prediction)) == 1
    assert 120 < prediction.max() < 255  # 1 / 2 m where the closest is at about 1 m
