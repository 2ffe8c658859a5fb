import numpy as np
import pytest
import torch

from dav2.losses.normalisation import mean_over_images, remove_shift_and_scale, residual


def maps(*rows):
    return torch.tensor(rows)[:, None, :]


@pytest.mark.parametrize("invalid", [float("nan"), float("inf"), -1e30])
def test_what_invalid_pixels_hold_changes_nothing(invalid):
    valid = maps([True, True, True, False])
    dirty, clean = maps([1.0, 2.0, 4.0, invalid]), maps([1.0, 2.0, 4.0, 0.0])
    assert torch.equal(
        remove_shift_and_scale(dirty, valid)[0], remove_shift_and_scale(clean, valid)[0]
    )


def test_shift_is_the_lower_median_and_scale_the_mean_deviation_from_it():
    # Valid 1 2 4 9: lower median 2, deviations 1 0 2 7, mean 2.5.
    valid = maps([True, True, False, True, True])
    scaled, usable = remove_shift_and_scale(maps([4.0, 1.0, 50.0, 9.0, 2.0]), valid)
    assert torch.allclose(scaled, maps([0.8, -0.4, 0.0, 2.8, 0.0]))
    assert usable.tolist() == [True]


def test_each_map_has_its_own_statistics():
    torch.manual_seed(0)
    values, valid = torch.rand(5, 6, 7), torch.rand(5, 6, 7) > 0.4
    scaled, usable = remove_shift_and_scale(values, valid)
    assert usable.all()
    for index in range(5):
        known = values[index][valid[index]].double().numpy()
        median = np.sort(known)[(len(known) - 1) // 2]
        expected = (known - median) / np.abs(known - median).mean()
        assert np.allclose(scaled[index][valid[index]].numpy(), expected, atol=1e-5)
        assert not scaled[index][~valid[index]].any()


DEGENERATE = {
    "no valid pixel": (torch.rand(40), torch.zeros(40)),
    "one valid pixel": (torch.rand(40), torch.eye(40)[3]),
    "constant": (torch.full((40,), 0.3), torch.ones(40)),
    "constant but for rounding": (0.3 + 2e-8 * torch.arange(40).remainder(3), torch.ones(40)),
    "zero": (torch.zeros(40), torch.ones(40)),
    "smaller than any normal number": (1e-41 * torch.arange(40), torch.ones(40)),
    # Deviation 1/2000 of the range: under a thousandth.
    "one pixel sticks out": (torch.eye(2000)[7], torch.ones(2000)),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_maps_are_0_unusable_and_without_gradient(name):
    values, valid = (entry[None, None] for entry in DEGENERATE[name])
    values = values.clone().requires_grad_()
    scaled, usable = remove_shift_and_scale(values, valid.bool())
    assert usable.tolist() == [False]
    assert not scaled.any()
    scaled.sum().backward()
    assert torch.equal(values.grad, torch.zeros_like(values))


def test_a_deviation_just_over_a_thousandth_of_the_range_is_usable():
    scaled, usable = remove_shift_and_scale(torch.eye(999)[None, :1], torch.ones(1, 1, 999).bool())
    assert usable.tolist() == [True]
    assert scaled.max().item() == pytest.approx(999)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_broken_value_at_a_valid_pixel_is_not_hidden(broken):
    values = maps([1.0, 2.0, broken, 4.0])
    scaled, usable = remove_shift_and_scale(values, torch.ones_like(values, dtype=torch.bool))
    assert usable.tolist() == [True]
    assert not scaled.isfinite().all()


def test_an_image_is_usable_unless_prediction_or_target_is_degenerate():
    torch.manual_seed(0)
    pred, target, valid = torch.rand(4, 3, 5), torch.rand(4, 3, 5), torch.ones(4, 3, 5).bool()
    assert residual(pred, target, valid).usable.all()
    pred[0], target[1], valid[2] = 1.0, 2.0, False
    assert residual(pred, target, valid).usable.tolist() == [False, False, False, True]


def test_residual_is_blind_to_the_scale_and_shift_of_either_map():
    torch.manual_seed(0)
    pred, target, valid = torch.rand(2, 3, 5), torch.rand(2, 3, 5), torch.rand(2, 3, 5) > 0.2
    expected = residual(pred, target, valid)
    other = residual(3 * pred + 1, 0.1 * target - 2, valid)
    torch.testing.assert_close(other.values, expected.values, atol=1e-5, rtol=1e-4)
    assert (expected.values[~valid] == 0).all()
    assert (expected.values[valid] != 0).any()


def test_mean_over_images_divides_by_all_of_them():
    losses, usable = torch.tensor([3.0, float("nan"), 5.0, 4.0]), torch.tensor([1, 0, 1, 1]).bool()
    whole = mean_over_images(losses, usable)
    assert whole.item() == 3.0
    halves = [mean_over_images(losses[part], usable[part]) for part in (slice(2), slice(2, 4))]
    assert (halves[0] + halves[1]).item() / 2 == whole.item()
