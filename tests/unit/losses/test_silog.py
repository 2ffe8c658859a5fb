import math

import numpy as np
import pytest
import torch

from dav2.losses.silog import silog_loss
from tests.fixtures.loss_terms import assert_ignores_invalid_pixels, assert_second_weighs_0


@pytest.fixture
def batch():
    torch.manual_seed(0)
    pred, target = torch.rand(3, 5, 7) * 9 + 0.5, torch.rand(3, 5, 7) * 9 + 0.5
    return pred, target, torch.rand(3, 5, 7) > 0.3


@pytest.mark.parametrize("variance_focus", [0.0, 0.5, 0.85, 1.0])
def test_equals_the_textbook_form_in_float64(batch, variance_focus):
    roots = []
    for p, t, v in zip(*(tensor.numpy() for tensor in batch), strict=True):
        difference = np.log(t[v].astype(np.float64)) - np.log(p[v].astype(np.float64))
        square = np.mean(difference**2) - variance_focus * np.mean(difference) ** 2
        roots.append(np.sqrt(square))
    loss = silog_loss(*batch, variance_focus=variance_focus)
    assert loss.item() == pytest.approx(np.mean(roots), rel=1e-5)


def test_value_worked_out_by_hand():
    # Differences of logarithms 0 and log 4: mean square 2 log(2)^2, squared mean log(2)^2.
    pred, target = torch.tensor([[[3.0, 8.0]]]), torch.tensor([[[3.0, 2.0]]])
    loss = silog_loss(pred, target, torch.ones(1, 1, 2).bool())
    assert loss.item() == pytest.approx(math.log(2) * math.sqrt(1.5))


def test_full_variance_focus_forgives_one_factor_and_half_does_not(batch):
    _, target, valid = batch
    pred = 3 * target
    assert silog_loss(pred, target, valid, variance_focus=1.0).item() == pytest.approx(0, abs=1e-5)
    assert silog_loss(pred, target, valid).item() == pytest.approx(math.log(3) / math.sqrt(2))


def test_the_unit_does_not_matter(batch):
    pred, target, valid = batch
    loss = silog_loss(100 * pred, 100 * target, valid)
    assert loss.item() == pytest.approx(silog_loss(*batch).item(), rel=1e-5)


def test_ignores_invalid_pixels(batch):
    assert_ignores_invalid_pixels(silog_loss, batch)


def test_an_image_without_a_valid_pixel_weighs_0(batch):
    batch[2][1] = False
    assert_second_weighs_0(silog_loss, batch)


def test_an_exact_prediction_costs_0_and_has_a_finite_gradient(batch):
    _, target, valid = batch
    pred = target.clone().requires_grad_()
    loss = silog_loss(pred, target, valid)
    loss.backward()
    assert loss.item() == 0
    assert pred.grad.isfinite().all()


def test_a_nearly_exact_prediction_has_a_bounded_gradient():
    target = torch.full((1, 4, 5), 2.0)
    pred = (target * (1 + 1e-6 * torch.eye(4, 5))).requires_grad_()
    silog_loss(pred, target, torch.ones(1, 4, 5).bool()).backward()
    assert 0 < pred.grad.abs().max() < 1


def test_a_prediction_of_0_is_costly_but_finite():
    pred = torch.tensor([[[0.0, 1.0]]], requires_grad=True)
    loss = silog_loss(pred, torch.ones(1, 1, 2), torch.ones(1, 1, 2).bool())
    loss.backward()
    assert loss.isfinite()
    assert loss > 5
    assert pred.grad.isfinite().all()


@pytest.mark.parametrize("variance_focus", [-0.1, 1.1])
def test_refuses_a_variance_focus_outside_0_to_1(batch, variance_focus):
    with pytest.raises(ValueError, match="expected 0 <= variance_focus <= 1, got"):
        silog_loss(*batch, variance_focus=variance_focus)


def test_never_waits_for_the_device(batch):
    # A tensor on the meta device has no value that could be fetched.
    on_meta = [tensor.to("meta") for tensor in batch]
    assert silog_loss(*on_meta).is_meta
