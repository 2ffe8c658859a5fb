"""Statistics that tell a usable label from a useless one."""

import numpy as np
import pandas as pd
import pytest
import torch

from dav2.labeling.quality import (
    flip_inconsistency,
    label_statistics,
    scale_inconsistency,
    statistics_on_device,
    worst_labels,
)


def test_describes_a_map_worked_out_by_hand():
    label = np.array([[0, 0], [1, 3], [2, 6]], np.float32)
    described = label_statistics(label)
    assert described["label_min"] == 0
    assert described["label_max"] == 6
    assert described["label_p50"] == 1.5
    assert described["zero_fraction"] == pytest.approx(2 / 6)
    assert described["degenerate"] is False
    # Rows -1, 0, 1 with means 0, 2, 4: covariance 4/3. Variances: rows 2/3, values 50/6 - 2 x 2.
    expected = (4 / 3) / np.sqrt(2 / 3 * 13 / 3)
    assert described["ramp_correlation"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (28, 42), (50, 50), (37, 49)])
def test_statistics_of_the_device_are_those_of_the_host(size):
    random = np.random.default_rng(0)
    any_values = random.normal(size=size).astype(np.float32)
    several = (
        any_values,
        np.maximum(0, any_values),
        np.full(size, 7.5, np.float32),
        np.zeros(size, np.float32),
        random.random(size, dtype=np.float32) * np.float32(0.01) + 1000,
        np.repeat(np.arange(size[0], dtype=np.float32)[:, None], size[1], axis=1),
    )
    found = statistics_on_device(torch.from_numpy(np.stack(several)))
    for values, described in zip(several, found, strict=True):
        expected = label_statistics(values)
        correlation = expected.pop("ramp_correlation")
        assert described.pop("ramp_correlation") == pytest.approx(correlation, abs=1e-9)
        assert described == expected


def test_percentiles_ignore_a_few_extremes():
    label = np.linspace(0, 1, 10_000, dtype=np.float32).reshape(100, 100)
    label[0, 0], label[-1, -1] = -50, 50
    described = label_statistics(label)
    assert described["label_p01"] == pytest.approx(0.01, abs=1e-3)
    assert described["label_p99"] == pytest.approx(0.99, abs=1e-3)


def test_a_vertical_ramp_correlates_fully_and_a_horizontal_one_not_at_all():
    ramp = np.repeat(np.arange(8, dtype=np.float32)[:, None], 5, axis=1)
    assert label_statistics(ramp)["ramp_correlation"] == pytest.approx(1)
    assert label_statistics(3 - 2 * ramp)["ramp_correlation"] == pytest.approx(-1)
    assert label_statistics(np.ascontiguousarray(ramp.T))["ramp_correlation"] == pytest.approx(0)


@pytest.mark.parametrize("value", [0.0, 7.5, -2.0])
def test_a_constant_map_is_degenerate_and_correlates_with_nothing(value):
    described = label_statistics(np.full((4, 6), value, np.float32))
    assert described["degenerate"] is True
    assert described["ramp_correlation"] == 0


def test_a_map_with_one_outlying_pixel_is_degenerate():
    label = np.zeros((50, 50), np.float32)
    label[3, 4] = 9
    assert label_statistics(label)["degenerate"] is True


def test_a_map_that_is_flat_compared_with_its_size_is_degenerate():
    random = np.random.default_rng(0).random((20, 30), dtype=np.float32)
    assert label_statistics(random * 0.01 + 1000)["degenerate"] is True
    assert label_statistics(random * 0.01)["degenerate"] is False


def test_a_model_that_mirrors_with_its_input_is_consistent():
    label = np.random.default_rng(0).random((4, 6), dtype=np.float32)
    assert flip_inconsistency(label, label[:, ::-1]) == 0


def test_inconsistency_is_a_share_of_the_range():
    label = np.array([[0, 4]], np.float32)
    # Mirrored back: [1, 4], one of two pixels off by 1 of a range of 4.
    assert flip_inconsistency(label, np.array([[4, 1]], np.float32)) == 1 / 8
    assert flip_inconsistency(10 * label, np.array([[40, 10]], np.float32)) == 1 / 8


def test_inconsistency_of_a_constant_label_is_not_defined():
    constant = np.ones((3, 4), np.float32)
    assert flip_inconsistency(constant, constant) is None


def test_another_scale_and_shift_at_another_resolution_is_consistent():
    label = np.random.default_rng(0).random((4, 6), dtype=np.float32)
    assert scale_inconsistency(label, 3 * label + 7) == pytest.approx(0, abs=1e-6)


def test_what_alignment_leaves_is_a_share_of_the_range():
    label = np.array([[0, 1, 2, 3]], np.float32)
    other = np.array([[0, 1, 3, 2]], np.float32)
    # Slope: covariance 4 / variance 5 about means of 1.5, so 0.3, 1.1, 2.7, 1.9 against the label.
    expected = (0.3 + 0.1 + 0.7 + 1.1) / 4 / 3
    assert scale_inconsistency(label, other) == pytest.approx(expected)
    assert scale_inconsistency(5 * label + 2, other) == pytest.approx(expected)


def test_an_answer_that_says_nothing_leaves_the_deviation_from_the_mean():
    label = np.array([[0, 4]], np.float32)
    assert scale_inconsistency(label, np.full((1, 2), 9, np.float32)) == pytest.approx(0.5)


def test_inconsistency_of_a_constant_label_at_another_resolution_is_not_defined():
    constant = np.ones((3, 4), np.float32)
    assert scale_inconsistency(constant, constant) is None


def test_the_worst_labels_come_first_and_what_is_not_bad_not_at_all():
    index = pd.DataFrame(
        {
            "flip_inconsistency": [0.1, np.nan, 0.3, 0.2],
            "scale_inconsistency": [np.nan] * 4,
            "zero_fraction": [0.0, 0.0, 0.0, 0.5],
            "ramp_correlation": [0.9, -0.9, 0.9, 0.95],
        },
        index=[7, 8, 9, 10],
    )
    assert worst_labels(index, num_samples=2) == {
        "flip_inconsistency": [2, 3],
        "zero_fraction": [3],
        "ramp_correlation": [3, 0],
    }
