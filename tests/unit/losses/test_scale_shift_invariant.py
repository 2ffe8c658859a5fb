from functools import partial

import numpy as np
import pytest
import torch

from dav2.losses.scale_shift_invariant import scale_shift_invariant_loss
from tests.fixtures.loss_terms import assert_ignores_invalid_pixels, assert_second_weighs_0


def plain_loss(pred, target, valid, trim_fraction=0.0):
    """The definition, image by image in float64."""
    losses = []
    for image in zip(pred, target, valid, strict=True):
        p, t = (values[image[2]].astype(np.float64) for values in image[:2])
        scaled = []
        for values in (p, t):
            centred = values - np.sort(values)[(len(values) - 1) // 2]
            scaled.append(centred / np.abs(centred).mean())
        errors = np.sort(np.abs(scaled[0] - scaled[1]))
        losses.append(errors[: len(errors) - int(trim_fraction * len(errors) + 1e-9)].mean())
    return np.mean(losses)


@pytest.fixture
def batch():
    torch.manual_seed(0)
    pred, target = torch.rand(3, 6, 7), torch.rand(3, 6, 7) * 5 + 2
    return pred, target, torch.rand(3, 6, 7) > 0.3


@pytest.mark.parametrize("trim_fraction", [0.0, 0.1, 0.25])
def test_equals_the_definition_in_float64(batch, trim_fraction):
    loss = scale_shift_invariant_loss(*batch, trim_fraction=trim_fraction)
    expected = plain_loss(*(tensor.numpy() for tensor in batch), trim_fraction=trim_fraction)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_value_worked_out_by_hand():
    # pred 0 1 2 3 4: median 2, deviation 6/5, scaled (-2 -1 0 1 2) 5/6.
    # target 0 1 2 3 9: median 2, deviation 11/5, scaled (-2 -1 0 1 7) 5/11.
    # Errors (2 1 0 1) 25/66 and 7 x 5/11 - 2 x 5/6 = 100/66; mean 200/66 / 5.
    pred, target = torch.tensor([[[0.0, 1, 2, 3, 4]]]), torch.tensor([[[0.0, 1, 2, 3, 9]]])
    valid = torch.ones(1, 1, 5).bool()
    assert scale_shift_invariant_loss(pred, target, valid).item() == pytest.approx(40 / 66)
    # Without the worst of five: (2 + 1 + 0 + 1) 25/66 / 4.
    trimmed = scale_shift_invariant_loss(pred, target, valid, trim_fraction=0.2)
    assert trimmed.item() == pytest.approx(25 / 66)


def test_shift_and_positive_scale_of_either_map_do_not_matter(batch):
    pred, target, valid = batch
    factors, shifts = torch.tensor([0.1, 3.0, 40.0])[:, None, None], torch.tensor([5.0, -2, 0])
    moved = scale_shift_invariant_loss(
        pred * factors + shifts[:, None, None], 3 - 0.5 + 9 * target, valid, trim_fraction=0.1
    )
    expected = scale_shift_invariant_loss(pred, target, valid, trim_fraction=0.1)
    assert moved.item() == pytest.approx(expected.item(), rel=1e-4)


def test_is_0_where_the_maps_agree_up_to_shift_and_scale(batch):
    pred, _, valid = batch
    loss = scale_shift_invariant_loss(pred, 4 * pred + 1, valid, trim_fraction=0.1)
    assert loss.item() == pytest.approx(0, abs=1e-5)


def test_ignores_invalid_pixels(batch):
    assert_ignores_invalid_pixels(partial(scale_shift_invariant_loss, trim_fraction=0.1), batch)


def test_trims_each_image_by_itself(batch):
    pred, target, valid = batch
    together = scale_shift_invariant_loss(pred, target, valid, trim_fraction=0.2)
    alone = [
        scale_shift_invariant_loss(*(t[i : i + 1] for t in batch), trim_fraction=0.2)
        for i in range(3)
    ]
    assert together.item() == pytest.approx(sum(alone).item() / 3)


def test_pixels_with_one_error_are_kept_together():
    # Symmetric maps: errors 1 0 1 in some unit. Dropping one of three keeps both of the largest.
    pred, target = torch.tensor([[[-1.0, 0, 1]]]), torch.tensor([[[1.0, 0, -1]]])
    valid = torch.ones(1, 1, 3).bool()
    loss = scale_shift_invariant_loss(pred, target, valid)
    trimmed = scale_shift_invariant_loss(pred, target, valid, trim_fraction=0.4)
    assert trimmed.item() == loss.item() == pytest.approx(2.0)


@pytest.mark.parametrize("trim_fraction", [0.0, 0.1])
def test_a_degenerate_image_weighs_0_with_finite_gradients(spoilt_batch, trim_fraction):
    loss = partial(scale_shift_invariant_loss, trim_fraction=trim_fraction)
    assert_second_weighs_0(loss, spoilt_batch)


@pytest.mark.parametrize("trim_fraction", [0.0, 0.5])
def test_a_nan_prediction_makes_the_loss_nan(batch, trim_fraction):
    pred, target, valid = batch
    pred[1, *valid[1].nonzero()[0]] = torch.nan
    assert scale_shift_invariant_loss(pred, target, valid, trim_fraction=trim_fraction).isnan()


@pytest.mark.parametrize("trim_fraction", [-0.1, 1.0])
def test_refuses_a_fraction_outside_0_to_1(batch, trim_fraction):
    with pytest.raises(ValueError, match="expected 0 <= trim_fraction < 1, got"):
        scale_shift_invariant_loss(*batch, trim_fraction=trim_fraction)


def test_never_waits_for_the_device(batch):
    # A tensor on the meta device has no value that could be fetched.
    on_meta = [tensor.to("meta") for tensor in batch]
    assert scale_shift_invariant_loss(*on_meta, trim_fraction=0.1).is_meta
