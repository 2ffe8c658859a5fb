"""Trains a model from samples to weights, resuming where an interrupted training stopped.

Axes: H height, W width (pixels), 3 colours.
"""

import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import LambdaCallback
from torch import nn

from dav2.models.depth_anything import DepthAnything
from dav2.models.device import chosen_device
from dav2.training.augment import AugmentConfig
from dav2.training.data import TrainingData
from dav2.training.faults import told_in_one_line
from dav2.training.memory import keep_freed_memory
from dav2.training.mixture import Part
from dav2.training.module import DepthTraining, LossConfig, OptimiserConfig
from dav2.training.parallel import (
    ParallelConfig,
    environment_of,
    rank_of,
    share_of_batch,
    strategy_of,
)
from dav2.training.pictures import draw_validation
from dav2.training.progress import ProgressLine
from dav2.training.recording import Listener, Recorder
from dav2.training.resume import Checkpointer
from dav2.training.samples import Samples
from dav2.training.validation import ValidationConfig, Validator, freeze

Precision = Literal["float32", "bfloat16"]

Device = Literal["auto", "cpu", "cuda"]
"""`auto`: a CUDA device where there is one."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FitConfig:
    """All of a training but the model and the samples."""

    name: str
    """Shown while it trains."""
    seed: int
    losses: LossConfig
    optimiser: OptimiserConfig
    augment: AugmentConfig
    validation: ValidationConfig
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
    compile_blocks: bool = False
    """Compile the model: other rounding, hence other weights."""
    checkpoint_activations: bool = False
    """Compute what a block holds twice instead of keeping it: less memory, equal weights."""
    parallel: ParallelConfig = field(default_factory=ParallelConfig)


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a training leaves."""

    model: DepthAnything
    """On the CPU, in evaluation mode."""
    curves: list[dict[str, float]]
    """A row every so many steps: step, loss, terms of the loss, rates."""
    validation: dict[str, float]
    """Measures of `model`, with the step of its weights."""
    history: list[dict[str, float]]
    """Measures of every validation."""
    picture: UInt8[np.ndarray, "H W 3"]
    """Some validation samples: image, target, prediction."""


def fit(
    model: DepthAnything,
    samples: Samples,
    held_out: Samples,
    *,
    config: FitConfig,
    work: Path,
    listener: Listener | None = None,
    frozen_encoder: nn.Module | None = None,
) -> Fitted:
    """Trains `model` and returns its averaged (or best) weights.

    Two calls with equal arguments give equal weights on a CPU, also when the first was killed and
    the second went on in the same `work`. On several devices, every rank calls this with equal
    arguments (`launcher: local` starts the other ranks from this process's own command line) and
    gets the same result; only the first writes and tells.

    Args:
        model: With its initial weights; changed.
        samples: What it learns from.
        held_out: What it is validated on, never trained on.
        config: Everything else.
        work: Folder of this training alone, for its progress, on a disk that all machines share.
            A finished training found there is returned without training.
        listener: Told curves and measures as they come.
        frozen_encoder: For feature alignment.

    Raises:
        ValueError: If this machine has no such device, ranks were not started as configured or
            cannot share a batch, a sample cannot be read, the progress found is damaged, or numbers
            are no longer finite; the last good progress is kept.
        ConnectionError: If the device or another rank is lost; likewise.
        ChildProcessError: If a process that decodes samples was killed; likewise.
        OSError: If a file is missing or the disk is full; likewise.
    """
    # Not Lightning's own `auto`, which would also take Apple's.
    accelerator = chosen_device(config.device, where=f"{config.name}: device")
    environment = environment_of(config.parallel, where=config.name)
    is_first = rank_of(environment) == 0
    listener = listener if is_first else None
    torch.set_num_threads(config.num_threads)
    keep_freed_memory()
    module = _module(model, config, frozen_encoder)
    recorder = Recorder(every_steps=config.log_every_steps, listener=listener)
    frozen = freeze(held_out, config.validation)
    validator = Validator(frozen, config.validation, listener=listener)
    states = {"recorder": recorder, "validator": validator}
    checkpointer = Checkpointer(
        work, states, every_steps=config.checkpoint_every_steps, writes=is_first
    )
    checkpointer.restore(module)
    if checkpointer.first_step and is_first:
        logger.info("%s: goes on after step %d", config.name, checkpointer.first_step)
    if checkpointer.first_step < config.optimiser.num_steps and not validator.has_lost_patience():
        data = _data(samples, config, checkpointer.first_step)
        line = ProgressLine(
            config.name,
            num_steps=config.optimiser.num_steps,
            batch_size=config.batch_size * config.accumulate,
            recorder=recorder,
            validator=validator,
        )
        callbacks = [recorder, validator, checkpointer, line]
        _run(module, data, config, callbacks, accelerator, environment, work)
    kept, measures = validator.final(module)
    kept = kept.cpu().eval()
    picture = draw_validation(kept, frozen, config.validation)
    return Fitted(kept, recorder.rows, measures, validator.history, picture)


def _module(
    model: DepthAnything, config: FitConfig, frozen_encoder: nn.Module | None
) -> DepthTraining:
    if config.compile_blocks:
        # One graph a size; beyond the limit PyTorch would go on uncompiled.
        limit = max(torch._dynamo.config.recompile_limit, 1 + len(config.augment.crops_px))
        torch._dynamo.config.recompile_limit = limit
    return DepthTraining(
        model,
        losses=config.losses,
        optimiser=config.optimiser,
        seed=config.seed,
        max_sigma_px=_max_sigma_px(config.augment),
        cutmix=config.augment.cutmix_probability > 0,
        frozen_encoder=frozen_encoder,
        compile_blocks=config.compile_blocks,
        checkpoint_activations=config.checkpoint_activations,
    )


def _run(
    module: DepthTraining,
    data: TrainingData,
    config: FitConfig,
    callbacks: list[Callback],
    accelerator: str,
    environment: ClusterEnvironment,
    work: Path,
) -> None:
    parallel = config.parallel
    strategy = strategy_of(parallel, accelerator, where=config.name)
    with _quiet(), told_in_one_line(where=config.name, num_ranks=parallel.num_ranks):
        seed_everything(config.seed, verbose=False)
        trainer = Trainer(
            max_steps=config.optimiser.num_steps - module.num_steps_done,
            max_epochs=-1,
            accelerator=accelerator,
            devices=parallel.num_devices,
            num_nodes=parallel.num_machines,
            strategy=strategy,
            plugins=[environment] if parallel.num_ranks > 1 else None,
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


def _data(samples: Samples, config: FitConfig, first_step: int) -> TrainingData:
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


def _max_sigma_px(augment: AugmentConfig) -> float:
    return augment.blur_sigma_px[1] if augment.blur_probability > 0 else 0.0


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
