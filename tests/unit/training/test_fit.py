"""Whole trainings: what they leave, and that a kill leaves no trace."""

import logging
from dataclasses import replace

import pytest
import torch

from dav2.models.depth_anything import DepthAnything, ModelConfig
from dav2.training.fit import fit
from dav2.training.guard import Guard
from dav2.training.mixture import MixedSamples, Part
from dav2.training.module import LossConfig
from dav2.training.recording import Recorder
from dav2.training.resume import PROGRESS, load_progress
from dav2.training.samples import TrainingSample
from dav2.training.schedule import rate_factor
from tests.fixtures.operations import Operations


def new_model(max_depth_m=None):
    torch.manual_seed(0)
    return DepthAnything(ModelConfig("vit64x4", max_depth_m))


def weights(fitted):
    return fitted.model.state_dict()


def assert_equal(one, other):
    assert one.curves == other.curves
    assert one.history == other.history
    assert one.validation == other.validation
    for name, tensor in weights(one).items():
        assert torch.equal(tensor, weights(other)[name]), name


class InterruptedTrainingError(RuntimeError):
    pass


def interrupt_at(step):
    """A listener that stops the training as a kill would: at once, with nothing saved."""

    def listener(measures, at):
        if at == step and "loss" in measures:
            raise InterruptedTrainingError

    return listener


@pytest.fixture
def train(discs, fit_config, tmp_path):
    def run(work="work", **changes):
        listener = changes.pop("listener", None)
        metres = changes.get("max_depth_m") is not None
        folder = tmp_path / work
        folder.mkdir(exist_ok=True)
        return fit(
            new_model(changes.get("max_depth_m")),
            changes.pop("samples", discs(7, metres=metres)),
            discs(3, first=100, metres=metres),
            config=fit_config(**changes),
            work=folder,
            listener=listener,
        )

    return run


def test_a_training_leaves_averaged_weights_curves_and_validations(train):
    told = []
    fitted = train(listener=lambda measures, step: told.append((step, sorted(measures)[0])))
    assert [row["step"] for row in fitted.curves] == [4, 6]
    assert set(fitted.curves[0]) == {
        "step", "loss", "degenerate", "data", "gradient", "encoder_lr", "decoder_lr"
    }  # fmt: skip
    assert [entry["step"] for entry in fitted.history] == [3, 6]
    assert fitted.validation == fitted.history[-1]
    assert [step for step, _ in told] == [3, 4, 6, 6]
    assert not fitted.model.training
    changed = [name for name, tensor in weights(fitted).items()
               if not torch.equal(tensor, new_model().state_dict()[name])]  # fmt: skip
    assert len(changed) > 50


def test_rates_follow_the_schedule_step_by_step(train):
    rows = train(log_every_steps=1).curves
    factors = [rate_factor(step, "cosine", num_steps=6, warmup_steps=2) for step in range(6)]
    assert [row["encoder_lr"] for row in rows] == pytest.approx([1e-3 * each for each in factors])
    assert [row["decoder_lr"] for row in rows] == pytest.approx([2e-3 * each for each in factors])


def test_no_step_fetches_a_number_before_a_row_is_due(train, fit_config, monkeypatch):
    operations, fetched = Operations(), []

    def noted(method):
        def call(*arguments):
            fetched.append(operations.counts["_local_scalar_dense"])
            return method(*arguments)

        return call

    for kind, name in ((Recorder, "on_train_batch_start"), (Guard, "_check")):
        monkeypatch.setattr(kind, name, noted(getattr(kind, name)))
    validation = replace(fit_config().validation, every_steps=9)
    rare = {"log_every_steps": 9, "checkpoint_every_steps": 9, "validation": validation}
    with operations:
        train(num_steps=4, accumulate=2, **rare)
    *starts, check = fetched
    assert len(starts) == 8
    # Clipping, average, schedule, progress and guard of four whole steps lie between.
    assert check == starts[0]
    assert operations.counts["_local_scalar_dense"] > check


def test_a_longer_training_learns(train):
    fitted = train(num_steps=60, batch_size=6, log_every_steps=20, checkpoint_every_steps=100)
    losses = [row["loss"] for row in fitted.curves]
    assert losses[-1] < 0.75 * losses[0]
    assert fitted.validation["pair_accuracy"] > 0.7


def test_the_same_training_twice_gives_the_same_weights(train):
    assert_equal(train("one"), train("other"))


def test_a_mixture_with_cutmix_goes_on_as_if_it_had_not_been_stopped(train, discs, augment):
    changes = {
        "num_steps": 4,
        "log_every_steps": 1,
        "samples": MixedSamples([discs(5), discs(3, first=50, pseudo=False)]),
        "mixture": (Part(5, 2), Part(3, 1)),
        "batch_size": 4,
        "augment": augment(cutmix_probability=0.8, perturb="pseudo"),
        "losses": LossConfig("inverse_depth", trim_fraction=0.1, alignment="least_squares"),
    }
    whole = train("whole", **changes)
    with pytest.raises(InterruptedTrainingError):
        train("parts", listener=interrupt_at(3), **changes)
    assert_equal(train("parts", **changes), whole)


@pytest.mark.parametrize("step", [3, 5])
def test_a_training_that_was_stopped_goes_on_as_if_it_had_not(train, step):
    changes = {"num_steps": 7, "log_every_steps": 1}
    whole = train("whole", **changes)
    with pytest.raises(InterruptedTrainingError):
        train("stopped", listener=interrupt_at(step), **changes)
    seen = []
    rest = train("stopped", listener=lambda measures, at: seen.append(at), **changes)
    assert min(seen) == step  # the state of one step before was there: nothing was done twice
    assert_equal(rest, whole)


def test_stopping_inside_an_accumulated_mean_and_a_row_changes_nothing(train, tmp_path):
    changes = {"accumulate": 2, "log_every_steps": 4, "checkpoint_every_steps": 3, "num_steps": 8}
    whole = train("whole", **changes)
    with pytest.raises(InterruptedTrainingError):
        train("stopped", listener=interrupt_at(4), **changes)
    assert load_progress(tmp_path / "stopped" / PROGRESS)["step"] == 3
    assert_equal(train("stopped", **changes), whole)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_loss_in_the_curves_is_the_sum_of_its_terms(train, accumulate):
    fitted = train(accumulate=accumulate, num_steps=2, log_every_steps=1)
    for row in fitted.curves:
        assert row["loss"] == pytest.approx(row["data"] + row["gradient"], rel=1e-5)


def test_a_finished_training_is_not_trained_again(train, discs):
    first = train()
    samples = discs(7)
    again = train(samples=samples)
    assert samples.reads == []
    assert_equal(again, first)


def test_a_training_that_gets_no_better_ends_early_and_resumed_at_the_same_step(
    train, fit_config, monkeypatch
):
    errors = {1: 0.9, 2: 0.5, 3: 0.6, 4: 0.5, 5: 0.4, 6: 0.7, 7: 0.4, 8: 0.4}
    module = "dav2.training.validator.measure_predictions"
    calls = []

    def measure(predictions, samples, config):
        calls.append(1)
        return {"abs_rel": 1.0, "abs_rel_inverse": errors[len(calls)], "delta1": 0.5}

    monkeypatch.setattr(module, measure)
    validation = replace(
        fit_config().validation, every_steps=2, patience=3, keep_best=True, max_depth_m=None
    )
    changes = {"num_steps": 40, "validation": validation, "log_every_steps": 3}
    whole = train("whole", **changes)
    assert [entry["step"] for entry in whole.history] == [2, 4, 6, 8, 10, 12, 14, 16]
    assert whole.validation["step"] == 10
    assert whole.curves[-1]["step"] == 16
    again = train("whole", **changes, listener=lambda *_: pytest.fail("trained again"))
    assert_equal(again, whole)
    calls.clear()
    with pytest.raises(InterruptedTrainingError):
        train("stopped", listener=interrupt_at(15), **changes)
    assert_equal(train("stopped", **changes), whole)


def test_a_metric_model_trains_on_metres(train):
    fitted = train(max_depth_m=20.0)
    assert set(fitted.curves[0]) >= {"loss", "silog"}
    assert 0 < fitted.validation["abs_rel"] < 3


def test_bfloat16_trains_and_gives_float32_weights(train):
    fitted = train(precision="bfloat16")
    assert all(tensor.dtype == torch.float32 for tensor in weights(fitted).values())
    assert all(torch.isfinite(torch.tensor(row["loss"])) for row in fitted.curves)


def test_a_nan_in_a_label_stops_with_its_sample_and_keeps_the_last_good_state(
    train, discs, tmp_path
):
    class Poisoned(discs):
        def read(self, index):
            sample = super().read(index)
            if self.reads.count(index) < 3 or index != 4:
                return sample
            target = sample.target.copy()
            target[:] = float("nan")
            return TrainingSample(sample.sample_id, sample.image, target, sample.valid)

    with pytest.raises(ValueError, match=r"training step \d+: expected finite .* from disc-4$"):
        train(samples=Poisoned(7), num_steps=30, memory_limit_bytes=1, checkpoint_every_steps=1)
    state = load_progress(tmp_path / "work" / PROGRESS)
    assert state["step"] >= 1
    assert all(tensor.isfinite().all() for tensor in state["module"].values())


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_a_gpu_that_is_not_there_is_refused(train):
    with pytest.raises(ValueError, match="test: device: expected a CUDA device, got none"):
        train(device="cuda")


def test_a_damaged_state_is_refused(train, tmp_path):
    train()
    path = tmp_path / "work" / PROGRESS
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(
        ValueError, match=r"progress\.pt: expected the state of a training, got another"
    ):
        train()


def test_lightning_leaves_nothing_and_says_nothing(train, tmp_path, caplog, recwarn):
    caplog.set_level(logging.INFO)
    train()
    assert [path.name for path in (tmp_path / "work").iterdir()] == [PROGRESS]
    assert [record.getMessage() for record in caplog.records] == []
    assert [str(warning.message) for warning in recwarn] == []


def test_what_is_shown_counts_samples_and_the_last_numbers(train, capfd):
    train()
    shown = capfd.readouterr().err
    assert "test: 100%" in shown
    assert "18/18" in shown
    assert "loss=" in shown
    assert "val delta1=" in shown
