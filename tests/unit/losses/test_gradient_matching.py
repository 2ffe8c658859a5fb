import numpy as np
import pytest
import torch

from dav2.losses.gradient_matching import gradient_matching_loss
from tests.fixtures.loss_terms import assert_ignores_invalid_pixels, assert_second_weighs_0


def plain_loss(pred, target, valid, num_scales=4):
    """The definition, pair by pair in float64."""
    losses = []
    for p, t, v in zip(pred, target, valid, strict=True):
        scaled = []
        for values in (p, t):
            known = values[v].astype(np.float64)
            median = np.sort(known)[(len(known) - 1) // 2]
            scaled.append((values - median) / np.abs(known - median).mean())
        loss = 0.0
        for stride in [2**scale for scale in range(num_scales)]:
            residual, known = (scaled[0] - scaled[1])[::stride, ::stride], v[::stride, ::stride]
            height, width = known.shape
            differences = []
            for row in range(height):
                for column in range(width):
                    for other in ((row, column + 1), (row + 1, column)):
                        inside = other[0] < height and other[1] < width
                        if inside and known[row, column] and known[other]:
                            differences.append(abs(residual[row, column] - residual[other]))
            loss += np.mean(differences) if differences else 0.0
        losses.append(loss)
    return np.mean(losses)


@pytest.fixture
def batch():
    torch.manual_seed(0)
    pred, target = torch.rand(2, 11, 14), torch.rand(2, 11, 14) * 5 + 2
    return pred, target, torch.rand(2, 11, 14) > 0.3


@pytest.mark.parametrize("num_scales", [1, 2, 4, 6])
def test_equals_the_definition_in_float64(batch, num_scales):
    loss = gradient_matching_loss(*batch, num_scales=num_scales)
    expected = plain_loss(*(tensor.numpy() for tensor in batch), num_scales=num_scales)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_value_worked_out_by_hand():
    # pred 0 1 2: median 1, deviation 2/3, scaled -1.5 0 1.5. target 0 0 3: median 0, deviation 1,
    # scaled 0 0 3. Residual -1.5 0 -1.5: stride 1 gives (1.5 + 1.5) / 2, stride 2 gives 0.
    pred, target = torch.tensor([[[0.0, 1, 2]]]), torch.tensor([[[0.0, 0, 3]]])
    loss = gradient_matching_loss(pred, target, torch.ones(1, 1, 3).bool())
    assert loss.item() == pytest.approx(1.5)


def test_shift_and_positive_scale_of_either_map_do_not_matter(batch):
    pred, target, valid = batch
    moved = gradient_matching_loss(20 * pred - 3, 0.1 * target + 7, valid)
    assert moved.item() == pytest.approx(gradient_matching_loss(*batch).item(), rel=1e-4)


def test_sees_a_blurred_edge_that_the_data_term_hardly_sees():
    sharp = torch.zeros(1, 8, 16)
    sharp[:, :, 8:] = 1
    blurred = sharp.clone()
    blurred[:, :, 7], blurred[:, :, 8] = 0.35, 0.65
    valid = torch.ones(1, 8, 16).bool()
    assert gradient_matching_loss(sharp, sharp, valid).item() == 0
    assert gradient_matching_loss(blurred, sharp, valid).item() > 0.1


def test_ignores_pairs_with_an_invalid_pixel(batch):
    assert_ignores_invalid_pixels(gradient_matching_loss, batch)


def test_is_0_without_a_valid_pair():
    torch.manual_seed(0)
    valid = (torch.arange(7)[:, None] + torch.arange(9)).remainder(2).eq(0)[None]
    pred = torch.rand(1, 7, 9, requires_grad=True)
    loss = gradient_matching_loss(pred, torch.rand(1, 7, 9), valid, num_scales=1)
    loss.backward()
    assert loss.item() == 0
    assert not pred.grad.any()


def test_a_degenerate_image_weighs_0_with_finite_gradients(spoilt_batch):
    assert_second_weighs_0(gradient_matching_loss, spoilt_batch)


def test_refuses_less_than_one_scale(batch):
    with pytest.raises(ValueError, match="expected num_scales >= 1, got 0"):
        gradient_matching_loss(*batch, num_scales=0)


def test_never_waits_for_the_device(batch):
    # A tensor on the meta device has no value that could be fetched.
    on_meta = [tensor.to("meta") for tensor in batch]
    assert gradient_matching_loss(*on_meta).is_meta
