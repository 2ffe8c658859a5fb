"""The processes that decode: they read ahead, start once, and their death is told."""

import os
import signal
import time

import pytest
import torch

from dav2.models.depth_anything import DepthAnything, ModelConfig
from dav2.training.fit import fit
from tests.unit.training.test_data import training_data


@pytest.fixture
def train(discs, fit_config, tmp_path):
    def run(samples):
        config = fit_config(num_workers=1, memory_limit_bytes=1)
        return fit(
            DepthAnything(ModelConfig("vit64x4")),
            samples,
            discs(3, first=100),
            config=config,
            work=tmp_path,
        )

    before = torch.get_num_threads()
    yield run
    torch.set_num_threads(before)


@pytest.mark.slow  # PyTorch looks every five seconds
def test_a_worker_that_is_killed_ends_the_training_in_one_line(train, discs):
    here = os.getpid()

    class Deadly(discs):
        def read(self, index):
            if index == 4 and os.getpid() != here:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().read(index)

    with pytest.raises(
        ChildProcessError,
        match=r"^training data: expected its processes to live, got DataLoader worker \(pid.*"
        r"running\.num_workers\) need less memory$",
    ):
        train(Deadly(7))


def test_other_errors_pass(discs, augment):
    training_data(discs(5), augment()).on_exception(RuntimeError("DataLoader: of the program"))


def test_workers_read_ahead_and_are_started_once(discs, augment, tmp_path):
    class Noted(discs):
        def read(self, index):
            if os.getpid() != here:
                (tmp_path / f"{time.monotonic_ns()}-{os.getpid()}").touch()
            return super().read(index)

    here = os.getpid()
    data = training_data(
        Noted(4), augment(), num_workers=1, memory_limit_bytes=1, batch_size=2, num_batches=12
    )
    batches = iter(data.train_dataloader())
    next(batches)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 6 and time.monotonic() < deadline:
        time.sleep(0.01)  # a step that asks for nothing
    assert len(list(tmp_path.iterdir())) == 6  # the batch taken, and two ahead
    assert len(list(batches)) == 11
    noted = [path.name.partition("-")[2] for path in tmp_path.iterdir()]
    assert len(noted) == 24  # six passes over the samples
    assert len(set(noted)) == 1
