"""Samples give inverse depth; maps without a measured pixel are refused."""

from dataclasses import replace

import numpy as np
import pytest

from dav2.data.reader import check_measured, check_samples
from dav2.data.sample import DepthSample, SampleFiles

INF, NAN = np.inf, np.nan
SAMPLE = DepthSample(
    sample_id="a",
    dataset="hypersim",
    scene="s",
    image=np.zeros((2, 3, 3), np.uint8),
    depth=np.array([[4, 0.5, INF], [NAN, 0, 8]], np.float32),
    valid=np.array([[True, True, True], [False, False, False]]),
    sky=np.array([[False, False, True], [False, False, False]]),
    intrinsics=None,
)


def test_inverse_depth_is_zero_on_sky_and_where_invalid():
    assert SAMPLE.inverse_depth().tolist() == [[0.25, 2, 0], [0, 0, 0]]
    assert SAMPLE.inverse_depth().dtype == np.float32


def test_inverse_depth_needs_no_sky():
    depth = np.array([[2, 4, 5], [1, NAN, 10]], np.float32)
    sample = replace(SAMPLE, sky=None, depth=depth, valid=np.isfinite(depth))

    assert np.allclose(sample.inverse_depth(), [[0.5, 0.25, 0.2], [1, 0, 0.1]])


def test_inverse_depth_of_an_unlabelled_sample_is_an_error():
    with pytest.raises(ValueError, match="a: expected a sample with depth, got none"):
        replace(SAMPLE, depth=None, valid=None).inverse_depth()


@pytest.mark.parametrize(
    ("values", "got"),
    [([[NAN, NAN]], "NaN alone"), ([[0, 0]], "zeros alone"), ([[0, NAN]], "no usable value in 2")],
)
def test_a_map_without_a_measured_pixel_is_refused(values, got):
    nothing = np.zeros((1, 2), bool)

    with pytest.raises(ValueError, match=f"d.npy: expected depth with .* got {got}"):
        check_measured(np.array(values, np.float32), nothing, None, where="d.npy")


def test_sky_alone_passes_but_does_not_excuse_the_rest():
    stored = np.array([[INF, NAN]], np.float32)
    everywhere = np.ones((1, 2), bool)

    check_measured(stored, everywhere, everywhere, where="d.npy")
    left = np.array([[True, False]])
    with pytest.raises(ValueError, match="got NaN alone"):
        check_measured(stored, left, left, where="d.npy")


def test_samples_come_sorted_and_none_is_an_error():
    first, second = SampleFiles("a", "", "a.jpg"), SampleFiles("b", "", "b.jpg")

    assert check_samples([second, first], where="root", split="all") == [first, second]
    with pytest.raises(ValueError, match="root: expected samples of split 'val', got none"):
        check_samples([], where="root", split="val")
