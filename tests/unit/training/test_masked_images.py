"""The warm-up of an encoder on masked images."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from dav2.models.masked_image_model import MaskedImageModel
from dav2.training.masked_images import MaskedImageTraining, WarmUpConfig, random_masks, warm_up
from dav2.training.steps import OptimiserConfig, StepConfig
from tests.unit.training.conftest import small_run

CPU = torch.device("cpu")


class InterruptedTrainingError(RuntimeError):
    pass


def config(views, *, num_steps=6, mask_ratio=0.6, **changes):
    given = small_run(num_steps=num_steps)
    given |= {
        "optimiser": replace(given["optimiser"], encoder_lr=5e-3, decoder_lr=5e-3),
        "augment": views,
        "batch_size": 4,
        "log_every_steps": 2,
        "checkpoint_every_steps": 1,
    }
    return WarmUpConfig(**given | changes, mask_ratio=mask_ratio)


@pytest.fixture
def warmed(discs, augment, tmp_path):
    def run(work="work", *, listener=None, spoil=False, **changes):
        torch.manual_seed(0)
        model = MaskedImageModel("vit64x4")
        if spoil:
            with torch.no_grad():
                model.head.bias[0] = torch.nan
        folder = tmp_path / work
        folder.mkdir(exist_ok=True)
        chosen = config(augment(), **changes)
        return warm_up(
            model, discs(7), discs(3, first=100), config=chosen, work=folder, listener=listener
        )

    return run


def assert_equal(one, other):
    assert one.curves == other.curves
    assert one.measures == other.measures
    assert (one.picture == other.picture).all()
    for name, tensor in one.encoder.state_dict().items():
        assert torch.equal(tensor, other.encoder.state_dict()[name]), name


@pytest.mark.parametrize(
    ("num_patches", "ratio", "num_masked"),
    [(48, 0.75, 36), (35, 0.6, 21), (7, 0.5, 4), (6, 0.01, 1), (4, 0.99, 3)],
)
def test_exactly_that_share_of_the_patches_is_masked(num_patches, ratio, num_masked):
    masks = random_masks(9, num_patches, ratio, CPU)
    assert masks.shape == (9, num_patches)
    assert (masks.sum(1) == num_masked).all()


def test_each_image_is_masked_in_its_own_way_and_all_patches_alike():
    masks = random_masks(4000, 12, 0.75, CPU, generator=torch.Generator().manual_seed(0))
    assert len(masks.unique(dim=0)) == 220  # 12 over 9: every choice there is
    assert (masks.float().mean(0) - 0.75).abs().max() < 0.03
    again = random_masks(4000, 12, 0.75, CPU, generator=torch.Generator().manual_seed(0))
    assert torch.equal(masks, again)


def test_masks_follow_the_place_in_the_stream_whatever_the_number_of_ranks():
    model = MaskedImageModel("vit64x4")
    optimiser = OptimiserConfig(5, 1e-3, 1e-3, "constant")

    def masks(rank, num_ranks, batch_idx, *, step=0, size=8):
        config = StepConfig(optimiser=optimiser, seed=1)
        training = MaskedImageTraining(model, config, mask_ratio=0.5)
        training.num_steps_done = step
        training.start_step()
        training._trainer = SimpleNamespace(
            accumulate_grad_batches=2, world_size=num_ranks, global_rank=rank
        )
        return training._masked(torch.zeros(size // num_ranks, 3, 28, 42), batch_idx)

    alone = masks(0, 1, 0)
    assert torch.equal(torch.cat([masks(rank, 2, 0) for rank in range(2)]), alone)
    assert torch.equal(masks(0, 1, 2), alone)
    assert not torch.equal(masks(0, 1, 1), alone)
    assert not torch.equal(masks(0, 1, 0, step=1), alone)


def test_a_warm_up_learns_to_paint_better_than_the_mean_colour(warmed):
    told = {}
    result = warmed(num_steps=60, log_every_steps=20, listener=lambda it, step: told.update(it))
    losses = [row["loss"] for row in result.curves]
    assert losses[-1] < 0.9 * losses[0]
    assert result.measures["loss"] < 0.9 * result.measures["loss_of_mean_colour"]
    assert set(result.curves[0]) == {"step", "loss", "encoder_lr", "decoder_lr"}
    assert told["held_out/loss"] == result.measures["loss"]
    assert result.encoder.mask_token.any()
    assert not result.encoder.training
    assert result.picture.shape == (3 * 42 + 2 * 2, 3 * 56 + 2 * 2, 3)


def test_a_warm_up_that_was_stopped_goes_on_as_if_it_had_not(warmed):
    changes = {"accumulate": 2, "log_every_steps": 1}
    whole = warmed("whole", **changes)

    def interrupt(measures, step):
        if step == 4:
            raise InterruptedTrainingError

    with pytest.raises(InterruptedTrainingError):
        warmed("stopped", listener=interrupt, **changes)
    seen = []
    rest = warmed("stopped", listener=lambda measures, step: seen.append(step), **changes)
    assert min(seen) == 4
    assert_equal(rest, whole)


def test_numbers_that_are_not_finite_end_a_warm_up_and_name_the_images(warmed):
    with pytest.raises(ValueError, match=r"training step 1: expected finite numbers.* disc-\d, "):
        warmed(spoil=True)


@pytest.mark.parametrize(
    ("mask_ratio", "crops_px", "got"),
    [
        (0.0, ((28, 42),), r"0\.0 and 6"),
        (1.0, ((28, 42),), r"1\.0 and 6"),
        (0.6, ((28, 42), (14, 14)), r"0\.6 and 1"),
    ],
)
def test_nothing_to_see_or_nothing_to_paint_is_refused(augment, mask_ratio, crops_px, got):
    with pytest.raises(ValueError, match=rf"test: expected a mask_ratio above 0 .*, got {got} in"):
        config(augment(crops_px=crops_px), mask_ratio=mask_ratio)
