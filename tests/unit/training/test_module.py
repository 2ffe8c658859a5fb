"""One training step."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from dav2.data.transforms import normalise
from dav2.losses.scale_shift_invariant import scale_shift_invariant_loss
from dav2.models.depth_anything import DepthAnything, ModelConfig
from dav2.models.dpt import DPTHead
from dav2.training.augment import distort
from dav2.training.data import Views, collate
from dav2.training.module import DepthTraining, LossConfig
from dav2.training.steps import OptimiserConfig, StepConfig
from tests.fixtures.operations import Operations


@pytest.fixture
def batch(discs, augment):
    views = Views(discs(4), augment(), seed=0, batch_size=3)
    return collate([views[position] for position in range(3)])


def training(losses, *, max_depth_m=None, frozen=False, cutmix=False, moves=None, **options):
    torch.manual_seed(0)
    model = DepthAnything(ModelConfig("vit64x4", max_depth_m))
    optimiser = OptimiserConfig(5, 1e-3, 1e-2, "linear", **moves or {})
    config = StepConfig(optimiser=optimiser, seed=0, **options)
    encoder = copy.deepcopy(model.encoder) if frozen else None
    return DepthTraining(model, config, losses=losses, cutmix=cutmix, frozen_encoder=encoder)


def gradients(module, batch):
    module.backward(module.training_step(batch, 0)["loss"])
    return {name: weight.grad for name, weight in module.model.named_parameters()}


def test_the_loss_is_the_sum_of_its_weighted_terms(batch):
    module = training(LossConfig("inverse_depth", gradient_weight=0.5))
    result = module.training_step(batch, 0)
    assert set(result) == {"loss", "finite", "degenerate", "data", "gradient"}
    assert result["loss"].item() == pytest.approx((result["data"] + result["gradient"]).item())
    twice = training(LossConfig("inverse_depth", gradient_weight=1.0)).training_step(batch, 0)
    assert twice["gradient"].item() == pytest.approx(2 * result["gradient"].item())
    assert twice["data"].item() == pytest.approx(result["data"].item())


def test_the_data_term_is_that_of_the_prediction(batch):
    module = training(LossConfig("inverse_depth", gradient_weight=0.0, trim_fraction=0.1))
    result = module.training_step(batch, 0)
    assert set(result) == {"loss", "finite", "degenerate", "data"}
    pred = module.model(normalise(batch.images))
    expected = scale_shift_invariant_loss(pred, batch.targets, batch.valid, trim_fraction=0.1)
    assert result["data"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_pseudo_labels_alone_are_trimmed(batch):
    module = training(LossConfig("inverse_depth", gradient_weight=0.0, trim_fraction=0.3))
    pseudo = torch.tensor([True, False, True])
    result = module.training_step(batch._replace(pseudo=pseudo), 0)
    pred = module.model(normalise(batch.images))
    maps = pred, batch.targets, batch.valid
    expected = [
        scale_shift_invariant_loss(
            *(entry[i : i + 1] for entry in maps), trim_fraction=0.3 if pseudo[i] else 0.0
        ).item()
        for i in range(3)
    ]
    assert result["data"].item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_by_least_squares_the_data_term_is_that_of_the_fit(batch):
    losses = LossConfig("inverse_depth", gradient_weight=0.0, alignment="least_squares")
    module = training(losses)
    result = module.training_step(batch, 0)
    pred = module.model(normalise(batch.images))
    maps = pred, batch.targets, batch.valid
    expected = scale_shift_invariant_loss(*maps, alignment="least_squares")
    assert result["data"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_model_sees_and_is_measured_on_mixed_images(batch):
    batch = batch._replace(boxes=torch.tensor([[4, 20, 6, 30], [0, 0, 0, 0], [0, 9, 0, 9]]))
    module = training(LossConfig("inverse_depth", gradient_weight=0.5), cutmix=True)
    result = module.training_step(batch, 0)
    images, targets = batch.images.clone(), batch.targets.clone()
    images[0, 4:20, 6:30], targets[0, 4:20, 6:30] = images[1, 4:20, 6:30], targets[1, 4:20, 6:30]
    pred = module.model(normalise(images))
    inside = torch.zeros_like(batch.valid)
    inside[0, 4:20, 6:30] = True
    share = inside[0].float().mean().item()
    expected = share * scale_shift_invariant_loss(pred[:1], targets[:1], inside[:1])
    expected += (1 - share) * scale_shift_invariant_loss(pred[:1], targets[:1], ~inside[:1])
    expected += 2 * scale_shift_invariant_loss(pred[1:], targets[1:], batch.valid[1:])
    assert result["data"].item() == pytest.approx(expected.item() / 3, rel=1e-5)
    assert result["degenerate"].item() == 0
    invalid = batch.valid.clone()
    invalid[1] = False  # it has no label itself, and hands none to the rectangle of the first
    spoilt = module.training_step(batch._replace(valid=invalid), 0)
    assert spoilt["degenerate"].item() == 2


def test_a_batch_without_rectangles_costs_the_same_with_cutmix(batch):
    losses = LossConfig("inverse_depth", trim_fraction=0.1)
    plain = training(losses).training_step(batch, 0)
    result = training(losses, cutmix=True).training_step(batch, 0)
    assert result["loss"].item() == pytest.approx(plain["loss"].item(), rel=1e-6)
    assert result["degenerate"].item() == plain["degenerate"].item() == 0


@pytest.mark.parametrize(("chosen", "share"), [("all", 3), ("pseudo", 1), ("synthetic", 2)])
def test_feature_alignment_sees_the_samples_it_is_meant_for(batch, chosen, share):
    losses = LossConfig("inverse_depth", feature_weight=1.0, align_features=chosen)
    module = training(losses, frozen=True)
    with torch.no_grad():
        for parameter in module.model.encoder.parameters():
            parameter.add_(torch.randn_like(parameter))
    same = [batch.images[:1]] * 3  # so that each sample costs the same
    pseudo = torch.tensor([False, True, False])
    alike = batch._replace(images=torch.cat(same), colours=batch.colours[:1].repeat(3, 1))
    found = module.training_step(alike._replace(pseudo=pseudo), 0)["features"].item()
    everything = training(LossConfig("inverse_depth", feature_weight=1.0), frozen=True)
    everything.load_state_dict(module.state_dict())
    whole = everything.training_step(alike, 0)["features"].item()
    assert found == pytest.approx(whole * share / 3, rel=1e-4)
    assert whole > 0.1


@pytest.mark.parametrize("cutmix", [False, True])
def test_labelled_images_may_have_a_mean_of_their_own_as_in_v1(batch, cutmix):
    losses = LossConfig("inverse_depth", gradient_weight=0.0, synthetic_weight=2.0)
    pseudo = torch.tensor([True, False, True])
    module = training(losses, cutmix=cutmix)
    result = module.training_step(batch._replace(pseudo=pseudo), 0)
    pred = module.model(normalise(batch.images))
    means = [
        scale_shift_invariant_loss(pred[part], batch.targets[part], batch.valid[part])
        for part in (pseudo, ~pseudo)
    ]
    # V1, section 3: the means of both sets weigh the same; 2 of 3 images are unlabelled.
    assert result["data"].item() == pytest.approx(2 / 3 * sum(means).item(), rel=1e-5)


def test_a_metric_model_minimises_silog_alone(batch):
    batch = batch._replace(targets=1 / batch.targets)
    result = training(LossConfig("depth"), max_depth_m=20.0).training_step(batch, 0)
    assert set(result) == {"loss", "finite", "degenerate", "silog"}


@pytest.mark.parametrize("kind", ["inverse_depth", "depth"])
def test_images_that_weigh_nothing_are_counted(batch, kind):
    module = training(LossConfig(kind), max_depth_m=20.0 if kind == "depth" else None)
    assert module.training_step(batch, 0)["degenerate"].item() == 0
    valid = batch.valid.clone()
    valid[0] = False
    assert module.training_step(batch._replace(valid=valid), 0)["degenerate"].item() == 1


def test_features_alike_to_the_frozen_ones_cost_nothing(batch):
    losses = LossConfig("inverse_depth", feature_weight=1.0)
    module = training(losses, frozen=True)
    assert module.training_step(batch, 0)["features"].item() == 0.0
    with torch.no_grad():
        for parameter in module.model.encoder.parameters():
            parameter.add_(torch.randn_like(parameter))
    assert module.training_step(batch, 0)["features"].item() > 0.1


def test_the_frozen_encoder_is_no_part_of_the_state():
    losses = LossConfig("inverse_depth", feature_weight=1.0)
    names = training(losses, frozen=True).state_dict().keys()
    assert names == training(LossConfig("inverse_depth")).state_dict().keys()


def test_alignment_without_an_encoder_to_align_with_is_refused():
    with pytest.raises(
        ValueError, match=r"expected a pretrained encoder for weight 1\.0, got none"
    ):
        training(LossConfig("inverse_depth", feature_weight=1.0))


def test_a_sample_with_a_nan_is_marked_alone(batch):
    targets = batch.targets.clone()
    targets[1, 3, 4] = np.nan
    module = training(LossConfig("inverse_depth"))
    result = module.training_step(batch._replace(targets=targets), 0)
    assert result["finite"].tolist() == [True, False, True]
    valid = batch.valid.clone()
    valid[1, 3, 4] = False
    masked = module.training_step(batch._replace(targets=targets, valid=valid), 0)
    assert masked["finite"].all()
    assert masked["loss"].isfinite()


def test_encoder_and_head_have_their_own_rates_and_no_parameter_is_left_out():
    module = training(LossConfig("inverse_depth"))
    optimiser = module.configure_optimizers()["optimizer"]
    encoder, head = optimiser.param_groups
    assert (encoder["lr"], head["lr"]) == (1e-3, 1e-2)
    known = {id(parameter) for group in (encoder, head) for parameter in group["params"]}
    assert known == {id(parameter) for parameter in module.model.parameters()}


def test_each_block_has_its_share_of_the_rate_of_the_block_above():
    module = training(LossConfig("inverse_depth"), moves={"layer_decay": 0.5})
    optimiser = module.configure_optimizers()["optimizer"]
    names = {id(parameter): name for name, parameter in module.model.named_parameters()}
    groups = [
        (group["lr"], {names.pop(id(parameter)) for parameter in group["params"]})
        for group in optimiser.param_groups
    ]
    assert [rate for rate, _ in groups] == [1e-3, 5e-4, 2.5e-4, 1.25e-4, 6.25e-5, 1e-2]
    assert "encoder.norm.weight" in groups[0][1]
    assert "encoder.blocks.3.attn.qkv.weight" in groups[0][1]
    assert {name.split(".")[2] for name in groups[2][1]} == {"1"}
    assert {"encoder.pos_embed", "encoder.cls_token", "encoder.mask_token"} < groups[4][1]
    assert all(name.startswith("head.") for name in groups[5][1])
    assert names == {}
    module.trainer = SimpleNamespace(optimizers=[optimiser])
    assert module.rates() == {"encoder_lr": 1e-3, "decoder_lr": 1e-2}


# Sides below and above the number of patches from which another attention runs.
@pytest.mark.parametrize("few_pixels", [256 * 14**2, 1])
def test_gradients_are_the_same_when_activations_are_computed_twice(batch, monkeypatch, few_pixels):
    monkeypatch.setattr("dav2.training.steps._FEW_PIXELS", few_pixels)
    losses = LossConfig("inverse_depth", feature_weight=1.0)
    kept = training(losses, frozen=True)
    twice = training(losses, frozen=True, checkpoint_activations=True)
    calls = []
    twice.model.encoder.blocks[2].register_forward_pre_hook(lambda *_: calls.append(1))
    expected, found = gradients(kept, batch), gradients(twice, batch)
    assert len(calls) == 2
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        same = found[name] is None if gradient is None else torch.equal(found[name], gradient)
        assert same, name
    assert not twice.averaged.encoder.grad_checkpointing


@pytest.mark.parametrize("clip_norm", [0.0, 1e-3])
def test_gradients_are_shortened_to_the_limit_if_there_is_one(batch, clip_norm):
    module = training(LossConfig("inverse_depth"), moves={"clip_norm": clip_norm})
    before = {
        name: gradient.clone()
        for name, gradient in gradients(module, batch).items()
        if gradient is not None
    }
    norm = torch.cat([gradient.flatten() for gradient in before.values()]).norm().item()
    assert norm > 1e-2
    module.configure_gradient_clipping(module.configure_optimizers()["optimizer"])
    factor = clip_norm / norm if clip_norm else 1.0
    for name, weight in module.model.named_parameters():
        if name in before:
            torch.testing.assert_close(weight.grad, factor * before[name], atol=0, rtol=1e-3)


def test_equal_blocks_share_one_compiled_graph_for_each_size(batch, monkeypatch):
    counter = CompileCounterWithBackend("eager")
    compile_plainly = torch.nn.Module.compile

    def compile_block(block, **options):
        if not isinstance(block, DPTHead):  # its checked types take half a minute to trace
            compile_plainly(block, backend=counter, **options)

    monkeypatch.setattr(torch.nn.Module, "compile", compile_block)
    torch._dynamo.reset()
    plain = training(LossConfig("inverse_depth"))
    compiled = training(LossConfig("inverse_depth"), compile_blocks=True)
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    smaller = batch._replace(
        images=batch.images[:, :, :28], targets=batch.targets[..., :28], valid=batch.valid[..., :28]
    )
    expected = plain.training_step(batch, 0)["loss"].item()
    assert compiled.training_step(batch, 0)["loss"].item() == pytest.approx(expected, rel=1e-5)
    assert counter.frame_count == 1
    for again in (smaller, batch, smaller):
        compiled.training_step(again, 0)
    assert counter.frame_count == 2
    with torch.no_grad():
        compiled.averaged(normalise(batch.images[:, :14]))
    assert counter.frame_count == 2


def test_the_average_follows_the_weights_faster_while_it_is_young(batch, monkeypatch):
    module = training(LossConfig("inverse_depth"))
    monkeypatch.setattr("lightning.pytorch.LightningModule.optimizer_step", lambda *_: None)
    (name, weight), *_ = module.model.named_parameters()
    average = dict(module.averaged.named_parameters())[name]
    with torch.no_grad():
        average.zero_()
        weight.fill_(1.0)
    module.optimizer_step(0, 0, None)
    assert average.mean().item() == pytest.approx(1 - 2 / 11)  # decay (1 + 1) / (10 + 1)
    module.optimizer_step(0, 1, None)
    assert average.mean().item() == pytest.approx(1 - 2 / 11 * 3 / 12)
    assert module.num_steps_done == 2


def test_without_a_decay_the_average_is_the_last_weights(batch, monkeypatch):
    module = training(LossConfig("inverse_depth"), moves={"average_decay": 0.0})
    monkeypatch.setattr("lightning.pytorch.LightningModule.optimizer_step", lambda *_: None)
    with torch.no_grad():
        for parameter in module.model.parameters():
            parameter.add_(1.0)
    module.optimizer_step(0, 0, None)
    for own, kept in zip(module.model.parameters(), module.averaged.parameters(), strict=True):
        assert torch.equal(own, kept)


@pytest.mark.parametrize("kind", ["inverse_depth", "depth"])
def test_a_step_never_waits_for_the_device_nor_loops_over_samples(batch, kind):
    losses = LossConfig(kind, trim_fraction=0.1, feature_weight=1.0, align_features="pseudo")
    max_depth_m = 20.0 if kind == "depth" else None
    module = training(losses, max_depth_m=max_depth_m, frozen=True, cutmix=True)
    optimiser = module.configure_optimizers()["optimizer"]
    counts = []
    for _ in range(2):  # the optimiser makes its state in the first step
        for size in (2, 3):
            optimiser.zero_grad()
            part = batch._make(entry[:size] for entry in batch)
            with Operations() as operations:
                module.training_step(part, 0)["loss"].backward()
                module.configure_gradient_clipping(optimiser)
                optimiser.step()
            assert not operations.waits
            counts.append(operations.counts)
    assert counts[2] == counts[3]


def test_distorting_waits_for_no_other_device(batch):
    # A tensor on the meta device has no value that could be fetched.
    images, colours = batch.images.to("meta"), batch.colours.to("meta")
    with Operations() as operations:
        assert distort(images, colours, max_sigma_px=2.0).is_meta
    assert not operations.waits
