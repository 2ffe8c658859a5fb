"""Rectangles of neighbours, and losses that treat the two regions apart."""

import numpy as np
import pytest
import torch

from dav2.losses.gradient_matching import gradient_term
from dav2.losses.normalisation import residual
from dav2.losses.scale_shift_invariant import data_term
from dav2.losses.silog import silog_loss
from dav2.training.augment import generator
from dav2.training.cutmix import NO_BOX, draw_box, mix, split_regions

HEIGHT, WIDTH = 9, 11
BOXES = torch.tensor([[2, 6, 3, 9], [0, 5, 0, 4], NO_BOX.tolist(), [8, 9, 0, 11], [1, 3, 1, 3]])


@pytest.fixture
def batch():
    torch.manual_seed(0)
    images = torch.randint(0, 256, (5, HEIGHT, WIDTH, 3), dtype=torch.uint8)
    targets = torch.rand(5, HEIGHT, WIDTH) * torch.tensor([1.0, 50, 3, 0.1, 7])[:, None, None]
    return images, targets, torch.rand(5, HEIGHT, WIDTH) > 0.2


def mixed(batch, pseudo=(True,) * 5):
    return mix(*batch, BOXES, torch.tensor(pseudo))


def plain_scaled(values, kind, wanted=None):
    """Numbers of one region, freed of shift and scale or fitted to what is wanted."""
    if kind == "median" or wanted is None:
        centred = values - np.sort(values)[(len(values) - 1) // 2]
        return centred / np.abs(centred).mean()
    rows = np.stack([values, np.ones(len(values))], axis=1)
    scale, shift = np.linalg.lstsq(rows, wanted, rcond=None)[0]
    return abs(scale) * (values - values.mean()) + scale * values.mean() + shift


def plain_terms(pred, target, valid, inside, kind):
    """Data term without the worst 10 % and gradient term at 2 scales, region by region."""
    data = gradient = 0.0
    for p, t, v, i in zip(pred, target, valid, inside, strict=True):
        for region in (i, ~i):
            known = v & region
            if not known.any():
                continue
            wanted = plain_scaled(t[known].astype(np.float64), kind)
            found = plain_scaled(p[known].astype(np.float64), kind, wanted)
            wrong = np.full(v.shape, np.nan)
            wrong[known] = found - wanted
            errors = np.sort(np.abs(wrong[known]))
            data += region.mean() * errors[: len(errors) - len(errors) // 10].mean()
            for stride in (1, 2):
                some = wrong[::stride, ::stride]
                pairs = np.concatenate(
                    [np.abs(np.diff(some, axis=axis)).ravel() for axis in (0, 1)]
                )
                pairs = pairs[~np.isnan(pairs)]
                gradient += region.mean() * (pairs.mean() if len(pairs) else 0.0)
    return data / len(pred), gradient / len(pred)


@pytest.mark.parametrize("kind", ["median", "least_squares"])
def test_losses_of_mixed_images_equal_the_definition_in_float64(batch, kind):
    _, targets, valid, inside = mixed(batch)
    pred = torch.rand(5, HEIGHT, WIDTH)
    *maps, shares = split_regions(pred, targets, valid, inside)
    wrong = residual(*maps, alignment=kind)
    expected = plain_terms(*(tensor.numpy() for tensor in (pred, targets, valid, inside)), kind)
    data = data_term(wrong, trim_fraction=0.1, shares=shares)
    assert data.item() == pytest.approx(expected[0], rel=1e-5)
    gradient = gradient_term(wrong, num_scales=2, shares=shares)
    assert gradient.item() == pytest.approx(expected[1], rel=1e-5)


def test_silog_of_mixed_images_equals_the_definition_in_float64(batch):
    _, targets, valid, inside = mixed(batch)
    pred = torch.rand(5, HEIGHT, WIDTH) + 0.1
    *maps, shares = split_regions(pred, targets + 0.1, valid, inside)
    total = 0.0
    for p, t, v, i in zip(*(e.numpy() for e in (pred, targets + 0.1, valid, inside)), strict=True):
        for region in (i, ~i):
            if (v & region).any():
                wrong = np.log(p[v & region].astype(np.float64)) - np.log(t[v & region])
                total += region.mean() * np.sqrt((wrong**2).mean() - 0.5 * wrong.mean() ** 2)
    assert silog_loss(*maps, shares=shares).item() == pytest.approx(total / 5, rel=1e-5)


def test_pairs_exchange_what_lies_in_their_rectangles(batch):
    images, targets, valid, inside = mixed(batch)
    for index, neighbour in ((0, 1), (1, 0), (2, 3), (3, 2)):
        top, bottom, left, right = BOXES[index].tolist()
        region = torch.zeros(HEIGHT, WIDTH).bool()
        region[top:bottom, left:right] = True
        assert torch.equal(inside[index], region)
        for after, before in ((images, batch[0]), (targets, batch[1]), (valid, batch[2])):
            assert torch.equal(after[index][region], before[neighbour][region])
            assert torch.equal(after[index][~region], before[index][~region])


def test_an_image_without_a_neighbour_of_its_kind_stays_whole(batch):
    images, targets, _, inside = mixed(batch, pseudo=(True, False, True, True, True))
    assert inside.flatten(1).any(1).tolist() == [False, False, False, True, False]
    for index in (0, 1, 2, 4):
        assert torch.equal(images[index], batch[0][index])
        assert torch.equal(targets[index], batch[1][index])


def test_two_processes_mix_as_one_does(batch):
    whole = mixed(batch)
    for part in (slice(0, 2), slice(2, 4)):
        alone = mix(*(tensor[part] for tensor in batch), BOXES[part], torch.ones(2).bool())
        for one, other in zip(alone, whole, strict=True):
            assert torch.equal(one, other[part])


def test_value_worked_out_by_hand():
    # Outside: pred 0 1 2 for 0 0 3, by hand 0.5 + 1 + 0.5 over 3 when fitted. Inside, two fifths:
    # two pixels in the right order, hence no error.
    pred, target = torch.tensor([[[0.0, 1, 2, 7, 8]]]), torch.tensor([[[0.0, 0, 3, 50, 60]]])
    inside = torch.tensor([[[False, False, False, True, True]]])
    *maps, shares = split_regions(pred, target, torch.ones(1, 1, 5).bool(), inside)
    torch.testing.assert_close(shares, torch.tensor([0.6, 0.4]))
    wrong = residual(*maps, alignment="least_squares")
    assert data_term(wrong, shares=shares).item() == pytest.approx(0.6 * 2 / 3)
    assert gradient_term(wrong, num_scales=1, shares=shares).item() == pytest.approx(0.6 * 1.5)


@pytest.mark.parametrize("kind", ["median", "least_squares"])
def test_each_region_is_blind_to_its_own_scale_and_shift(batch, kind):
    _, targets, valid, inside = mixed(batch)
    pred = torch.rand(5, HEIGHT, WIDTH)

    def terms(target):
        *maps, shares = split_regions(pred, target, valid, inside)
        wrong = residual(*maps, alignment=kind)
        return data_term(wrong, shares=shares).item(), gradient_term(wrong, shares=shares).item()

    moved = torch.where(inside, 30 * targets + 100, targets)
    assert terms(moved) == pytest.approx(terms(targets), rel=1e-4)


def test_the_seam_costs_nothing(batch):
    _, targets, valid, inside = mixed(batch)
    pred = torch.where(inside, 2 * targets + 9, 0.5 * targets)
    *maps, shares = split_regions(pred, targets, valid, inside)
    assert gradient_term(residual(*maps), shares=shares).item() == pytest.approx(0, abs=1e-4)
    whole = gradient_term(residual(pred, targets, valid))
    assert whole > 0.1


def test_whole_images_cost_what_they_cost_without_cutmix(batch):
    _, targets, valid = batch
    pred = torch.rand(5, HEIGHT, WIDTH)
    *maps, shares = split_regions(pred, targets, valid, torch.zeros_like(valid))
    wrong, plain = residual(*maps), residual(pred, targets, valid)
    data = data_term(wrong, trim_fraction=0.1, shares=shares)
    assert data.item() == pytest.approx(data_term(plain, trim_fraction=0.1).item())
    gradient = gradient_term(wrong, shares=shares)
    assert gradient.item() == pytest.approx(gradient_term(plain).item())
    depth = silog_loss(*maps, shares=shares)
    assert depth.item() == pytest.approx(silog_loss(pred, targets, valid).item())


@pytest.mark.parametrize("loss", ["data", "gradient", "silog"])
def test_a_region_without_a_valid_pixel_weighs_0_with_finite_gradients(batch, loss):
    _, targets, valid, inside = mixed(batch)
    valid = valid & ~inside
    pred = torch.rand(5, HEIGHT, WIDTH, requires_grad=True)
    dirty = torch.where(valid, targets, torch.nan)
    *maps, shares = split_regions(pred, dirty, valid, inside)
    match loss:
        case "data":
            data_term(residual(*maps), trim_fraction=0.1, shares=shares).backward()
        case "gradient":
            gradient_term(residual(*maps), shares=shares).backward()
        case "silog":
            silog_loss(*maps, shares=shares).backward()
    assert pred.grad.isfinite().all()
    assert not pred.grad[~valid].any()
    assert pred.grad[valid].any()


def test_only_trimmed_images_lose_their_worst_pixels(batch):
    _, targets, valid = batch
    wrong = residual(torch.rand(5, HEIGHT, WIDTH), targets, valid)
    some = torch.tensor([True, False, False, True, False])
    found = data_term(wrong, trim_fraction=0.2, trimmed=some).item()
    all_of_them = [
        data_term(
            wrong._make(entry[i : i + 1] for entry in wrong),
            trim_fraction=0.2 if some[i] else 0.0,
        ).item()
        for i in range(5)
    ]
    assert found == pytest.approx(np.mean(all_of_them))


@pytest.mark.parametrize("crop_px", [(70, 98), (14, 140), (518, 518)])
def test_rectangles_lie_within_the_view_and_cover_what_they_should(crop_px):
    height, width = crop_px
    boxes = [draw_box(1.0, generator(0, position), crop_px=crop_px) for position in range(500)]
    tops, bottoms, lefts, rights = np.stack(boxes).T
    assert min(tops.min(), lefts.min()) == 0
    assert bottoms.max() == height
    assert rights.max() == width
    shares = (bottoms - tops) * (rights - lefts) / (height * width)
    rounding = 1 / min(crop_px)
    assert shares.min() == pytest.approx(0.02, abs=rounding)
    assert shares.max() == pytest.approx(0.4, abs=rounding)
    if height == width:
        ratios = (bottoms - tops) / (rights - lefts)
        assert 3 < ratios.max() < 3.4
        assert np.median(ratios) == pytest.approx(1, abs=0.15)


def test_rectangles_are_as_frequent_as_asked_for_and_follow_from_seed_and_position():
    def drawn(seed):
        return np.stack([draw_box(0.3, generator(seed, i), crop_px=(28, 42)) for i in range(1000)])

    some = drawn(1).any(axis=1).mean()
    assert 0.25 < some < 0.35
    np.testing.assert_array_equal(drawn(1), drawn(1))
    assert (drawn(1) != drawn(2)).any()


def test_never_waits_for_the_device(batch):
    # A tensor on the meta device has no value that could be fetched.
    images, targets, valid, inside = mix(
        *(tensor.to("meta") for tensor in batch), BOXES.to("meta"), torch.ones(5).bool().to("meta")
    )
    assert images.is_meta
    *maps, shares = split_regions(targets, targets, valid, inside)
    assert data_term(residual(*maps), trim_fraction=0.1, shares=shares).is_meta
