"""Errors from outside in one line, and what they leave."""

import zipfile

import pytest
import torch
import torch.distributed as dist

from dav2.models.depth_anything import DepthAnything, ModelConfig
from dav2.training.faults import told_in_one_line
from dav2.training.fit import fit
from dav2.training.resume import PROGRESS, load_progress
from tests.fixtures.full_disk import disk_for


@pytest.fixture
def train(discs, fit_config, tmp_path):
    def run(samples=None, encoder="vit64x4", **changes):
        torch.manual_seed(0)
        config = fit_config(**{"log_every_steps": 1, "checkpoint_every_steps": 1, **changes})
        model = DepthAnything(ModelConfig(encoder))
        return fit(model, samples or discs(7), discs(3, first=100), config=config, work=tmp_path)

    return run


def raise_within(error, *, num_ranks=1):
    with told_in_one_line(where="teacher", num_ranks=num_ranks):
        raise error


@pytest.mark.parametrize(
    "error",
    [RuntimeError("[gloo/pair.cc:1] Closed [a]:1. Check logs."), dist.DistNetworkError("x")],
)
def test_only_a_failed_exchange_speaks_of_a_lost_rank(error):
    with pytest.raises(ConnectionError, match="teacher: expected 2 processes to the end, got an"):
        raise_within(error, num_ranks=2)
    with pytest.raises(type(error)):
        raise_within(error)
    with pytest.raises(RuntimeError, match="shapes"):
        raise_within(RuntimeError("shapes"), num_ranks=2)


def test_a_lost_device_is_named(train, discs, tmp_path):
    class Lost(discs):
        def read(self, index):
            if len(self.reads) == 10:
                raise torch.AcceleratorError("CUDA error: unspecified launch failure\nCUDA kernel")
            return super().read(index)

    with pytest.raises(
        ConnectionError, match=r"^test: expected the device to .* failure; the last"
    ):
        train(Lost(7), memory_limit_bytes=1)
    assert load_progress(tmp_path / PROGRESS)["step"] == 3


@pytest.mark.parametrize("part", ["freeze", "Validator.final", "draw_validation"])
def test_a_device_lost_before_or_after_the_steps_is_named_too(train, monkeypatch, part):
    def lost(*_, **__):
        raise torch.AcceleratorError("CUDA error: unspecified launch failure\nCUDA kernel")

    monkeypatch.setattr(f"dav2.training.fit.{part}", lost)
    with pytest.raises(ConnectionError, match=r"^test: expected the device to the end, got CUDA"):
        train(num_steps=1)


def test_a_device_without_enough_memory_says_what_needs_less():
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    with pytest.raises(ValueError, match=r"got CUDA out of memory; checkpoint_activations, or"):
        raise_within(error)


def test_what_a_loaders_process_could_not_read_is_one_line(train, discs):
    class Missing(discs):
        def read(self, index):
            if index == 4 and torch.utils.data.get_worker_info():
                raise FileNotFoundError("shard-01.tar: expected a shard,\ngot no file: gone")
            return super().read(index)

    with pytest.raises(
        FileNotFoundError, match=r"^shard-01\.tar: expected a shard, got no file: gone$"
    ):
        train(Missing(7), num_workers=1, memory_limit_bytes=1)


def test_a_full_disk_leaves_the_state_before_it(train, tmp_path):
    train(num_steps=2)
    before = (tmp_path / PROGRESS).read_bytes()
    with (
        disk_for(1_000_000),
        pytest.raises(OSError, match=r"pt: expected to write .* before it is") as raised,
    ):
        train(num_steps=4)
    assert "inline_container" not in str(raised.value)  # where in PyTorch's sources
    assert (tmp_path / PROGRESS).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [PROGRESS]
    assert [row["step"] for row in train(num_steps=4).curves] == [1, 2, 3, 4]


def test_the_state_of_another_model_is_refused_and_kept(train, tmp_path):
    train(num_steps=2)
    before = (tmp_path / PROGRESS).read_bytes()
    with pytest.raises(ValueError, match=r"pt: expected the state of this model, got one of anoth"):
        train(num_steps=4, encoder="vit128x6")
    assert (tmp_path / PROGRESS).read_bytes() == before


@pytest.mark.parametrize("content", [{"model": torch.zeros(2), "epoch": 3}, [1, 2]])
def test_a_foreign_checkpoint_is_refused(train, tmp_path, content):
    torch.save(content, tmp_path / PROGRESS)
    with pytest.raises(ValueError, match=r"expected the state of a training, got another kind"):
        train()


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\3\4", b"\x80\2cos\nsystem\n."])
def test_what_pytorch_did_not_write_is_refused_without_advice_to_trust_it(train, tmp_path, content):
    (tmp_path / PROGRESS).write_bytes(content)
    with pytest.raises(
        ValueError, match=r"pt: expected the state of a training, got another kind of file, or half"
    ):
        train()
    assert (tmp_path / PROGRESS).read_bytes() == content


def test_a_zip_file_of_something_else_is_refused(train, tmp_path):
    with zipfile.ZipFile(tmp_path / PROGRESS, "w") as file:
        file.writestr("step", "3")
    with pytest.raises(
        ValueError, match=r"pt: expected the state of a training, got a damaged one$"
    ):
        train()


def test_progress_that_ranks_do_not_share_is_refused(train, monkeypatch):
    monkeypatch.setattr("dav2.training.resume.of_all_ranks", lambda own: [own, 7])
    with pytest.raises(ValueError, match=r"pt: expected one file for all ranks, .* steps 0, 7$"):
        train()
