"""Sharded weights, on a mesh of one rank; tests/soak/test_sharded_ranks.py has two."""

import copy

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from dav2.models.depth_anything import DepthAnything, ModelConfig
from dav2.models.masked_image_model import MaskedImageModel
from dav2.training.data import Views, collate
from dav2.training.module import DepthTraining, LossConfig
from dav2.training.sharding import shard, share_of_state, whole_model, whole_state
from dav2.training.steps import OptimiserConfig, StepConfig


@pytest.fixture
def mesh():
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    yield init_device_mesh("cpu", (1, 1), mesh_dim_names=("data_parallel", "tensor_parallel"))
    dist.destroy_process_group()


@pytest.fixture
def batch(discs, augment):
    views = Views(discs(4), augment(), seed=0, batch_size=3)
    return collate([views[position] for position in range(3)])


def training():
    torch.manual_seed(0)
    optimiser = OptimiserConfig(5, 1e-3, 1e-2, "linear", clip_norm=0.1, average_decay=0.5)
    config = StepConfig(seed=0, optimiser=optimiser)
    model = DepthAnything(ModelConfig("vit64x4"))
    return DepthTraining(model, config, losses=LossConfig("inverse_depth"))


def take_step(module, optimiser, batch, monkeypatch):
    def step(*_):
        optimiser.zero_grad()
        module.training_step(batch, 0)["loss"].backward()
        module.configure_gradient_clipping(optimiser)
        optimiser.step()

    monkeypatch.setattr("lightning.pytorch.LightningModule.optimizer_step", step)
    module.optimizer_step(0, 0, optimiser)


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-5, rtol=1e-4, msg=name)


def test_steps_clipping_average_and_optimiser_are_those_of_whole_weights(mesh, batch, monkeypatch):
    whole, sharded = training(), training()
    sharded._device_mesh = mesh
    sharded.configure_model()
    assert all(isinstance(weight, DTensor) for weight in sharded.parameters())
    optimisers = [module.configure_optimizers()["optimizer"] for module in (whole, sharded)]
    for _ in range(3):
        for module, optimiser in zip((whole, sharded), optimisers, strict=True):
            take_step(module, optimiser, batch, monkeypatch)
    assert_close(whole_state(sharded.state_dict(), is_kept=True), whole.state_dict())
    states = [whole_state(optimiser.state_dict(), is_kept=True) for optimiser in optimisers]
    for index, entry in states[0]["state"].items():
        assert_close(states[1]["state"][index], entry)
    average = sharded.whole_average()
    assert not average.training
    assert_close(average.state_dict(), whole.averaged.state_dict())
    assert not any(isinstance(weight, DTensor) for weight in average.parameters())


def test_an_optimiser_takes_its_gathered_state_back(mesh, batch, monkeypatch):
    module, again = training(), training()
    module._device_mesh = again._device_mesh = mesh
    module.configure_model()
    optimiser = module.configure_optimizers()["optimizer"]
    take_step(module, optimiser, batch, monkeypatch)
    state = copy.deepcopy(whole_state(optimiser.state_dict(), is_kept=True))  # as from a file
    again.load_state_dict(whole_state(module.state_dict(), is_kept=True))
    again.configure_model()
    other = again.configure_optimizers()["optimizer"]
    other.load_state_dict(share_of_state(state, other))
    again.num_steps_done = 1
    for one, its in ((module, optimiser), (again, other)):
        take_step(one, its, batch, monkeypatch)
    found, expected = (whole_state(one.state_dict(), is_kept=True) for one in (again, module))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_rank_that_keeps_nothing_gathers_with_the_others(mesh):
    module = training()
    names = module.state_dict().keys()
    module._device_mesh = mesh
    module.configure_model()
    assert whole_state(module.state_dict(), is_kept=False) == dict.fromkeys(names)


def test_what_is_not_sharded_is_its_own_whole_state():
    module = training()
    optimiser = module.configure_optimizers()["optimizer"]
    state = module.state_dict()
    assert whole_state(state, is_kept=False).items() == state.items()
    assert share_of_state(optimiser.state_dict(), optimiser) == optimiser.state_dict()
    assert module.whole_average() is module.averaged


def test_an_encoder_that_is_warmed_up_is_sharded_too(mesh):
    torch.manual_seed(0)
    model = MaskedImageModel("vit64x4")
    expected = {name: weight.clone() for name, weight in model.state_dict().items()}
    images, masked = torch.rand(2, 3, 28, 42), torch.tensor([[True, False] * 3] * 2)
    painted = model(images, masked)
    shell = copy.deepcopy(model).to("meta")
    shard(model, mesh["data_parallel"])
    torch.testing.assert_close(model(images, masked), painted)
    whole = whole_model(model, shell)
    assert all(torch.equal(weight, expected[name]) for name, weight in whole.state_dict().items())
