"""Sizes, resizing and normalisation."""

import numpy as np
import pytest
import torch

from dav2.data.transforms import normalise, prepare_size, resize_image, resize_map


@pytest.mark.parametrize(
    ("height", "width", "short_side_px", "expected"),
    [
        (1080, 1920, 518, (518, 924)),  # 1920 * 518 / 1080 = 920.9 = 65.8 patches
        (1920, 1080, 518, (924, 518)),
        (126, 168, 84, (84, 112)),
        (100, 100, 90, (84, 84)),  # 6.43 patches
        (100, 100, 91, (98, 98)),  # exactly half way: up
        (3, 900, 2, (14, 602)),  # never below one patch
    ],
)
def test_short_side_and_multiples_are_as_worked_out_by_hand(height, width, short_side_px, expected):
    assert prepare_size(height, width, short_side_px=short_side_px) == expected


def test_another_patch_size_gives_its_multiples():
    assert prepare_size(480, 640, short_side_px=96, multiple=16) == (96, 128)


def test_a_size_of_nothing_is_refused():
    with pytest.raises(ValueError, match="prepare_size: expected sides of at least 1, got 0 x 7"):
        prepare_size(0, 7, short_side_px=14)


def test_shrinking_averages_rather_than_drops_pixels():
    image = np.zeros((8, 12, 3), np.uint8)
    image[:, ::2] = 200  # stripes one pixel wide
    third = resize_image(image, (4, 4))
    assert third.shape == (4, 4, 3)
    assert third.dtype == np.uint8
    # Every third pixel alone would be 0 or 200 in turn.
    assert np.abs(third[:, 1:3].astype(int) - 100).max() <= 40


def test_resizing_an_image_to_its_own_size_returns_it():
    image = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3)
    assert resize_image(image, (2, 5)) is image


def test_resizing_a_mirrored_image_mirrors_the_result():
    image = np.random.default_rng(0).integers(0, 256, (9, 14, 3), np.uint8)
    mirrored = resize_image(np.ascontiguousarray(image[:, ::-1]), (4, 7))
    assert np.abs(mirrored[:, ::-1].astype(int) - resize_image(image, (4, 7))).max() <= 1


def test_a_resized_map_takes_the_nearest_pixels():
    values = np.arange(4 * 6, dtype=np.float32).reshape(4, 6)
    np.testing.assert_array_equal(resize_map(values, (2, 3)), [[7, 9, 11], [19, 21, 23]])
    np.testing.assert_array_equal(resize_map(values[:1, :2], (2, 4)), [[0, 0, 1, 1]] * 2)


def test_a_resized_mask_stays_a_mask_and_infinity_stays_infinite():
    assert resize_map(np.eye(4, dtype=bool), (2, 8)).dtype == bool
    assert np.isinf(resize_map(np.full((2, 3), np.inf, np.float32), (1, 2))).all()


@pytest.mark.parametrize("resize", [resize_image, resize_map])
def test_resizing_to_nothing_is_refused(resize):
    values = np.zeros((2, 3, 3) if resize is resize_image else (2, 3), np.uint8)
    with pytest.raises(ValueError, match=r"expected a size of at least 1 x 1, got 0 x 4"):
        resize(values, (0, 4))


def test_normalising_gives_the_published_mean_and_deviation():
    images = torch.tensor([255, 0, 128], dtype=torch.uint8).expand(2, 4, 5, 3)
    result = normalise(images)
    assert result.shape == (2, 3, 4, 5)
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, (128 / 255 - 0.406) / 0.225]
    torch.testing.assert_close(result[1, :, 3, 2], torch.tensor(expected))
