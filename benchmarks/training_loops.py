"""What the benchmark of trainings times: our step under Lightning, and a plain PyTorch loop.

Axes: B batch, H height, W width (pixels).
"""

import copy
import logging
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import AdamW
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torch.utils.flop_counter import FlopCounterMode

from dav2.data.transforms import normalise
from dav2.losses.gradient_matching import gradient_matching_loss
from dav2.losses.scale_shift_invariant import scale_shift_invariant_loss
from dav2.models.depth_anything import DepthAnything, ModelConfig
from dav2.models.encoder import EncoderName
from dav2.training.augment import AugmentConfig, distort, draw_colours, random_view
from dav2.training.guard import Guard
from dav2.training.module import DepthTraining, LossConfig
from dav2.training.recording import Recorder
from dav2.training.run import Precision
from dav2.training.samples import Samples
from dav2.training.steps import OptimiserConfig, StepConfig

_ENCODER_LR, _DECODER_LR, _CLIP_NORM, _AVERAGE_DECAY = 5e-6, 5e-5, 1.0, 0.999
_GRADIENT_WEIGHT, _TRIM_FRACTION = 2.0, 0.1


@dataclass(frozen=True, slots=True)
class Timed:
    """Some steps, the first ones left out."""

    seconds: float
    cpu_seconds: float
    """Of this process with all its threads."""
    waited_s: float
    """In which the device (or, without one, this process) had no batch to work on."""


class Watch:
    """Passes batches on and notes how long whoever takes them waits.

    On a GPU two events around the wait tell how long the device lay idle: while it still works on
    the step before, they come one right after the other.
    """

    def __init__(self, batches: Iterable[Any], *, num_warmup: int, device: str) -> None:
        """Notes nothing yet.

        Args:
            batches: What to pass on; lasts for all steps and no longer.
            num_warmup: Steps that do not count.
            device: Where the steps run.
        """
        self._batches = batches
        self._num_warmup = num_warmup
        self._device = device
        self._waits: list[tuple[Any, Any]] = []
        self._num_steps = 0
        self._start = (0.0, 0.0, 0)

    def __iter__(self) -> Iterator[Any]:
        iterator = iter(self._batches)
        while True:
            before = self._now()
            batch = next(iterator, None)
            self._waits.append((before, self._now()))
            if batch is None:
                return
            yield batch

    def step_done(self) -> None:
        """Counts one step."""
        self._num_steps += 1
        if self._num_steps == self._num_warmup:
            self._wait()
            self._start = (time.perf_counter(), time.process_time(), len(self._waits))

    def result(self) -> Timed:
        """Returns what the steps after the first ones took."""
        self._wait()
        wall, cpu, num_waits = self._start
        taken, used = time.perf_counter() - wall, time.process_time() - cpu
        return Timed(taken, used, sum(self._between(*wait) for wait in self._waits[num_waits:]))

    def _now(self) -> Any:
        if self._device != "cuda":
            return time.perf_counter()
        timer: Any = torch.cuda.Event  # untyped
        event = timer(enable_timing=True)
        event.record()
        return event

    def _between(self, before: Any, after: Any) -> float:
        if self._device != "cuda":
            return float(after - before)
        return float(before.elapsed_time(after)) / 1e3

    def _wait(self) -> None:
        if self._device == "cuda":
            torch.cuda.synchronize()


class _Counter(Callback):
    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._watch.step_done()


class Ours:
    """Our training step, under Lightning as `dav2.training.run` sets it up."""

    def __init__(
        self, model: DepthAnything, *, precision: Precision, aligned: bool, device: str, steps: int
    ) -> None:
        """Takes a model on the CPU.

        Args:
            model: With its initial weights; changed.
            precision: Of activations.
            aligned: Align features with the model's encoder, as students do.
            device: Where to train.
            steps: More than will ever be taken.
        """
        losses = LossConfig(
            "inverse_depth",
            gradient_weight=_GRADIENT_WEIGHT,
            trim_fraction=_TRIM_FRACTION,
            feature_weight=1.0 if aligned else 0.0,
        )
        optimiser = OptimiserConfig(
            steps, _ENCODER_LR, _DECODER_LR, "linear", clip_norm=_CLIP_NORM,
            average_decay=_AVERAGE_DECAY,
        )  # fmt: skip
        self._module = DepthTraining(
            model,
            StepConfig(optimiser=optimiser, seed=0),
            losses=losses,
            frozen_encoder=copy.deepcopy(model.encoder) if aligned else None,
        )
        self._precision = precision
        self._device = device

    def compile(self) -> None:
        """Compiles the model in place, block by block, as a training does."""
        model = self._module.model
        for block in (*model.encoder.blocks, model.head):
            block.compile(dynamic=False)

    def run(self, batches: Iterable[Any], *, num_steps: int, num_warmup: int) -> Timed:
        """Takes steps."""
        watch = Watch(batches, num_warmup=num_warmup, device=self._device)
        rare = 10 * num_steps
        for name in ("lightning.pytorch", "lightning.fabric", "lightning_fabric"):
            for part in ("utilities.rank_zero", "accelerators.cuda"):
                logging.getLogger(f"{name}.{part}").setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer = Trainer(
                max_steps=num_steps,
                max_epochs=-1,
                accelerator=self._device,
                devices=1,
                precision="bf16-mixed" if self._precision == "bfloat16" else "32-true",
                callbacks=[Guard(rare), Recorder(every_steps=rare), _Counter(watch)],
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
                limit_val_batches=0,
            )
            trainer.fit(self._module, train_dataloaders=watch)
        return watch.result()


class PlainBatch(NamedTuple):
    """What PyTorch's own collation makes of `PlainViews`."""

    images: Tensor
    colours: Tensor
    targets: Tensor
    valid: Tensor


class PlainViews(Dataset[PlainBatch]):
    """The same views of the same samples, in a random order that nothing can resume."""

    def __init__(self, samples: Samples, config: AugmentConfig) -> None:
        self._samples = samples
        self._config = config

    def __len__(self) -> int:
        return len(self._samples.sample_ids)

    def __getitem__(self, index: int) -> PlainBatch:
        numbers = np.random.default_rng()
        sample = self._samples.read(index)
        view = random_view(sample, self._config, numbers, crop_px=self._config.crops_px[0])
        arrays = (view.image, draw_colours(self._config, numbers), view.target, view.valid)
        return PlainBatch(*(torch.from_numpy(array) for array in arrays))

    def loader(
        self, *, batch_size: int, num_batches: int, num_workers: int
    ) -> DataLoader[PlainBatch]:
        """Returns batches as most programs have them."""
        order = RandomSampler(self, replacement=True, num_samples=batch_size * num_batches)
        return DataLoader(
            self,
            batch_size,
            sampler=order,
            num_workers=num_workers,
            pin_memory=torch.cuda.is_available(),
        )


class Plain:
    """The same training as anyone would write it: no Lightning, the losses' own functions."""

    def __init__(
        self, model: DepthAnything, *, precision: Precision, aligned: bool, device: str
    ) -> None:
        """Takes a model; arguments as for `Ours`."""
        self._frozen: nn.Module | None = None
        if aligned:
            self._frozen = copy.deepcopy(model.encoder).requires_grad_(False).eval().to(device)
        self._model = model.to(device).train()
        self._averaged = AveragedModel(
            self._model,
            multi_avg_fn=get_ema_multi_avg_fn(_AVERAGE_DECAY),  # type: ignore[no-untyped-call]
        )
        self._optimiser = AdamW(
            [
                {"params": list(model.encoder.parameters()), "lr": _ENCODER_LR},
                {"params": list(model.head.parameters()), "lr": _DECODER_LR},
            ],
            weight_decay=0.01,
        )
        self._forward = model.forward_with_features
        self._autocast = precision == "bfloat16"
        self._device = device

    def compile(self) -> None:
        """Compiles the model as a whole."""
        self._forward = torch.compile(self._forward, dynamic=False)

    def run(self, batches: Iterable[PlainBatch], *, num_warmup: int) -> Timed:
        """Takes a step for each batch."""
        watch = Watch(batches, num_warmup=num_warmup, device=self._device)
        for batch in watch:
            images, colours, targets, valid = (
                tensor.to(self._device, non_blocking=True) for tensor in batch
            )
            inputs = normalise(distort(images, colours, max_sigma_px=0.0))
            with torch.autocast(self._device, torch.bfloat16, enabled=self._autocast):
                pred, tokens = self._forward(inputs)
                frozen = self._aligned_with(inputs)
            loss: Any = scale_shift_invariant_loss(
                pred.float(), targets, valid, trim_fraction=_TRIM_FRACTION
            )
            loss = loss + _GRADIENT_WEIGHT * gradient_matching_loss(pred.float(), targets, valid)
            if frozen is not None:
                alike = torch.cosine_similarity(tokens.float(), frozen.float(), dim=-1)
                loss = loss + (1 - alike).where(alike < 0.85, 0).mean()
            self._optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self._model.parameters(), _CLIP_NORM)
            self._optimiser.step()
            self._averaged.update_parameters(self._model)
            watch.step_done()
        return watch.result()

    def _aligned_with(self, inputs: Tensor) -> Tensor | None:
        if self._frozen is None:
            return None
        with torch.no_grad():
            last: Tensor = self._frozen(inputs)[-1]
        return last


def step_flops(encoder: EncoderName, crop_px: tuple[int, int], *, aligned: bool) -> dict[str, int]:
    """Returns the floating-point operations of one sample, counted: 2 for a multiply-add.

    Forward and backward of the model; for feature alignment also the forward of the frozen encoder.
    What is computed again to save memory does not count, nor do losses, optimiser and average.
    """
    counted: dict[str, int] = {}
    with torch.device("meta"):
        model: Any = DepthAnything(ModelConfig(encoder))
    # Tensors without memory; attention as plain products, as the fused one's backward repeats some.
    with FakeTensorMode(), sdpa_kernel(SDPBackend.MATH):
        model._apply(lambda tensor: torch.empty(tensor.shape))
        images = torch.empty(1, 3, *crop_px)
        with FlopCounterMode(display=False) as counter:
            result = model(images)
        counted["forward"] = counter.get_total_flops()
        with FlopCounterMode(display=False) as counter:
            result.sum().backward()
        counted["backward"] = counter.get_total_flops()
        if aligned:
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                model.encoder(images)
            counted["frozen encoder"] = counter.get_total_flops()
    return counted


def on_device(batch: Any, device: str) -> Any:
    """Returns a batch whose tensors lie on a device."""
    moved: Mapping[str, Any] = {
        name: value.to(device) if isinstance(value, Tensor) else value
        for name, value in batch._asdict().items()
    }
    return batch._replace(**moved)
