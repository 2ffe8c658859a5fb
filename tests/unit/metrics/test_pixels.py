"""Evaluated pixels: crops of images, sky, erosion and spread (limits: test_depth.py)."""

import numpy as np
import pytest

from dav2.metrics.depth import Protocol
from dav2.metrics.pixels import evaluated_pixels, image_box, reference_depth

PROTOCOL = {"alignment": "inverse_depth", "crop": "none", "min_depth_m": 0.1, "max_depth_m": 80.0}


def pixels_of(depth, *, valid=None, sky=None, **changes):
    protocol = Protocol(**(PROTOCOL | changes))
    valid = np.ones(depth.shape, dtype=bool) if valid is None else valid
    depth = reference_depth(depth, sky, protocol=protocol)
    return evaluated_pixels(depth, valid, sky=sky, protocol=protocol)


def test_the_benchmark_of_kitti_is_cut_from_the_bottom_and_the_middle():
    assert image_box("kitti_benchmark", 375, 1242) == (23, 375, 13, 1229)
    assert image_box("kitti_benchmark", 300, 1000) == (0, 300, 0, 1000)  # smaller: all of it
    assert image_box("none", 375, 1242) == (0, 375, 0, 1242)


def test_a_crop_counts_within_what_the_model_saw():
    depth = np.ones((375, 1242))
    counted = pixels_of(depth, crop="garg", image_crop="kitti_benchmark")
    rows, columns = np.nonzero(counted)
    # Of 352 x 1216: rows 143 to 349, columns 43 to 1172; moved by 23 and 13.
    assert (rows.min(), rows.max() + 1) == (23 + 143, 23 + 349)
    assert (columns.min(), columns.max() + 1) == (13 + 43, 13 + 1172)


def test_sky_is_left_out_or_counts_as_the_farthest():
    depth = np.array([[5.0, np.inf]], dtype=np.float32)
    sky = np.array([[False, True]])
    assert pixels_of(depth, sky=sky).tolist() == [[True, False]]
    farthest = Protocol(**PROTOCOL, sky="farthest")
    assert reference_depth(depth, sky, protocol=farthest).tolist() == [[5.0, 80.0]]
    counted = evaluated_pixels(
        reference_depth(depth, sky, protocol=farthest),
        np.ones((1, 2), dtype=bool),
        sky=sky,
        protocol=farthest,
    )
    assert counted.all()


def test_pixels_beside_unmeasured_ones_can_be_left_out():
    valid = np.ones((5, 7), dtype=bool)
    valid[2, 3] = False
    counted = pixels_of(np.ones((5, 7)), valid=valid, erode_px=1)
    expected = np.ones((5, 7), dtype=bool)
    expected[1:4, 2:5] = False  # the border of the image is no edge
    assert counted.tolist() == expected.tolist()
    assert not pixels_of(np.ones((5, 7)), valid=valid, erode_px=3).any()


def test_depths_far_beyond_the_nearest_can_be_left_out():
    depth = np.full((10, 11), 2.0)
    depth[0] = 5.0
    depth[1] = 7.0
    counted = pixels_of(depth, max_spread=3.0)  # the first percentile is 2
    assert counted[0].all()
    assert not counted[1].any()


def test_sky_at_the_farthest_needs_a_limit():
    with pytest.raises(ValueError, match="expected max_depth_m where sky is 'farthest', got none"):
        Protocol(**(PROTOCOL | {"max_depth_m": None}), sky="farthest")
