"""Linear colour becomes an image as Hypersim's authors make it."""

import numpy as np
import pytest

from dav2.data.tone_mapping import tone_map

ALL = np.ones((1, 11), bool)


def grey(values):
    return np.repeat(np.array([values], np.float32)[..., None], 3, axis=2)


def test_the_ninetieth_percentile_is_shown_at_four_fifths():
    image = tone_map(grey(range(11)), ALL)  # the 90th percentile of 0 to 10 is 9

    assert image[0, 9].tolist() == [204, 204, 204]  # 0.8 of 255
    assert image[0, 0].tolist() == [0, 0, 0]
    assert image[0, 10, 0] == round(255 * 0.8 * (10 / 9) ** (1 / 2.2))


def test_the_scale_of_the_colours_does_not_matter_but_where_there_is_geometry_does():
    colour = grey([*range(10), 1000])
    sky = np.array([[True] * 10 + [False]])

    assert (tone_map(colour, sky) == tone_map(colour * 64, sky)).all()
    assert tone_map(colour, sky)[0, 9, 0] > tone_map(colour, ALL)[0, 9, 0]
    assert tone_map(colour, sky)[0, 10, 0] == 255


def test_brightness_weighs_green_most():
    green, red = np.zeros((2, 1, 11, 3), np.float32)
    green[..., 1], red[..., 0] = 1, 1

    # The weights 0.59 and 0.3 make a pure green darker on the screen than a pure red.
    assert tone_map(green, ALL)[0, 0, 1] == pytest.approx(255 * min(1, 0.8 * 0.59 ** (-1 / 2.2)))
    assert tone_map(red * 0.1, ALL)[0, 0, 0] == 255


@pytest.mark.parametrize("value", [np.nan, np.inf, -5.0, 0.0])
def test_what_is_not_light_is_black(value):
    image = tone_map(grey([value] + [4] * 10), ALL)

    assert image[0, 0].tolist() == [0, 0, 0]
    assert image[0, 1, 0] == 204


def test_darkness_stays_dark_and_without_geometry_nothing_is_scaled():
    assert not tone_map(grey([1e-6] * 11), ALL).any()
    assert tone_map(grey([1.0] * 11), ~ALL)[0, 0, 0] == 255
