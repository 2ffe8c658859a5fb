"""Errors of the processes that decode, as a training tells them."""

import os
import signal
import time

import pytest
import torch

from dav2.models.depth_anything import DepthAnything, ModelConfig
from dav2.training.fit import fit
from dav2.training.workers import told_in_one_line
from tests.unit.training.test_data import training_data


class ChangedError(OSError):
    pass


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


@pytest.mark.parametrize("kind", [ValueError, FileNotFoundError, ChangedError])
def test_an_error_in_a_worker_is_the_samples_own_line(train, discs, kind):
    class Broken(discs):
        def read(self, index):
            if index == 4:
                raise kind(f"a.tar: {self.sample_ids[index]}: expected a label: got none")
            return super().read(index)

    with pytest.raises(kind, match=r"^a\.tar: disc-4: expected a label: got none$"):
        train(Broken(7))


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


@pytest.mark.parametrize("kind", [ValueError, RuntimeError])
def test_other_errors_pass(kind):
    with pytest.raises(kind, match=r"^Caught nothing\.$"), told_in_one_line():
        raise kind("Caught nothing.")


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
