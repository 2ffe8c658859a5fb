"""Runs a training from any step to its end, whatever a step computes."""

import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import LambdaCallback

from dav2.models.device import chosen_device
from dav2.training.augment import AugmentConfig
from dav2.training.data import TrainingData
from dav2.training.guard import Guard
from dav2.training.memory import keep_freed_memory
from dav2.training.mixture import Part
from dav2.training.parallel import (
    ParallelConfig,
    environment_of,
    rank_of,
    share_of_batch,
    strategy_of,
)
from dav2.training.progress import ProgressLine
from dav2.training.recording import Listener, Recorder
from dav2.training.resume import Checkpointer
from dav2.training.samples import Samples
from dav2.training.steps import StepConfig, Training
from dav2.training.validator import Validator

Precision = Literal["float32", "bfloat16"]

Device = Literal["auto", "cpu", "cuda"]
"""`auto`: a CUDA device where there is one."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig(StepConfig):
    """All of a training but the model, the samples and what a step computes."""

    name: str
    """Shown while it trains."""
    augment: AugmentConfig
    batch_size: int
    """Samples of one forward pass, over all devices together."""
    accumulate: int
    """Forward passes of one step."""
    precision: Precision
    """Of activations; weights, losses and the last layer stay in float32."""
    device: Device
    num_threads: int
    """Of the CPU; another number gives other rounding, hence other weights."""
    num_workers: int
    """Processes that decode, of each rank."""
    memory_limit_bytes: int
    """Of decoded samples that one machine keeps."""
    log_every_steps: int
    checkpoint_every_steps: int
    mixture: tuple[Part, ...] = ()
    """The sets that the samples consist of, where they are drawn by weight; none: plainly one
    after another, each seen as often as it has samples."""
    parallel: ParallelConfig = field(default_factory=ParallelConfig)


@dataclass(frozen=True, slots=True)
class Process:
    """This process among those that train one model."""

    accelerator: str
    environment: ClusterEnvironment
    is_first: bool
    """Whether it writes and tells."""


def prepare_process(config: RunConfig) -> Process:
    """Sets this process up, before anything of the training is made.

    Raises:
        ValueError: If this machine has no such device, ranks were not started as configured, they
            cannot share a batch (or the pairs of CutMix), or sharded weights are to be compiled.
    """
    parallel = config.parallel
    if config.compile_blocks and parallel.strategy == "fsdp" and parallel.num_ranks > 1:
        raise ValueError(
            f"{config.name}: compile: expected false where parallel.strategy is fsdp, got true: "
            "compiled blocks of sharded weights are not supported"
        )
    share = share_of_batch(config.batch_size, parallel, where=config.name)
    if config.augment.cutmix_probability > 0 and parallel.num_ranks > 1 and share % 2:
        raise ValueError(
            f"{config.name}: batch_size: expected an even share for each of {parallel.num_ranks} "
            f"devices, as CutMix mixes pairs, got {share} of {config.batch_size}"
        )
    # Not Lightning's own `auto`, which would also take Apple's.
    accelerator = chosen_device(config.device, where=f"{config.name}: device")
    environment = environment_of(parallel, where=config.name)
    if accelerator == "cuda" and environment.local_rank() < torch.cuda.device_count():
        torch.cuda.set_device(environment.local_rank())  # what comes before the trainer runs there
    torch.set_num_threads(config.num_threads)
    keep_freed_memory()
    if config.compile_blocks:
        # One graph a size; beyond the limit PyTorch would go on uncompiled.
        limit = max(torch._dynamo.config.recompile_limit, 1 + len(config.augment.crops_px))
        torch._dynamo.config.recompile_limit = limit
    return Process(accelerator, environment, rank_of(environment) == 0)


def run(
    module: Training[Any],
    samples: Samples,
    *,
    config: RunConfig,
    process: Process,
    work: Path,
    listener: Listener | None,
    validator: Validator | None = None,
) -> list[dict[str, float]]:
    """Takes the steps that are left of a training; the weights are in `module` afterwards.

    Args:
        module: What a step computes, with its initial weights.
        samples: What it learns from.
        config: Everything else.
        process: From `prepare_process`.
        work: Folder of this training alone, for its progress.
        listener: Told curves as they come; None on ranks that tell nothing.
        validator: Watches the training, if anything does.

    Returns:
        The curves: a row every so many steps.

    Raises:
        ValueError: If a sample cannot be read, the progress found is damaged, or numbers are no
            longer finite; the last good progress is kept.
        ChildProcessError: If a process that decodes samples was killed; likewise.
        OSError: If a file is missing or the disk is full; likewise.
        RuntimeError: What `told_in_one_line` is for.
    """
    recorder = Recorder(every_steps=config.log_every_steps, listener=listener)
    # The recorder comes last: only then it knows of an early stop, and writes its last row.
    states: dict[str, Callback] = {} if validator is None else {"validator": validator}
    states["recorder"] = recorder
    periods = [config.log_every_steps, config.checkpoint_every_steps]
    guard = Guard(*periods, *([] if validator is None else [validator.every_steps]))
    checkpointer = Checkpointer(
        work, states, every_steps=config.checkpoint_every_steps, writes=process.is_first
    )
    checkpointer.restore(module)
    first_step, num_steps = checkpointer.first_step, config.optimiser.num_steps
    if first_step and process.is_first:
        logger.info("%s: goes on after step %d", config.name, first_step)
    if first_step < num_steps and not (validator and validator.has_lost_patience()):
        line = ProgressLine(
            config.name,
            num_steps=num_steps,
            batch_size=config.batch_size * config.accumulate,
            recorder=recorder,
            validator=validator,
        )
        callbacks = [guard, *states.values(), checkpointer, line]
        _train(module, _data(samples, config, first_step), config, callbacks, process, work)
    return recorder.rows


def _train(
    module: Training[Any],
    data: TrainingData,
    config: RunConfig,
    callbacks: list[Callback],
    process: Process,
    work: Path,
) -> None:
    parallel = config.parallel
    strategy = strategy_of(parallel, process.accelerator, where=config.name)
    with _quiet():
        seed_everything(config.seed, verbose=False)
        trainer = Trainer(
            max_steps=config.optimiser.num_steps - module.num_steps_done,
            max_epochs=-1,
            accelerator=process.accelerator,
            devices=parallel.num_devices,
            num_nodes=parallel.num_machines,
            strategy=strategy,
            plugins=[process.environment] if parallel.num_ranks > 1 else None,
            precision="bf16-mixed" if config.precision == "bfloat16" else "32-true",
            accumulate_grad_batches=config.accumulate,
            callbacks=[_as_before(config.num_threads), *callbacks],
            # What Lightning would do beside training, this project does itself and resumes exactly.
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            limit_val_batches=0,
            default_root_dir=work,
        )
        trainer.fit(module, datamodule=data)


def _as_before(num_threads: int) -> Callback:
    """Takes back what Lightning changes of the process: the meaning of SIGTERM, the threads.

    SIGTERM ends at once, as SIGKILL does. Lightning's handler finishes the batch and ends the
    process with exit status 0, as if it had done its work. It offers no option, but replaces the
    handler before `on_train_start`. Of several ranks it sets the threads by itself.
    """
    before = signal.getsignal(signal.SIGTERM)

    def restore(*_: object) -> None:
        signal.signal(signal.SIGTERM, before)
        torch.set_num_threads(num_threads)

    return LambdaCallback(on_train_start=restore)


def _data(samples: Samples, config: RunConfig, first_step: int) -> TrainingData:
    return TrainingData(
        samples,
        config.augment,
        seed=config.seed,
        batch_size=share_of_batch(config.batch_size, config.parallel, where=config.name),
        num_batches=config.optimiser.num_steps * config.accumulate,
        first_batch=first_step * config.accumulate,
        num_workers=config.num_workers,
        mixture=config.mixture,
        memory_limit_bytes=config.memory_limit_bytes // config.parallel.num_devices,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences what Lightning says about choices that are made on purpose here."""
    # Lightning exists twice, and whichever copy was imported last logs for both.
    for package in (
        "lightning.pytorch",
        "lightning.fabric",
        "pytorch_lightning",
        "lightning_fabric",
    ):
        for module in ("utilities.rank_zero", "utilities.distributed", "accelerators.cuda"):
            logging.getLogger(f"{package}.{module}").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in (
            r".*does not have many workers.*",  # samples in memory need none
            r".*`validation_step` but have no `val_dataloader`.*",
            r".*GPU available but not used.*",
            r".*module\(s\) in eval mode at the start of training.*",  # the averaged weights
            r".*isinstance\(treespec, LeafSpec\)` is deprecated.*",
        ):
            warnings.filterwarnings("ignore", message=message)
        yield
