"""Depth as a sensor might have measured it."""

import numpy as np
import pytest

from dav2.data.sample import DepthSample
from dav2.training import label_noise
from dav2.training.label_noise import with_sensor_noise

HEIGHT, WIDTH = 120, 160
FAULTS = {"_SCALE_DEVIATION", "_SHIFT", "_BLUR", "_HOLES", "_FAR"}


def sample(depth, *, name="a", sky=None, valid=None):
    return DepthSample(
        sample_id=name,
        dataset="set",
        scene="s",
        image=np.zeros((*depth.shape, 3), np.uint8),
        depth=depth.astype(np.float32),
        valid=np.ones(depth.shape, bool) if valid is None else valid,
        sky=sky,
        intrinsics=None,
    )


def box():
    """A box at 2 m before a wall at 8 m."""
    depth = np.full((HEIGHT, WIDTH), 8.0)
    depth[30:90, 40:120] = 2.0
    return depth


@pytest.fixture
def only(monkeypatch):
    """Leaves one fault of the five."""

    def leave(fault: str) -> None:
        for other in FAULTS - {fault}:
            monkeypatch.setattr(label_noise, other, 0.0)

    return leave


def test_strength_nought_changes_nothing():
    before = sample(box())
    assert with_sensor_noise(before, 0.0) is before


def test_a_sample_is_spoilt_the_same_way_at_every_call_and_another_in_another():
    first, again = (with_sensor_noise(sample(box()), 1.0) for _ in range(2))
    other = with_sensor_noise(sample(box(), name="b"), 1.0)
    np.testing.assert_array_equal(first.depth, again.depth)
    np.testing.assert_array_equal(first.valid, again.valid)
    assert (first.valid != other.valid).any()
    assert first.depth.dtype == np.float32


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_holes_take_their_share(only, strength):
    only("_HOLES")
    found = with_sensor_noise(sample(box()), strength)
    assert 1 - found.valid.mean() == pytest.approx(0.1 * strength, abs=1e-3)
    np.testing.assert_allclose(found.depth[found.valid], box()[found.valid], rtol=1e-5)


def test_the_farthest_fifth_is_not_measured(only):
    only("_FAR")
    depth = np.broadcast_to(np.linspace(1, 9, WIDTH), (HEIGHT, WIDTH))
    found = with_sensor_noise(sample(depth), 1.0)
    assert found.valid.mean() == pytest.approx(0.8, abs=0.01)
    assert found.depth[found.valid].max() < depth[~found.valid].min()


def test_errors_of_scale_vary_slowly(only):
    only("_SCALE_DEVIATION")
    found = np.log(with_sensor_noise(sample(box()), 1.0).depth / box())
    assert 0.02 < found.std() < 0.1
    assert np.abs(np.diff(found, axis=1)).max() < 0.01


def test_edges_are_smeared_over_a_few_pixels_and_nothing_else_is(only):
    only("_BLUR")
    found = with_sensor_noise(sample(box()), 2.0).depth
    between = (found > 2.01) & (found < 7.9)
    rows, columns = np.nonzero(between)
    assert between.any()
    assert (
        np.minimum(abs(columns - 39.5), abs(columns - 119.5))[(rows > 40) & (rows < 80)].max() < 6
    )
    assert found[60, 80] == pytest.approx(2)
    assert found[5, 5] == pytest.approx(8)


def test_depth_lies_beside_its_object_by_a_pixel_or_two(only):
    only("_SHIFT")
    shifts = []
    for name in "abcdefgh":
        near = with_sensor_noise(sample(box(), name=name), 2.0).depth < 4
        assert near.sum() == 60 * 80
        shifts += [np.nonzero(near.any(1))[0][0] - 30, np.nonzero(near.any(0))[0][0] - 40]
    assert 0 < np.abs(shifts).max() <= 2


def test_sky_is_not_measured_and_invalid_depth_stays_so():
    sky = np.zeros((HEIGHT, WIDTH), bool)
    sky[:20] = True
    valid = np.ones((HEIGHT, WIDTH), bool)
    valid[:, :15] = False
    depth = np.where(sky, np.inf, box())
    depth[~valid] = np.nan
    found = with_sensor_noise(sample(depth, sky=sky, valid=valid), 1.0)
    assert not found.valid[:18].any()
    assert not found.valid[:, :13].any()
    assert found.valid[40:80, 30:].any()
    assert np.isfinite(found.depth[found.valid]).all()
    assert found.inverse_depth().max() < 1


def test_a_map_without_any_depth_stays_without():
    nothing = np.zeros((HEIGHT, WIDTH), bool)
    assert not with_sensor_noise(sample(box(), valid=nothing), 1.0).valid.any()


def test_a_sample_without_depth_is_refused():
    bare = DepthSample("a", "set", "s", np.zeros((3, 4, 3), np.uint8), None, None, None, None)
    with pytest.raises(ValueError, match="a: expected a sample with depth, got none"):
        with_sensor_noise(bare, 1.0)
