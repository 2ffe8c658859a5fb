import numpy as np
import pytest
import torch

from dav2.models.depth_anything import DepthAnything, ModelConfig
from dav2.predict import predict
from dav2.prediction.tiles import predict_tiled
from tests.fixtures.prediction import make_image, make_model

SIDE = 28


class Consistent(DepthAnything):
    """Sees the red channel, each image at a scale and shift of its own."""

    def __init__(self, max_depth_m=None, shift=True, seen=None):
        super().__init__(ModelConfig("vit64x4", max_depth_m))
        self.random = np.random.default_rng(0)
        self.shift = shift
        self.seen = [] if seen is None else seen

    def forward(self, images):
        self.seen.append(tuple(images.shape))
        scales, shifts = self.random.uniform(0.5, 3, (2, len(images), 1, 1)).astype(np.float32)
        red = images[:, 0] + 3  # above 0
        return red * torch.from_numpy(scales) + torch.from_numpy(shifts) * self.shift


def slope(height, width):
    """Red rises along both axes so that resizing changes it little; the rest is noise."""
    image = make_image(height, width)
    ramp = np.add.outer(np.linspace(0, 120, height), np.linspace(0, 120, width))
    image[..., 0] = np.rint(ramp)
    return image


@pytest.mark.parametrize(("max_depth_m", "shift"), [(None, True), (20.0, False)])
@pytest.mark.parametrize("size", [(70, 90), (28, 91), (20, 61), (140, 57)])
def test_tiles_of_a_consistent_model_agree_with_the_whole(max_depth_m, shift, size):
    image = slope(*size)
    tiled = predict_tiled(Consistent(max_depth_m, shift), image, short_side_px=SIDE)
    (whole,) = predict(Consistent(max_depth_m, shift), [image], short_side_px=SIDE)
    assert tiled.dtype == np.float32
    assert tiled.shape == size
    assert np.abs(tiled - whole).max() < 0.05 * (whole.max() - whole.min())


def test_tiles_show_what_the_whole_is_too_small_for():
    image = slope(112, 140)
    image[::2, :, 0] += 100  # stripes of one pixel
    (whole,) = predict(Consistent(), [image], short_side_px=SIDE)
    tiled = predict_tiled(Consistent(), image, short_side_px=SIDE)
    assert np.abs(np.diff(whole, axis=0)).mean() < 0.1 * np.abs(np.diff(tiled, axis=0)).mean()


def test_tiles_are_seen_at_the_images_own_resolution_in_batches():
    model = Consistent()
    predict_tiled(model, slope(28, 70), short_side_px=SIDE, batch_size=2)
    # 70 = 28 + 2 x 21: three tiles.
    assert model.seen == [(1, 3, 28, 70), (2, 3, 28, 28), (1, 3, 28, 28)]


def test_an_image_no_larger_than_a_tile_is_seen_once():
    model = Consistent()
    predict_tiled(model, slope(20, 28), short_side_px=SIDE)
    assert len(model.seen) == 1


def test_a_constant_tile_takes_the_values_of_the_whole():
    class Flat(Consistent):
        def forward(self, images):
            red = super().forward(images)
            return red if len(self.seen) == 1 else torch.full_like(red, 7.3)

    image = slope(60, 80)
    (whole,) = predict(Flat(), [image], short_side_px=SIDE)
    assert np.allclose(predict_tiled(Flat(), image, short_side_px=SIDE), whole, rtol=1e-5)


def test_a_tile_against_the_whole_is_not_turned_over():
    class Against(Consistent):
        def forward(self, images):
            red = super().forward(images)
            return red if len(self.seen) == 1 else 50 - red

    image = slope(60, 80)
    (whole,) = predict(Against(), [image], short_side_px=SIDE)
    assert np.allclose(predict_tiled(Against(), image, short_side_px=SIDE), whole, rtol=1e-5)


def test_a_tile_that_is_not_finite_shows():
    class Broken(Consistent):
        def forward(self, images):
            red = super().forward(images)
            return red if len(self.seen) == 1 else red * np.nan

    assert np.isnan(predict_tiled(Broken(), slope(60, 80), short_side_px=SIDE)).any()


def test_no_seam_is_left_where_tiles_disagree():
    class Tilted(Consistent):
        def forward(self, images):
            red = super().forward(images)
            return red + 0.3 * torch.linspace(-1, 1, red.shape[-1]) ** 2 * red.mean()

    image = slope(40, 120)
    tiled = predict_tiled(Tilted(), image, short_side_px=SIDE)
    (whole,) = predict(Consistent(), [image], short_side_px=SIDE)
    # From pixel to pixel it changes about as much as a smooth map of that range does.
    assert np.abs(np.diff(tiled, axis=1)).max() < 0.2 * np.ptp(whole)


def test_a_real_model_runs_tiled():
    image = make_image(50, 60)
    tiled = predict_tiled(make_model(max_depth_m=20.0), image, short_side_px=SIDE)
    assert tiled.shape == (50, 60)
    assert (tiled > 0).all()


def test_a_batch_size_below_1_is_refused():
    with pytest.raises(ValueError, match="expected batch_size >= 1, got 0"):
        predict_tiled(make_model(), make_image(50, 60), short_side_px=SIDE, batch_size=0)
