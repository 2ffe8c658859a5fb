"""One line that a person can read while a model trains."""

import sys
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from tqdm import tqdm

from dav2.training.data import Batch
from dav2.training.recording import Recorder
from dav2.training.steps import Training
from dav2.training.validator import Validator


class ProgressLine(Callback):
    """Shows samples done, samples a second, time left, the last loss and the last validation.

    On a terminal it moves twice a second; in a log it adds a line every ten seconds at most.
    """

    def __init__(
        self,
        name: str,
        *,
        num_steps: int,
        batch_size: int,
        recorder: Recorder,
        validator: Validator | None,
    ) -> None:
        """Shows nothing yet.

        Args:
            name: What is trained.
            num_steps: Steps of the whole training.
            batch_size: Samples of one step, over all processes.
            recorder: Knows the last loss.
            validator: Knows the last validation, if there are any.
        """
        self._name = name
        self._num_steps = num_steps
        self._batch_size = batch_size
        self._recorder = recorder
        self._validator = validator
        self._bar: tqdm[Any] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the line, where the training goes on from."""
        assert isinstance(pl_module, Training)
        terminal = sys.stderr.isatty()
        self._bar = tqdm(
            desc=self._name,
            total=self._num_steps * self._batch_size,
            initial=pl_module.num_steps_done * self._batch_size,
            unit=" samples",
            mininterval=0.5 if terminal else 10.0,
            dynamic_ncols=terminal,
            disable=not trainer.is_global_zero,
        )

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Moves the line."""
        assert isinstance(pl_module, Training)
        if self._bar is not None and pl_module.is_due(1, batch_idx):
            shown = {}
            if self._recorder.rows:
                shown["loss"] = f"{self._recorder.rows[-1]['loss']:.3f}"
            if self._validator is not None and self._validator.history:
                shown["val delta1"] = f"{self._validator.history[-1]['delta1']:.3f}"
            self._bar.set_postfix(shown, refresh=False)
            self._bar.update(self._batch_size)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leaves the last state of the line."""
        self._close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Leaves the line as it is, so that the error starts on its own."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
