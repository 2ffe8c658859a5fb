"""Pairs of points: ordering, balance, sampling from dense truth and sky."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dav2.metrics.pairs import (
    PointPairs,
    balanced_accuracy,
    correct_pairs,
    sample_depth_pairs,
    sample_sky_pairs,
)


def scene(height=30, width=40, seed=0):
    rng = np.random.default_rng(seed)
    return np.exp(rng.uniform(0, 3, (height, width)))


def draw(depth, **changes):
    options = {"pixels": np.ones(depth.shape, bool), "num_pairs": 20, "min_ratio": 1.3, "seed": "a"}
    return sample_depth_pairs(depth, **(options | changes))


def test_orders_worked_out_by_hand():
    pred = np.array([[1.0, 2.0, 3.0], [4.0, 4.0, np.nan]])
    pairs = PointPairs(
        closer=np.array([[0, 1], [0, 0], [1, 0], [1, 0], [1, 2]]),
        farther=np.array([[0, 0], [0, 2], [1, 1], [1, 2], [0, 0]]),
    )
    # Right; wrong; a tie; and twice no number.
    assert correct_pairs(pred, pairs).tolist() == [True, False, False, False, False]


@settings(max_examples=30, deadline=None)
@given(scale=st.floats(0.01, 100), shift=st.floats(-10, 10), seed=st.integers(0, 1000))
def test_order_ignores_increasing_changes(scale, shift, seed):
    depth = scene(seed=seed)
    pairs = draw(depth)
    pred = np.random.default_rng(seed).integers(0, 9, depth.shape) / 1.0
    assert (correct_pairs(scale * pred + shift, pairs) == correct_pairs(pred, pairs)).all()


def test_tells_which_point_is_upper():
    pairs = PointPairs(
        closer=np.array([[0, 0], [5, 0], [2, 3]]), farther=np.array([[4, 9], [1, 0], [2, 0]])
    )
    assert pairs.upper_is_closer().tolist() == [1, -1, 0]


def test_balance_worked_out_by_hand():
    correct = np.array([True, True, True, False, True])
    upper = np.array([1, 1, 1, -1, 0])
    # Upper: three of three and the level pair, 4/4. Lower: none of one and the level pair, 1/2.
    assert balanced_accuracy(correct, upper) == pytest.approx(0.75)
    assert balanced_accuracy(correct[:3], upper[:3]) == 1.0


def test_balance_of_no_pairs_is_refused():
    with pytest.raises(ValueError, match="at least one pair, got none"):
        balanced_accuracy(np.zeros(0, bool), np.zeros(0, np.int64))


def test_sampled_pairs_differ_enough_and_half_have_the_upper_point_closer():
    depth = scene()
    pairs = draw(depth)
    near, far = depth[tuple(pairs.closer.T)], depth[tuple(pairs.farther.T)]
    assert (far > 1.3 * near).all()
    upper = pairs.upper_is_closer()
    assert (upper == 1).sum() == (upper == -1).sum() == 10


def test_truth_orders_all_pairs_a_constant_none_and_a_ramp_half():
    depth = scene()
    pairs = draw(depth)
    ramp = np.linspace(0, 1, depth.shape[0])[:, None] * np.ones(depth.shape)
    assert correct_pairs(1 / depth, pairs).mean() == 1.0
    assert correct_pairs(np.full(depth.shape, 0.3), pairs).mean() == 0.0
    assert correct_pairs(ramp, pairs).mean() == 0.5
    assert correct_pairs(-ramp, pairs).mean() == 0.5
    assert balanced_accuracy(correct_pairs(ramp, pairs), pairs.upper_is_closer()) == 0.5


def test_the_seed_alone_decides_the_draw():
    depth = scene()
    assert (draw(depth).closer == draw(depth).closer).all()
    assert (draw(depth).closer != draw(depth, seed="b").closer).any()


def test_draws_only_where_evaluated():
    depth = scene()
    pixels = np.random.default_rng(1).random(depth.shape) > 0.7
    depth[~pixels] = np.nan
    pairs = draw(depth, pixels=pixels)
    assert len(pairs.closer) == 20
    assert pixels[tuple(pairs.closer.T)].all()
    assert pixels[tuple(pairs.farther.T)].all()


@pytest.mark.parametrize("case", ["flat", "one_pixel", "ramp"])
def test_offers_no_pairs_where_there_are_none(case):
    depth = np.ones((6, 8))
    pixels = np.ones((6, 8), bool)
    if case == "one_pixel":
        pixels[:] = False
        pixels[3, 3] = True
    if case == "ramp":  # the lower point is closer in all: nothing to balance them with
        depth = depth * 2.0 ** -np.arange(6)[:, None]
    pairs = draw(depth, pixels=pixels)
    assert pairs.closer.shape == pairs.farther.shape == (0, 2)


def test_sky_is_farther_than_anything():
    sky = np.zeros((6, 8), bool)
    sky[:2] = True
    pixels = np.ones((6, 8), bool)
    pixels[2] = False
    pairs = sample_sky_pairs(sky, pixels=pixels, num_pairs=50, seed="a")
    assert sky[tuple(pairs.farther.T)].all()
    assert (pairs.closer[:, 0] >= 3).all()
    assert len(pairs.closer) == 50


@pytest.mark.parametrize("share", [0, 6])
def test_no_sky_pairs_without_both_sky_and_depth(share):
    sky = np.zeros((6, 8), bool)
    sky[:share] = True
    pairs = sample_sky_pairs(sky, pixels=np.ones((6, 8), bool), num_pairs=5, seed="a")
    assert pairs.closer.shape == (0, 2)
