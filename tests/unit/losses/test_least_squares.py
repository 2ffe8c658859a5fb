"""The relative loss with the prediction fitted to its target by least squares."""

import numpy as np
import pytest
import torch

from dav2.losses.gradient_matching import gradient_matching_loss
from dav2.losses.normalisation import residual
from dav2.losses.scale_shift_invariant import scale_shift_invariant_loss
from tests.fixtures.loss_terms import assert_ignores_invalid_pixels, assert_second_weighs_0


def plain_residual(pred, target, valid):
    """The definition of one image in float64: numbers at valid pixels, in their order."""
    known = target[valid].astype(np.float64)
    centred = known - np.sort(known)[(len(known) - 1) // 2]
    wanted = centred / np.abs(centred).mean()
    rows = np.stack([pred[valid].astype(np.float64), np.ones(len(known))], axis=1)
    scale, shift = np.linalg.lstsq(rows, wanted, rcond=None)[0]
    if scale < 0:  # the best line of a positive slope mirrored: the same mean, the opposite slope
        shift += 2 * scale * rows[:, 0].mean()
        scale = -scale
    return scale * rows[:, 0] + shift - wanted


def plain_data(batch, trim_fraction=0.0):
    means = []
    for pred, target, valid in zip(*(tensor.numpy() for tensor in batch), strict=True):
        errors = np.sort(np.abs(plain_residual(pred, target, valid)))
        means.append(errors[: len(errors) - int(trim_fraction * len(errors) + 1e-9)].mean())
    return np.mean(means)


def plain_gradient(batch, num_scales=4):
    sums = []
    for pred, target, valid in zip(*(tensor.numpy() for tensor in batch), strict=True):
        wrong = np.full(valid.shape, np.nan)
        wrong[valid] = plain_residual(pred, target, valid)
        total = 0.0
        for stride in [2**scale for scale in range(num_scales)]:
            some = wrong[::stride, ::stride]
            pairs = [
                abs(some[row, column] - some[other])
                for row, column in np.ndindex(some.shape)
                for other in ((row, column + 1), (row + 1, column))
                if other[0] < some.shape[0] and other[1] < some.shape[1]
            ]
            known = [pair for pair in pairs if not np.isnan(pair)]
            total += np.mean(known) if known else 0.0
        sums.append(total)
    return np.mean(sums)


def data(pred, target, valid, **options):
    return scale_shift_invariant_loss(pred, target, valid, alignment="least_squares", **options)


def gradient(pred, target, valid):
    return gradient_matching_loss(pred, target, valid, alignment="least_squares")


@pytest.fixture
def batch():
    torch.manual_seed(0)
    target = torch.rand(3, 11, 14) * 5 + 2
    pred = 0.3 * target + torch.rand(3, 11, 14)
    return pred, target, torch.rand(3, 11, 14) > 0.3


@pytest.mark.parametrize("trim_fraction", [0.0, 0.1, 0.25])
def test_the_data_term_equals_the_definition_in_float64(batch, trim_fraction):
    loss = data(*batch, trim_fraction=trim_fraction)
    assert loss.item() == pytest.approx(plain_data(batch, trim_fraction), rel=1e-5)


def test_the_gradient_term_equals_the_definition_in_float64(batch):
    assert gradient(*batch).item() == pytest.approx(plain_gradient(batch), rel=1e-5)


def test_a_prediction_far_from_0_keeps_its_digits(batch):
    pred, target, valid = batch
    far = (5000 + pred, target - 300, valid)
    assert data(*far).item() == pytest.approx(plain_data(far), rel=1e-4)
    tiny = (1e-25 * pred, 1e20 * target, valid)
    assert data(*tiny).item() == pytest.approx(plain_data(batch), rel=1e-4)


def test_value_worked_out_by_hand():
    # target 0 0 3: median 0, deviation 1; less its mean -1 -1 2. pred less its mean -1 0 1: the
    # products sum to 3, the squares to 2, scale 1.5. Residual -1.5 + 1, 0 + 1, 1.5 - 2.
    pred, target = torch.tensor([[[0.0, 1, 2]]]), torch.tensor([[[0.0, 0, 3]]])
    valid = torch.ones(1, 1, 3).bool()
    wrong = residual(pred, target, valid, alignment="least_squares")
    torch.testing.assert_close(wrong.values, torch.tensor([[[-0.5, 1, -0.5]]]))
    assert data(pred, target, valid).item() == pytest.approx(2 / 3)
    assert gradient(pred, target, valid).item() == pytest.approx(1.5)


@pytest.mark.parametrize("loss", [data, gradient])
def test_shift_and_positive_scale_of_either_map_do_not_matter(batch, loss):
    pred, target, valid = batch
    moved = loss(20 * pred - 3, 0.1 * target + 7, valid)
    assert moved.item() == pytest.approx(loss(*batch).item(), rel=1e-4)


def test_is_no_larger_than_by_medians_in_the_mean_square(batch):
    fitted = residual(*batch, alignment="least_squares").values.square().sum()
    assert fitted < residual(*batch).values.square().sum()


def test_near_and_far_exchanged_cost_more_than_a_flat_guess(batch):
    _, target, valid = batch
    noise = torch.rand(target.shape)
    assert data(target, target, valid).item() == pytest.approx(0, abs=1e-5)
    assert data(-target, target, valid) > data(noise, target, valid) > 0.5
    assert data(-target, target, valid).item() == pytest.approx(plain_data((-target, *batch[1:])))


def test_a_step_along_the_gradient_turns_an_exchanged_prediction_round(batch):
    _, target, valid = batch
    pred = (-0.2 * target + torch.rand(target.shape)).requires_grad_()
    optimiser = torch.optim.Adam([pred], lr=0.05)
    for _ in range(200):
        optimiser.zero_grad()
        data(pred, target, valid).backward()
        optimiser.step()
    assert data(pred, target, valid) < 0.1
    assert torch.corrcoef(torch.stack([pred[valid], target[valid]]))[0, 1] > 0.8


def test_the_gradient_is_that_of_the_definition_and_blind_to_shift_and_scale(batch):
    pred, target, valid = batch
    pred.requires_grad_()
    data(pred, target, valid).backward()
    exact = pred.detach().double().requires_grad_()
    means = []
    for p, t, v in zip(exact, target.double(), valid, strict=True):
        centred = t[v] - t[v].median()
        wanted = centred / centred.abs().mean()
        p, wanted = p[v] - p[v].mean(), wanted - wanted.mean()
        means.append((p @ wanted / (p @ p) * p - wanted).abs().mean())
    torch.stack(means).mean().backward()
    torch.testing.assert_close(pred.grad.double(), exact.grad, atol=1e-7, rtol=1e-3)
    assert pred.grad.sum((1, 2)).abs().max() < 1e-5
    assert (pred.grad * pred).sum((1, 2)).abs().max() < 1e-5


@pytest.mark.parametrize("loss", [data, gradient])
def test_ignores_invalid_pixels(batch, loss):
    assert_ignores_invalid_pixels(loss, batch)


@pytest.mark.parametrize("loss", [data, gradient])
def test_a_degenerate_image_weighs_0_with_finite_gradients(spoilt_batch, loss):
    assert_second_weighs_0(loss, spoilt_batch)


def test_a_prediction_that_has_nothing_to_do_with_the_target_has_a_finite_gradient():
    pred = torch.tensor([[[-1.0, 1, 1, -1]]], requires_grad=True)
    target, valid = torch.tensor([[[-1.0, -1, 1, 1]]]), torch.ones(1, 1, 4).bool()
    loss = data(pred, target, valid)
    loss.backward()
    assert loss.item() > 0
    assert pred.grad.isfinite().all()


@pytest.mark.parametrize("loss", [data, gradient])
def test_a_nan_prediction_makes_the_loss_nan(batch, loss):
    pred, target, valid = batch
    pred[1, *valid[1].nonzero()[0]] = torch.nan
    assert loss(pred, target, valid).isnan()


def test_never_waits_for_the_device(batch):
    # A tensor on the meta device has no value that could be fetched.
    on_meta = [tensor.to("meta") for tensor in batch]
    assert data(*on_meta, trim_fraction=0.1).is_meta
    assert gradient(*on_meta).is_meta
