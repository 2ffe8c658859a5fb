"""Curves."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from dav2.training.data import Batch
from dav2.training.module import DepthTraining
from dav2.training.recording import Recorder


class Training(DepthTraining):
    def __init__(self, num_steps):
        LightningModule.__init__(self)
        self.num_steps_done = 0
        self.has_stopped = False
        self._optimiser = SimpleNamespace(num_steps=num_steps)

    def rates(self):
        return {"encoder_lr": 0.5 + self.num_steps_done}


@pytest.fixture
def steps():
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )

    def run(recorder, losses, *, training=None, num_steps=5):
        training = training or Training(num_steps)
        training.trainer = trainer
        for loss in losses:
            batch = Batch(["a", "b", "c"], *[torch.zeros(3, dtype=torch.uint8)] * 6)
            recorder.on_train_batch_start(trainer, training, batch, 0)
            training.num_steps_done += 1
            outputs = {
                "loss": torch.tensor(float(loss)),
                "data": torch.tensor(loss / 2),
                "finite": torch.tensor([True] * 3),
            }
            recorder.on_train_batch_end(trainer, training, outputs, batch, 0)
        return training

    return run


def test_a_row_holds_the_means_of_its_steps_and_the_last_takes_what_is_left(steps):
    told = []
    recorder = Recorder(every_steps=2, listener=lambda row, step: told.append((step, row)))
    steps(recorder, [1, 3, 5, 9, 4])
    assert [row["step"] for row in recorder.rows] == [2, 4, 5]
    assert [row["loss"] for row in recorder.rows] == [2.0, 7.0, 4.0]
    assert [row["data"] for row in recorder.rows] == [1.0, 3.5, 2.0]
    assert [row["encoder_lr"] for row in recorder.rows] == [1.5, 3.5, 4.5]
    assert told[0] == (2, {"loss": 2.0, "data": 1.0, "encoder_lr": 1.5})


def test_a_restart_in_the_middle_of_a_row_changes_nothing(steps):
    whole, first, second = (Recorder(every_steps=4) for _ in range(3))
    steps(whole, [1, 3, 5, 9, 4])
    training = steps(first, [1, 3])
    second.load_state_dict(first.state_dict())
    steps(second, [5, 9, 4], training=training)
    assert second.rows == whole.rows
