"""Trivial baselines: means worked out by hand, masks, shapes and degenerate training sets."""

import numpy as np
import pytest

from dav2.metrics.baselines import GRID, TrainingMean, baseline_map, normalised_inverse_depth


def test_normalises_between_the_extremes_of_valid_pixels():
    inverse = np.array([[0.5, 1.0, 0.0, 9.0]], np.float32)
    valid = np.array([[True, True, True, False]])
    assert normalised_inverse_depth(inverse, valid=valid)[:, :3].tolist() == [[0.5, 1.0, 0.0]]


def test_normalising_ignores_scale_and_shift():
    inverse = np.random.default_rng(0).random((5, 7), np.float32)
    valid = np.ones((5, 7), bool)
    plain = normalised_inverse_depth(inverse, valid=valid)
    changed = normalised_inverse_depth(3 * inverse + 1, valid=valid)
    assert changed == pytest.approx(plain, abs=1e-6)


def test_a_constant_map_normalises_to_zero():
    inverse = np.full((2, 3), 0.25, np.float32)
    assert not normalised_inverse_depth(inverse, valid=np.ones((2, 3), bool)).any()


def test_the_mean_counts_valid_pixels_only():
    mean = TrainingMean()
    rows, columns = GRID
    first = np.ones(GRID)
    mean.add(first, valid=np.ones(GRID, bool))
    left = np.zeros(GRID, bool)
    left[:, : columns // 2] = True
    mean.add(np.where(left, 3.0, np.nan), valid=left)
    assert (mean.value()[:, : columns // 2] == 2.0).all()
    assert (mean.value()[:, columns // 2 :] == 1.0).all()
    assert mean.value().shape == (rows, columns)


def test_maps_of_any_size_meet_on_one_grid():
    mean = TrainingMean()
    for height, width in ((50, 200), (300, 70)):
        upper = np.zeros((height, width))
        upper[: height // 2] = 1.0
        mean.add(upper, valid=np.ones((height, width), bool))
    assert (mean.value()[: GRID[0] // 2] == 1.0).all()
    assert (mean.value()[GRID[0] // 2 :] == 0.0).all()


def test_cells_that_nothing_reached_have_the_mean_of_all():
    mean = TrainingMean()
    valid = np.ones(GRID, bool)
    valid[0] = False
    mean.add(np.where(valid, 4.0, np.nan), valid=valid)
    assert (mean.value() == 4.0).all()


def test_a_mean_of_nothing_is_refused():
    mean = TrainingMean()
    mean.add(np.ones((3, 4)), valid=np.zeros((3, 4), bool))
    with pytest.raises(ValueError, match="at least one valid pixel, got none"):
        mean.value()


def test_predictions_worked_out_by_hand():
    small = np.array([[0.0, 2.0], [4.0, 6.0]])
    assert (baseline_map("constant", 3, 5, mean=small) == 3.0).all()
    assert baseline_map("ramp", 3, 5, mean=small)[:, 4].tolist() == [0.0, 0.5, 1.0]
    # Rows 1 and 5 at the centres of four rows: level at the ends, linear between.
    rows = baseline_map("row_mean", 4, 5, mean=small)
    assert rows[:, 2].tolist() == [1.0, 2.0, 4.0, 5.0]
    pixels = baseline_map("pixel_mean", 4, 4, mean=small)
    assert pixels[0].tolist() == [0.0, 0.5, 1.5, 2.0]
    assert pixels[:, 0].tolist() == [0.0, 1.0, 3.0, 4.0]


@pytest.mark.parametrize("name", ["constant", "ramp", "row_mean", "pixel_mean"])
def test_predictions_have_the_size_of_the_image(name):
    prediction = baseline_map(name, 7, 11, mean=np.random.default_rng(0).random(GRID))
    assert prediction.shape == (7, 11)
    assert prediction.dtype == np.float32


def test_a_map_on_its_own_grid_stays_as_it_is():
    mean = np.random.default_rng(0).random(GRID)
    assert baseline_map("pixel_mean", *GRID, mean=mean) == pytest.approx(mean, rel=1e-6)
