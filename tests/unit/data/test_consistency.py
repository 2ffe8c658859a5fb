"""Depth that fits its camera and image is told from depth that does not.

Axes: H height, W width (pixels).
"""

from dataclasses import replace

import numpy as np
import pytest

from dav2.data.consistency import consistency_statistics
from dav2.data.sample import DepthSample, Intrinsics

H, W = 72, 104
CAMERA = Intrinsics(fx_px=60.0, fy_px=60.0, cx_px=52.0, cy_px=36.0)


def sample(depth, image=None, valid=None, sky=None, camera=None):
    depth = np.asarray(depth, np.float32)
    if image is None:
        image = np.zeros((*depth.shape, 3), np.uint8)
    return DepthSample(
        sample_id="a",
        dataset="own",
        scene="",
        image=image,
        depth=depth,
        valid=np.ones(depth.shape, bool) if valid is None else valid,
        sky=sky,
        intrinsics=camera,
    )


def tilted_plane():
    """Depth of a plane: its inverse is an affine function of the pixel."""
    rows, columns = np.mgrid[:H, :W]
    return 1 / (0.1 + 0.003 * columns + 0.00213 * rows)


def rays():
    rows, columns = np.mgrid[:H, :W] + 0.5
    return np.sqrt(1 + ((columns - 52) / 60) ** 2 + ((rows - 36) / 60) ** 2)


def blocks(seed=0, side=11):
    """A scene of squares: their depth, and an image that changes where depth does."""
    numbers = np.random.default_rng(seed)
    shape = (-(-H // side), -(-W // side))
    depth, luma = numbers.uniform(1, 9, shape), numbers.integers(0, 256, shape)
    depth, luma = (np.kron(values, np.ones((side, side)))[:H, :W] for values in (depth, luma))
    for axis in (0, 1):  # edges in photographs are some pixels wide
        luma = sum(np.roll(luma, shift, axis) for shift in (-1, 0, 1)) / 3
    return depth, np.repeat(luma[..., None], 3, axis=2).astype(np.uint8)


def test_a_plane_is_flat_as_depth_and_neither_as_inverse_depth_nor_as_distance():
    found = consistency_statistics(sample(tilted_plane(), camera=CAMERA))
    assert found.planarity_over_inverse < 0.05
    assert found.planarity_over_distance < 0.05


def test_inverse_depth_read_as_depth_is_above_one():
    found = consistency_statistics(sample(1 / tilted_plane()))
    assert found.planarity_over_inverse > 20


def test_distance_read_as_depth_is_above_one():
    found = consistency_statistics(sample(tilted_plane() * rays(), camera=CAMERA))
    assert found.planarity_over_distance > 10


def test_without_intrinsics_nothing_is_said_of_distance():
    assert consistency_statistics(sample(tilted_plane())).planarity_over_distance is None


def test_the_unit_changes_nothing():
    metres = consistency_statistics(sample(tilted_plane()))
    millimetres = consistency_statistics(sample(tilted_plane() * 1000))
    assert metres.planarity_over_inverse == pytest.approx(
        millimetres.planarity_over_inverse, rel=0.1
    )


def test_a_plane_in_whole_centimetres_is_not_taken_for_inverse_depth():
    # So nearly upright that its second differences are those of rounding alone.
    rows, columns = np.mgrid[:H, :W]
    wall = np.rint(100 / (0.4 + 2e-5 * columns + 3e-5 * rows)) / 100
    assert consistency_statistics(sample(wall)).planarity_over_inverse == pytest.approx(1, abs=0.1)


def test_pixels_that_were_not_measured_bend_no_plane():
    depth = tilted_plane()
    valid = np.ones((H, W), bool)
    depth[20:40, 30:60], valid[20:40, 30:60] = 0, False
    depth[5, 7], valid[5, 7] = np.nan, False
    assert consistency_statistics(sample(depth, valid=valid)).planarity_over_inverse < 0.05


@pytest.mark.parametrize("shape", [(8, 8), (3, 40)])
def test_maps_too_small_for_second_differences_are_not_judged(shape):
    found = consistency_statistics(sample(np.full(shape, 2.0)))
    assert found.planarity_over_inverse is None


def test_depth_that_lies_on_its_image_fits_best_where_it_is():
    found = consistency_statistics(sample(*blocks()))
    assert found.edge_agreement > 0.7
    assert found.edge_agreement > found.edge_agreement_moved


@pytest.mark.parametrize(
    "moved",
    [
        lambda depth: depth[:, ::-1],
        lambda depth: depth[::-1],
        lambda depth: np.roll(depth, 2, axis=1),
        lambda depth: np.roll(depth, -4, axis=0),
        lambda depth: np.roll(depth, 8, axis=1),
    ],
    ids=["mirrored", "upside down", "2 px right", "4 px up", "8 px right"],
)
def test_depth_that_was_moved_fits_better_moved_back(moved):
    depth, image = blocks()
    found = consistency_statistics(sample(moved(depth), image))
    assert found.edge_agreement_moved > found.edge_agreement + 0.05


def test_an_image_without_edges_agrees_by_chance():
    depth, image = blocks()
    found = consistency_statistics(sample(depth, np.full_like(image, 9)))
    assert found.edge_agreement == found.edge_agreement_moved == 0.5


def test_flat_depth_has_no_edges():
    _, image = blocks()
    found = consistency_statistics(sample(np.full((H, W), 3.0), image))
    assert found.edge_agreement is None
    assert found.edge_agreement_moved is None


def test_sparse_depth_is_not_judged():
    depth, image = blocks()
    valid = np.zeros((H, W), bool)
    valid[::3, ::3] = True  # no two beside each other
    found = consistency_statistics(sample(depth, image, valid))
    assert found.edge_agreement is None
    assert found.planarity_over_inverse is None


def test_nothing_measured_is_not_judged():
    depth, image = blocks()
    found = consistency_statistics(sample(depth, image, np.zeros((H, W), bool)))
    assert found.edge_agreement is None


def test_the_edge_of_the_sky_counts():
    depth = np.full((H, W), 5.0)
    image = np.full((H, W, 3), 40, np.uint8)
    sky = np.zeros((H, W), bool)
    sky[:20, :60] = True
    image[sky] = 230
    told = sample(np.where(sky, np.inf, depth), image, sky=sky)
    assert consistency_statistics(told).edge_agreement > 0.9
    untold = replace(told, sky=None, valid=~sky)
    assert consistency_statistics(untold).edge_agreement is None


def test_a_sample_without_depth_is_refused():
    unlabelled = replace(sample(tilted_plane()), depth=None, valid=None)
    with pytest.raises(ValueError, match="a: expected a sample with depth, got none"):
        consistency_statistics(unlabelled)
