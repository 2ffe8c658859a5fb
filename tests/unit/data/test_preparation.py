"""What a model sees of an image."""

import numpy as np
import pytest

from dav2.data.preparation import prepared_image, prepared_size
from dav2.data.transforms import prepare_size, resize_image


@pytest.mark.parametrize(
    ("height", "width", "short_side_px", "expected"),
    [
        (1080, 1920, 518, (518, 924)),
        (74, 77, 518, (518, 532)),  # 38.5 patches: to the even number, where `prepare_size` goes up
        (75, 74, 518, (532, 518)),  # 37.5 patches: to the even number, which is up
        (100, 100, 510, (518, 518)),  # 36.4 patches would be 504: below, so up
        (100, 130, 500, (504, 644)),  # 35.7 and 46.4 patches
    ],
)
def test_the_authors_size_is_as_worked_out_by_hand(height, width, short_side_px, expected):
    assert (
        prepared_size(height, width, short_side_px=short_side_px, preparation="authors") == expected
    )


def test_the_authors_size_of_nothing_is_refused():
    with pytest.raises(ValueError, match="expected sides of at least 1, got 0 x 7"):
        prepared_size(0, 7, short_side_px=14, preparation="authors")


def test_the_authors_resizing_weighs_four_pixels_by_a_kernel_of_three_quarters():
    # Half way between pixels, a = -3/4 weighs -3/32, 19/32, 19/32 and -3/32; no antialiasing.
    row = np.array([10, 20, 40, 80, 160, 200, 240, 250], np.uint8)
    image = np.repeat(np.repeat(row[None, :, None], 4, axis=0), 3, axis=2)
    resized = prepared_image(image, (2, 4), preparation="authors")
    assert resized.shape == (2, 4, 3)
    assert resized.dtype == np.float32
    assert np.allclose(resized[:, 1], (-3 * 20 + 19 * 40 + 19 * 80 - 3 * 160) / 32, atol=1e-4)
    step = np.repeat(np.array([0, 0] + 6 * [255], np.uint8)[None, :, None], 3, 2)
    assert (
        prepared_image(step, (1, 4), preparation="authors").max() > 255
    )  # it overshoots, and nothing is clipped


def test_the_authors_resizing_to_nothing_is_refused():
    with pytest.raises(ValueError, match="resize: expected a size of at least 1 x 1"):
        prepared_image(np.zeros((3, 4, 3), np.uint8), (0, 4), preparation="authors")


def test_our_own_way_is_that_of_training():
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    size = prepared_size(90, 120, short_side_px=35, preparation="antialiased")
    assert size == prepare_size(90, 120, short_side_px=35) == (42, 42)
    ours = prepared_image(image, size, preparation="antialiased")
    assert np.array_equal(ours, resize_image(image, size))
    authors = prepared_image(image, size, preparation="authors")
    assert np.abs(authors - ours).mean() > 10  # of noise, aliasing leaves much
