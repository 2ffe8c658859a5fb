"""Training on many devices: which process is which, and what they tell each other.

A rank is one process with one device. All ranks run the same code on other samples.
"""

from dataclasses import dataclass
from typing import Any, Literal, assert_never

import torch
import torch.distributed as dist
from jaxtyping import Float
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import Tensor

Launcher = Literal["local", "torchrun", "slurm"]
"""Who starts the ranks: the first one itself (all on its machine), or the operator."""

StrategyName = Literal["ddp", "fsdp"]
"""Every rank holds the whole model, or a share of its weights."""


@dataclass(frozen=True, slots=True)
class ParallelConfig:
    """How many devices train one model."""

    launcher: Launcher = "local"
    num_machines: int = 1
    num_devices: int = 1
    """Of each machine: GPUs, or processes where a training runs on CPUs."""
    strategy: StrategyName = "ddp"

    @property
    def num_ranks(self) -> int:
        """Devices of all machines together."""
        return self.num_machines * self.num_devices


def share_of_batch(batch_size: int, config: ParallelConfig, *, where: str) -> int:
    """Returns how many samples of a batch each rank takes.

    Raises:
        ValueError: If they cannot all take the same number.
    """
    if batch_size % config.num_ranks:
        raise ValueError(
            f"{where}: batch_size: expected a multiple of {config.num_ranks}, one share for each "
            f"device, got {batch_size}"
        )
    return batch_size // config.num_ranks


def environment_of(config: ParallelConfig, *, where: str) -> ClusterEnvironment:
    """Returns what knows this process's rank.

    Raises:
        ValueError: If the processes were not started as the configuration says.
    """
    match config.launcher:
        case "local":
            if config.num_machines > 1:
                raise ValueError(
                    f"{where}: parallel.launcher: expected torchrun or slurm for "
                    f"{config.num_machines} machines, got local"
                )
            if TorchElasticEnvironment.detect():
                raise ValueError(
                    f"{where}: parallel.launcher: expected torchrun, which started this process, "
                    "got local"
                )
            return LightningEnvironment()
        case "torchrun":
            _check_started(TorchElasticEnvironment.detect(), by="torchrun", where=where)
            given: ClusterEnvironment = TorchElasticEnvironment()
        case "slurm":
            _check_started(SLURMEnvironment.detect(), by="srun", where=where)
            try:
                given = SLURMEnvironment(auto_requeue=False)
            except RuntimeError:  # the number of tasks is given, but not that of each machine
                raise ValueError(
                    f"{where}: parallel.launcher: expected `srun --ntasks-per-node`, got --ntasks"
                ) from None
        case _:
            assert_never(config.launcher)
    if given.world_size() != config.num_ranks:
        raise ValueError(
            f"{where}: parallel: expected {config.num_machines} x {config.num_devices} processes, "
            f"got {given.world_size()} from {config.launcher}"
        )
    return given


def _check_started(started: bool, *, by: str, where: str) -> None:
    if not started:
        raise ValueError(
            f"{where}: parallel.launcher: expected to be started by {by}, got a process of its own "
            "(docs/training.md)"
        )


def rank_of(environment: ClusterEnvironment) -> int:
    """Returns this process's rank; 0 is the first, which writes what is to be written once."""
    if isinstance(environment, LightningEnvironment):
        return environment.local_rank()  # its global rank is known only while a trainer runs
    return environment.global_rank()


def strategy_of(config: ParallelConfig, accelerator: str, *, where: str) -> Strategy | str:
    """Returns how Lightning is to run the ranks.

    Raises:
        ValueError: If this machine has too few devices.
    """
    if accelerator == "cuda" and torch.cuda.device_count() < config.num_devices:
        raise ValueError(
            f"{where}: parallel.num_devices: expected {config.num_devices} CUDA devices, "
            f"got {torch.cuda.device_count()} on this machine"
        )
    if config.num_ranks == 1:
        return "auto"
    backend = "nccl" if accelerator == "cuda" else "gloo"
    match config.strategy:
        case "ddp":
            return DDPStrategy(process_group_backend=backend, gradient_as_bucket_view=True)
        case "fsdp":  # `Training.configure_model` says what is shared
            return ModelParallelStrategy(
                data_parallel_size=config.num_ranks,
                tensor_parallel_size=1,
                process_group_backend=backend,
            )
        case _:
            assert_never(config.strategy)


def sum_over_ranks(values: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Returns the sums over all ranks; on a GPU nothing waits for them."""
    if _is_alone():
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total


def of_all_ranks(value: Any) -> list[Any]:
    """Returns what each rank calls this with, on every rank."""
    if _is_alone():
        return [value]
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def of_first_rank(value: Any) -> Any:
    """Returns what the first rank calls this with, on every rank."""
    if _is_alone():
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def _is_alone() -> bool:
    return not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1
