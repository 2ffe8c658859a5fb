"""Random views."""

import colorsys

import numpy as np
import pytest
import torch

from dav2.training.augment import (
    AugmentConfig,
    distort,
    draw_colours,
    generator,
    random_view,
)
from dav2.training.samples import TrainingSample


def coordinates(height, width):
    """A sample whose image and target both tell where each pixel comes from."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows, columns, 0 * rows], axis=2).astype(np.uint8)
    target = (rows + columns / 1000).astype(np.float32)
    return TrainingSample("a", image, target, columns % 2 == 0)


def factors(*rows):
    return torch.tensor(rows, dtype=torch.float32)


def test_image_target_and_mask_are_cut_alike(augment):
    sample = coordinates(60, 90)
    config = augment(short_side_px=60, max_scale=1.0)
    for position in range(8):
        view = random_view(sample, config, generator(0, position), crop_px=(28, 42))
        assert view.image.shape == (28, 42, 3)
        row, column = view.image[..., 0].astype(float), view.image[..., 1].astype(float)
        np.testing.assert_allclose(view.target, row + column / 1000, rtol=1e-6)
        np.testing.assert_array_equal(view.valid, column % 2 == 0)


def test_half_of_the_views_are_mirrored(augment):
    sample = coordinates(60, 90)
    config = augment(short_side_px=60, max_scale=1.0)
    mirrored = 0
    for position in range(200):
        view = random_view(sample, config, generator(1, position), crop_px=(28, 42))
        columns = view.image[0, :, 1].astype(int)
        mirrored += int(columns[0] > columns[-1])
    assert 70 < mirrored < 130


def test_an_image_larger_than_its_label_meets_it_pixel_on_pixel(augment):
    label = coordinates(28, 42)
    image = np.repeat(np.repeat(label.image, 4, axis=0), 4, axis=1)
    config = augment(short_side_px=28, max_scale=1.0, flip_probability=0.0)
    sample = TrainingSample("a", image, label.target, label.valid)
    view = random_view(sample, config, generator(0, 0), crop_px=(28, 42))
    np.testing.assert_array_equal(view.target, label.target)
    assert np.abs(view.image.astype(int) - label.image.astype(int)).max() <= 1


def test_an_upright_image_is_enlarged_until_a_wide_crop_fits(augment):
    config = augment(short_side_px=28)
    view = random_view(coordinates(90, 30), config, generator(0, 0), crop_px=(28, 42))
    assert view.image.shape == (28, 42, 3)
    assert int(view.image[..., 1].max()) - int(view.image[..., 1].min()) >= 21


def test_a_position_decides_its_view(augment):
    sample = coordinates(60, 90)
    first, again, other = (
        random_view(sample, augment(), generator(0, position), crop_px=(28, 42))
        for position in (7, 7, 8)
    )
    np.testing.assert_array_equal(first.image, again.image)
    assert not np.array_equal(first.image, other.image)


def test_colours_are_drawn_within_their_limits(augment):
    config = augment(
        jitter_probability=0.5,
        brightness=0.4,
        hue=0.1,
        blur_probability=0.5,
        blur_sigma_px=(0.5, 2.0),
    )
    drawn = np.stack([draw_colours(config, generator(0, position)) for position in range(400)])
    unchanged = (drawn[:, :4] == [1, 1, 1, 0]).all(axis=1)
    assert 150 < unchanged.sum() < 250
    assert 0.6 <= drawn[:, 0].min() < 0.7
    assert 1.3 < drawn[:, 0].max() <= 1.4
    assert (drawn[:, 1:3] == 1).all()
    assert np.abs(drawn[:, 3]).max() <= 0.1
    sigma = drawn[:, 4]
    assert 150 < (sigma == 0).sum() < 250
    assert sigma[sigma > 0].min() >= 0.5
    assert sigma.max() <= 2.0


def test_neutral_factors_leave_an_image_as_it_is():
    images = torch.randint(0, 256, (2, 5, 7, 3), dtype=torch.uint8)
    neutral = factors([1, 1, 1, 0, 0], [1, 1, 1, 0, 0])
    for max_sigma_px in (0.0, 1.0):
        changed = distort(images, neutral, max_sigma_px=max_sigma_px).int() - images.int()
        assert changed.abs().max() <= 1  # through YIQ and back, rounded


def test_brightness_contrast_and_saturation_are_as_worked_out_by_hand():
    images = torch.tensor([100, 50, 200], dtype=torch.uint8).expand(3, 1, 2, 3).clone()
    images[:, 0, 1] = torch.tensor([0, 0, 0], dtype=torch.uint8)
    result = distort(
        images,
        factors([0.5, 1, 1, 0, 0], [1, 0.5, 1, 0, 0], [1, 1, 0, 0, 0]),
        max_sigma_px=0.0,
    ).int()
    grey = 0.299 * 100 + 0.587 * 50 + 0.114 * 200  # 82.05; mean over both pixels 41.025
    expected = torch.tensor(
        [
            [[50, 25, 100], [0, 0, 0]],
            [[71, 46, 121], [21, 21, 21]],  # half of each plus half of 41
            [[round(grey)] * 3, [0, 0, 0]],
        ]
    )
    assert (result[:, 0] - expected).abs().max() <= 1


def test_a_third_of_a_turn_makes_red_green_or_blue():
    images = torch.tensor([160, 80, 80], dtype=torch.uint8).expand(2, 1, 1, 3).clone()
    result = distort(images, factors([1, 1, 1, 1 / 3, 0], [1, 1, 1, -1 / 3, 0]), max_sigma_px=0.0)
    hues = [colorsys.rgb_to_hsv(*(pixel / 255.0).tolist())[0] for pixel in result[:, 0, 0]]
    assert sorted(round(3 * hue) for hue in hues) == [1, 2]


def test_blur_spreads_a_point_by_its_deviation_and_keeps_its_sum():
    images = torch.zeros(2, 31, 33, 3, dtype=torch.uint8)
    images[:, 15, 16] = 255
    images[:, 14:17, 15:18] = 255
    result = distort(images, factors([1, 1, 1, 0, 1.5], [1, 1, 1, 0, 0]), max_sigma_px=2.0)
    assert torch.equal(result[1], images[1])
    blurred = result[0, ..., 0].double()
    assert blurred.sum() == pytest.approx(9 * 255, rel=0.05)  # each pixel is rounded
    rows = torch.arange(31) - 15
    variance = (blurred.sum(1) * rows**2).sum() / blurred.sum()
    assert variance == pytest.approx(1.5**2 + 2 / 3, rel=0.1)  # of the blur, of the square


def test_a_crop_off_the_patch_grid_or_a_shrinking_scale_is_refused():
    with pytest.raises(ValueError, match="expected crops of multiples of 14 px"):
        AugmentConfig(short_side_px=42, crops_px=((28, 42), (28, 40)))
    with pytest.raises(ValueError, match=r"expected crops .* got none and scale 1"):
        AugmentConfig(short_side_px=42, crops_px=())
    with pytest.raises(ValueError, match=r"a scale from 1, got 28 x 42 and scale 0\.5"):
        AugmentConfig(short_side_px=42, crops_px=((28, 42),), max_scale=0.5)
