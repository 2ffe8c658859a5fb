"""Statistics of images and depth maps, worked out by hand."""

import io

import numpy as np
import pytest
from PIL import Image

from dav2.data.sample import DepthSample
from dav2.data.statistics import depth_statistics, image_statistics, perceptual_hash

INF, NAN = np.inf, np.nan


def sample(depth, valid, sky=None, *, scale_known=True):
    depth = np.array(depth, np.float32)
    return DepthSample(
        sample_id="a",
        dataset="diode",
        scene="s",
        image=np.zeros((*depth.shape, 3), np.uint8),
        depth=depth,
        valid=np.array(valid),
        sky=None if sky is None else np.array(sky),
        intrinsics=None,
        scale_known=scale_known,
    )


def grey(levels):
    return np.repeat(np.array(levels, np.uint8)[..., None], 3, axis=2)


def test_brightness_and_contrast_are_mean_and_deviation_of_luma():
    found = image_statistics(grey([[0, 0, 255, 255]]))

    assert found.brightness == pytest.approx(0.5)
    assert found.contrast == pytest.approx(0.5)
    assert found.sharpness == 0  # too small for a Laplacian


def test_luma_weighs_green_most():
    green = np.zeros((2, 5, 3), np.uint8)
    green[..., 1] = 255

    assert image_statistics(green).brightness == pytest.approx(0.587, abs=0.002)


def test_sharpness_is_the_variance_of_the_laplacian():
    # One point of 51 (0.2) in 5 x 5: inside, the Laplacian is -0.8 there and 0.2 at 4 neighbours.
    levels = np.zeros((5, 5))
    levels[2, 2] = 51
    mean = (-0.8 + 4 * 0.2) / 9
    squares = (0.8**2 + 4 * 0.2**2) / 9

    assert image_statistics(grey(levels)).sharpness == pytest.approx(squares - mean**2)


def test_sharpness_of_a_tall_image_is_that_of_its_parts_together():
    levels = np.random.default_rng(0).integers(0, 256, (600, 5)).astype(np.float64)
    inside = levels[1:-1, 1:-1]
    neighbours = levels[:-2, 1:-1] + levels[2:, 1:-1] + levels[1:-1, :-2] + levels[1:-1, 2:]

    expected = np.var((neighbours - 4 * inside) / 255)

    assert image_statistics(grey(levels)).sharpness == pytest.approx(expected, rel=1e-12)


def test_a_ramp_has_contrast_but_no_sharpness():
    found = image_statistics(grey(np.tile(np.arange(0, 60, 10), (4, 1))))

    assert found.sharpness == 0
    assert found.contrast > 0.05


def test_depth_statistics_leave_sky_and_invalid_pixels_out():
    found = depth_statistics(
        sample(
            [[1, 2, 3, INF], [NAN, 99, INF, 5]],
            [[True, True, True, True], [False, False, False, True]],
            [[False, False, False, True], [False, False, False, False]],
        )
    )

    assert found.valid_fraction == 5 / 8
    assert found.sky_fraction == 1 / 8
    assert found.nonfinite_fraction == 2 / 8
    # Of 1, 2, 3, 5: the median between 2 and 3; 1 % and 99 % on the outer intervals.
    assert found.depth_p50_m == pytest.approx(2.5)
    assert found.depth_p01_m == pytest.approx(1 + 0.03)
    assert found.depth_p99_m == pytest.approx(5 - 0.03 * 2)
    assert not found.depth_constant


def test_a_map_of_one_depth_is_called_constant():
    found = depth_statistics(sample([[4, 4, 7]], [[True, True, False]]))

    assert found.depth_constant
    assert (found.depth_p01_m, found.depth_p99_m) == (4, 4)
    assert found.sky_fraction is None


def test_sky_alone_has_no_depth():
    found = depth_statistics(sample([[INF, INF]], [[True, True]], [[True, True]]))

    assert found.depth_p50_m is None
    assert found.depth_constant
    assert found.nonfinite_fraction == 0


def test_an_unknown_scale_gives_no_metres():
    found = depth_statistics(sample([[4, 5]], [[True, True]], scale_known=False))

    assert (found.depth_p01_m, found.depth_p50_m, found.depth_p99_m) == (None, None, None)
    assert not found.depth_constant


def test_a_sample_without_depth_is_an_error():
    unlabelled = DepthSample("a", "folder", "", np.zeros((1, 1, 3), np.uint8), *[None] * 4)

    with pytest.raises(ValueError, match="a: expected a sample with depth, got none"):
        depth_statistics(unlabelled)


def test_colour_is_told_by_the_span_of_channels_and_by_red_less_blue():
    image = np.array([[[255, 51, 0], [51, 51, 102]]], np.uint8)

    found = image_statistics(image)

    assert found.colourfulness == pytest.approx((1.0 + 0.2) / 2)
    assert found.red_minus_blue == pytest.approx((1.0 - 0.2) / 2)
    assert image_statistics(image[..., ::-1].copy()).red_minus_blue == pytest.approx(-0.4)
    assert image_statistics(grey([[9, 200]])).colourfulness == 0


def test_levels_and_shares_at_the_limits_are_counted_below_the_sky():
    found = depth_statistics(
        sample(
            [[1, 1, 2, 4], [4, 4, 9, INF]],
            [[True, True, True, True], [True, True, False, True]],
            [[False] * 4, [False, False, False, True]],
        )
    )

    assert found.depth_levels == 3
    assert found.depth_at_min_fraction == pytest.approx(2 / 6)
    assert found.depth_at_max_fraction == pytest.approx(3 / 6)


def test_a_map_without_a_pixel_below_the_sky_has_no_levels():
    found = depth_statistics(sample([[INF, INF]], [[True, True]], [[True, True]]))

    assert (found.depth_levels, found.depth_at_max_fraction) == (0, 0.0)


def bits_between(first, second):
    return (int(first, 16) ^ int(second, 16)).bit_count()


def test_perceptual_hashes_stay_under_resizing_and_jpeg_and_differ_for_other_images():
    def soft(seed):
        small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
        return Image.fromarray(small).resize((160, 120), Image.Resampling.BICUBIC)

    picture = soft(0)
    stream = io.BytesIO()
    picture.resize((96, 72), Image.Resampling.LANCZOS).save(stream, "JPEG", quality=60)
    again = Image.open(stream)
    hashes = [
        perceptual_hash(entry.convert("L"))
        for entry in (picture, again, picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT), soft(1))
    ]

    assert len(hashes[0]) == 16
    assert bits_between(hashes[0], hashes[1]) <= 3
    assert bits_between(hashes[0], hashes[2]) > 10
    assert bits_between(hashes[0], hashes[3]) > 10
