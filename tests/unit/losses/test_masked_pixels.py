import numpy as np
import pytest
import torch

from dav2.losses.masked_pixels import masked_pixel_loss, masked_pixels


@pytest.fixture
def batch():
    torch.manual_seed(0)
    pred, images = torch.randn(4, 3, 28, 42), torch.randn(4, 3, 28, 42)
    masked = torch.tensor([[1, 0, 0, 1, 0, 1]] * 3 + [[0, 1, 1, 1, 0, 0]]).bool()
    return pred, images, masked


def test_value_worked_out_by_hand():
    # One of two patches is masked; there red is 3 off, green 6 and blue right.
    images = torch.zeros(1, 3, 14, 28)
    pred = torch.zeros(1, 3, 14, 28)
    pred[0, 0, :, 14:], pred[0, 1, :, 14:] = 3.0, -6.0
    loss = masked_pixel_loss(pred, images, torch.tensor([[False, True]]))
    assert loss.item() == pytest.approx((3 + 6 + 0) / 3)


def test_equals_the_mean_over_masked_patches_in_float64(batch):
    pred, images, masked = (tensor.numpy() for tensor in batch)
    errors = []
    for image in range(4):
        for patch in np.flatnonzero(masked[image]):
            rows, columns = 14 * (patch // 3) + np.arange(14), 14 * (patch % 3) + np.arange(14)
            for colour in range(3):
                place = np.ix_([image], [colour], rows, columns)
                errors.append(np.abs(pred[place].astype(np.float64) - images[place]).mean())
    assert masked_pixel_loss(*batch).item() == pytest.approx(np.mean(errors), rel=1e-6)


def test_visible_patches_do_not_count(batch):
    pred, images, masked = batch
    hidden = masked_pixels(masked, 28, 42)[:, None]
    dirty = torch.where(hidden, pred, torch.nan).requires_grad_()
    loss = masked_pixel_loss(dirty, images, masked)
    assert loss == masked_pixel_loss(*batch)
    loss.backward()
    assert not dirty.grad.masked_fill(hidden, 0).any()
    assert dirty.grad[hidden.expand_as(dirty)].all()


def test_brighter_images_painted_brighter_lose_nothing(batch):
    pred, images, masked = batch
    loss = masked_pixel_loss(pred + 2, images + 2, masked)
    assert loss.item() == pytest.approx(masked_pixel_loss(*batch).item(), rel=1e-5)


def test_an_image_without_a_masked_patch_weighs_0(batch):
    pred, images, masked = batch
    masked[3] = False
    alone = masked_pixel_loss(pred[:3], images[:3], masked[:3])
    assert masked_pixel_loss(pred, images, masked).item() == pytest.approx(0.75 * alone.item())
