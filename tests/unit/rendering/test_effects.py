"""Air, water, tone and ink between a scene and its picture."""

import numpy as np
import pytest

from dav2.rendering.effects import Medium, drawn, through_medium, tone_mapped

HEIGHT, WIDTH = 10, 14


def light(value=0.5):
    return np.full((HEIGHT, WIDTH, 3), value, dtype=np.float32)


def test_mist_takes_light_by_the_distance():
    distance = np.full((HEIGHT, WIDTH), 20.0, dtype=np.float32)
    distance[0] = np.inf
    distance[1] = 0.0
    mist = Medium(np.array([0.2, 0.3, 0.4]), density=0.05)
    seen = through_medium(light(), distance, mist, np.random.default_rng(0))
    # exp(-0.05 * 20) = 0.3679.
    assert seen[5, 5, 0] == pytest.approx(0.5 * 0.3679 + 0.2 * 0.6321, abs=1e-4)
    np.testing.assert_allclose(seen[0], np.broadcast_to([0.2, 0.3, 0.4], (WIDTH, 3)), rtol=1e-5)
    np.testing.assert_allclose(seen[1], 0.5)


def test_clear_air_changes_nothing():
    distance = np.full((HEIGHT, WIDTH), 20.0, dtype=np.float32)
    seen = through_medium(light(), distance, Medium(), np.random.default_rng(0))
    np.testing.assert_array_equal(seen, light())


def test_rain_and_snow_brighten_some_pixels():
    plain = np.full((4 * HEIGHT, 4 * WIDTH, 3), 0.1, dtype=np.float32)
    distance = np.full(plain.shape[:2], 20.0, dtype=np.float32)
    for medium in (Medium(streaks=1.0), Medium(specks=0.1)):
        seen = through_medium(plain, distance, medium, np.random.default_rng(0))
        assert 0 < (np.abs(seen[..., 0] - 0.1) > 0.001).mean() < 0.7


def test_the_bright_part_gets_the_value_asked_for():
    radiance = np.linspace(1, 5, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH, 1)
    picture = tone_mapped(np.repeat(radiance, 3, 2).astype(np.float32), bright=0.7)
    assert np.quantile(picture[..., 0], 0.9) == pytest.approx(0.7 * 255, abs=2)


def test_a_bright_window_does_not_leave_the_room_dark():
    radiance = light(0.01)
    radiance[:3] = 10.0
    picture = tone_mapped(radiance)
    assert picture[8, 8, 0] > 100
    assert picture[0, 0, 0] > 230


def test_a_black_scene_stays_black():
    assert tone_mapped(light(0.0)).max() == 0


def test_ink_marks_the_outline_of_a_near_thing():
    depth = np.full((HEIGHT, WIDTH), 9.0, dtype=np.float32)
    depth[3:7, 4:9] = 2.0
    depth[0] = np.inf
    normal = np.broadcast_to(np.array([0, 0, 1], np.float32), (HEIGHT, WIDTH, 3)).copy()
    picture = drawn(
        light(0.5), normal, depth, light=np.array([0.0, 0.0, 1.0]), paper=np.array([0.1, 0.9, 0.1])
    )
    assert picture[2, 6].max() < 0.2 * picture[5, 6].max()
    assert picture[5, 3].max() < 0.2 * picture[5, 6].max()
    np.testing.assert_allclose(picture[0, 0], [0.012, 0.108, 0.012], rtol=1e-5)
