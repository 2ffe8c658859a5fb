"""The end of a training whose numbers go wrong."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from dav2.models.depth_anything import DepthAnything, ModelConfig
from dav2.training.data import Batch
from dav2.training.fit import fit
from dav2.training.guard import Guard
from dav2.training.module import DepthTraining
from dav2.training.resume import PROGRESS, load_progress


class Training(DepthTraining):
    def __init__(self, num_steps):
        LightningModule.__init__(self)
        self.num_steps_done = 0
        self.has_stopped = False
        self.finite_gradients = torch.tensor(True)
        self._optimiser = SimpleNamespace(num_steps=num_steps)


@pytest.fixture
def passing():
    def run(*batches, every_steps=2, num_steps=9, accumulate=1):
        """Each batch: its samples, which of them are finite, the loss, whether gradients are."""
        guard, training = Guard(every_steps), Training(num_steps)
        quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
        training.trainer = Trainer(accelerator="cpu", accumulate_grad_batches=accumulate, **quiet)
        for index, (names, finite, loss, gradients) in enumerate(batches):
            if (index + 1) % accumulate == 0:
                training.num_steps_done += 1
                training.finite_gradients = torch.tensor(gradients)
            batch = Batch(list(names), *[torch.zeros(len(names), dtype=torch.uint8)] * 6)
            outputs = {"loss": torch.tensor(float(loss)), "finite": torch.tensor(finite)}
            guard.on_train_batch_end(training.trainer, training, outputs, batch, index)
        return guard

    return run


FINE = ("ab", [True, True], 1, True)


def test_the_sample_whose_numbers_are_wrong_is_named(passing):
    with pytest.raises(ValueError, match=r"step 2: expected finite numbers, got .* from d$"):
        passing(FINE, ("cd", [True, False], "nan", False))


def test_nothing_is_looked_at_before_something_is_due(passing):
    wrong = ("cd", [True, False], "nan", False)
    passing(wrong, every_steps=2)
    with pytest.raises(ValueError, match=r"step 1: .* from d$"):
        passing(wrong, FINE, every_steps=2)
    with pytest.raises(ValueError, match=r"step 1: .* from d$"):
        passing(wrong, every_steps=2, num_steps=1)


def test_a_loss_without_a_guilty_sample_names_all(passing):
    with pytest.raises(ValueError, match=r"step 1: expected finite numbers, .* from a, b, c$"):
        passing(("abc", [True] * 3, "inf", True), every_steps=1)


def test_gradients_name_all_samples_of_their_step(passing):
    parts = [FINE, FINE, ("cd", [True] * 2, 1, True), ("ef", [True] * 2, 1, False)]
    with pytest.raises(ValueError, match=r"step 2: expected finite gradients, .* from c, d, e, f$"):
        passing(*parts, accumulate=2)


def test_the_first_fault_is_told_and_a_part_belongs_to_the_step_it_is_for(passing):
    parts = [("ab", [True, False], 1, True), ("cd", [False] * 2, 1, False)]
    with pytest.raises(ValueError, match=r"step 1: .* from b$"):
        passing(*parts, accumulate=2, every_steps=1)


def test_more_samples_than_anybody_reads_are_cut_short(passing):
    with pytest.raises(ValueError, match=r"from a, b, c, d, e, \.\.\.$"):
        passing(("abcdefg", [True] * 7, 1, False), every_steps=1)


@pytest.mark.parametrize(
    ("others", "told"),
    [
        ((1, 0, ["there"]), "step 1: expected finite numbers, got .* from there$"),
        ((2, 0, ["there"]), "step 2: expected finite numbers, got .* from there$"),
        ((2, 1, ["there"]), "step 2: expected finite numbers, got .* from there$"),
        ((2, 2, ["there"]), "step 2: expected finite gradients, got .* from a, b, there$"),
        ((3, 0, ["there"]), "step 2: expected finite gradients, got .* from a, b$"),
    ],
)
def test_of_several_ranks_the_first_and_surest_fault_is_told(passing, monkeypatch, others, told):
    monkeypatch.setattr("dav2.training.guard.of_all_ranks", lambda own: [own, others])
    with pytest.raises(ValueError, match=told):
        passing(("xy", [True] * 2, 1, True), ("ab", [True] * 2, 1, False))


def test_gradients_that_are_not_finite_never_reach_a_validation_or_a_kept_state(
    discs, fit_config, tmp_path, monkeypatch
):
    class Overflowing(torch.autograd.Function):
        @staticmethod
        def forward(ctx, loss, step):
            ctx.step = step
            return loss.clone()

        @staticmethod
        def backward(ctx, slope):
            return slope * (float("inf") if ctx.step == 4 else 1.0), None

    step = DepthTraining.training_step

    def overflowing(self, batch, batch_idx):
        outputs = step(self, batch, batch_idx)
        return outputs | {"loss": Overflowing.apply(outputs["loss"], self.num_steps_done)}

    monkeypatch.setattr(DepthTraining, "training_step", overflowing)
    seen = []
    monkeypatch.setattr(
        "dav2.training.validator.Validator._validate",
        lambda self, module, *, measuring: seen.append(module.num_steps_done),
    )
    validation = replace(fit_config().validation, every_steps=5)
    periods = {"log_every_steps": 7, "checkpoint_every_steps": 3, "validation": validation}
    config = fit_config(**{"num_steps": 20, **periods})
    model = DepthAnything(ModelConfig("vit64x4"))
    with pytest.raises(ValueError, match=r"step 5: expected finite gradients, got .* from disc-"):
        fit(model, discs(7), discs(3, first=100), config=config, work=tmp_path)
    assert seen == []
    state = load_progress(tmp_path / PROGRESS)
    assert state["step"] == 3
    assert all(tensor.isfinite().all() for tensor in state["module"].values())
