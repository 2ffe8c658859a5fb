import numpy as np

from dav2.prediction.colours import colour_map, to_8_bits, to_closeness


def test_colours_run_from_dark_and_far_to_bright_and_close():
    colours = colour_map(np.linspace(2, 5, 256, dtype=np.float32)[None])
    assert colours.shape == (1, 256, 3)
    assert colours[0, 0].tolist() == [0x00, 0x00, 0x04]
    assert colours[0, -1].tolist() == [0xFC, 0xFF, 0xA4]
    luminance = colours[0] @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luminance) > -1).all()


def test_a_constant_map_is_dark():
    assert np.unique(colour_map(np.full((3, 4), 7, np.float32))).tolist() == [0, 4]


def test_given_limits_hold_for_every_map():
    values = np.array([[-1, 0, 1, 2, 9]], np.float32)
    assert to_8_bits(values, (0.0, 2.0)).tolist() == [[0, 0, 128, 255, 255]]


def test_metres_are_inverted_and_relative_depth_is_not():
    values = np.array([[0.5, 4.0, 0.0]], np.float32)
    assert np.allclose(to_closeness(values, is_metric=True), [[2.0, 0.25, 1000.0]])
    assert to_closeness(values, is_metric=False).tolist() == [[0.5, 4.0, 0.0]]
