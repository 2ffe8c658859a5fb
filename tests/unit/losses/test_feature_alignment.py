import math

import numpy as np
import pytest
import torch

from dav2.losses.feature_alignment import feature_alignment_loss


@pytest.fixture
def batch():
    torch.manual_seed(0)
    frozen = torch.randn(3, 20, 7)
    return frozen + 0.7 * torch.randn(3, 20, 7), frozen


@pytest.mark.parametrize("tolerance", [0.7, 0.85, 1.0])
def test_equals_the_definition_in_float64(batch, tolerance):
    means = []
    for student, frozen in zip(*(tensor.double().numpy() for tensor in batch), strict=True):
        cosines = [
            a @ b / np.linalg.norm(a) / np.linalg.norm(b)
            for a, b in zip(student, frozen, strict=True)
        ]
        means.append(np.mean([1 - cosine for cosine in cosines if cosine <= tolerance]))
    loss = feature_alignment_loss(*batch, tolerance=tolerance)
    assert loss.item() == pytest.approx(np.mean(means), rel=1e-5)


def test_value_worked_out_by_hand():
    # Cosines 0, 0.6 and 1; the last is above the tolerance: (1 + 0.4) / 2.
    frozen = torch.tensor([[[1.0, 0], [1, 0], [1, 0]]])
    student = torch.tensor([[[0.0, 2], [3, 4], [5, 0]]])
    assert feature_alignment_loss(student, frozen).item() == pytest.approx(0.7)


def test_length_of_tokens_does_not_matter(batch):
    student, frozen = batch
    loss = feature_alignment_loss(30 * student, 0.2 * frozen)
    assert loss.item() == pytest.approx(feature_alignment_loss(*batch).item(), rel=1e-5)


def test_tokens_within_the_tolerance_get_no_gradient():
    angles = torch.tensor([0.1, 0.5, 0.6, 1.0])  # cosines .995 .878 .825 .540
    student = torch.stack([angles.cos(), angles.sin()], dim=1)[None].requires_grad_()
    frozen = torch.tensor([1.0, 0]).expand(1, 4, 2).clone().requires_grad_()
    loss = feature_alignment_loss(student, frozen)
    assert loss.item() == pytest.approx((2 - math.cos(0.6) - math.cos(1.0)) / 2)
    loss.backward()
    assert student.grad.any(dim=2).tolist() == [[False, False, True, True]]
    assert frozen.grad is None


def test_an_image_whose_tokens_are_all_close_weighs_0(batch):
    student, frozen = batch
    expected = feature_alignment_loss(student[:2], frozen[:2]).item() * 2 / 3
    student[2] = frozen[2]
    student.requires_grad_()
    loss = feature_alignment_loss(student, frozen)
    assert loss.item() == pytest.approx(expected)
    loss.backward()
    assert student.grad.isfinite().all()
    assert not student.grad[2].any()


def test_images_that_are_not_chosen_weigh_0_and_get_no_gradient(batch):
    student, frozen = batch
    alone = feature_alignment_loss(student[1:2], frozen[1:2]).item()
    student.requires_grad_()
    loss = feature_alignment_loss(student, frozen, chosen=torch.tensor([False, True, False]))
    assert loss.item() == pytest.approx(alone / 3)
    loss.backward()
    assert student.grad.flatten(1).any(1).tolist() == [False, True, False]
    assert feature_alignment_loss(student, frozen, chosen=torch.zeros(3).bool()).item() == 0


def test_a_zero_token_has_a_finite_gradient(batch):
    student, frozen = batch
    student[0, 0], frozen[1, 1] = 0, 0
    student.requires_grad_()
    loss = feature_alignment_loss(student, frozen)
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


def test_a_nan_token_makes_the_loss_nan(batch):
    batch[0][1, 2, 3] = torch.nan
    assert feature_alignment_loss(*batch).isnan()


@pytest.mark.parametrize("tolerance", [-1.1, 1.1])
def test_refuses_a_tolerance_that_is_no_cosine(batch, tolerance):
    with pytest.raises(ValueError, match="expected -1 <= tolerance <= 1, got"):
        feature_alignment_loss(*batch, tolerance=tolerance)


def test_never_waits_for_the_device(batch):
    # A tensor on the meta device has no value that could be fetched.
    assert feature_alignment_loss(*(tensor.to("meta") for tensor in batch)).is_meta
