"""What a training says of itself: its curves."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from dav2.training.data import Batch
from dav2.training.parallel import sum_over_ranks
from dav2.training.steps import Training

Listener = Callable[[Mapping[str, float], int], None]
"""Takes numbers by name, and the step they belong to."""


class Recorder(Callback):
    """Averages the terms of the loss over some steps into one row.

    Numbers stay on the device until a row is due, so that a step waits for nothing.
    """

    def __init__(self, *, every_steps: int, listener: Listener | None = None) -> None:
        """Starts with no row.

        Args:
            every_steps: Steps of one row.
            listener: Told each row.
        """
        self.rows: list[dict[str, float]] = []
        """One a period: step (the last one), loss, its terms, degenerate images a step, rates."""
        self._every_steps = every_steps
        self._listener = listener
        self._pending: dict[str, list[Tensor]] = {}
        self._rates: dict[str, float] = {}

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Notes the rates of the step."""
        assert isinstance(pl_module, Training)
        self._rates = pl_module.rates()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Gathers the step; writes a row when one is due."""
        assert isinstance(pl_module, Training)
        step = pl_module.num_steps_done
        # Lightning has divided the loss of each part of an accumulated batch, for its gradients.
        whole = {**outputs, "loss": outputs["loss"] * trainer.accumulate_grad_batches}
        for name, value in _over_ranks(whole, trainer.world_size).items():
            self._pending.setdefault(name, []).append(value)
        if pl_module.is_due(self._every_steps, batch_idx):
            means = {
                name: float(torch.stack(values).mean()) for name, values in self._pending.items()
            }
            self._pending.clear()
            row = {"step": float(step), **means, **self._rates}
            self.rows.append(row)
            if self._listener is not None:
                self._listener({k: v for k, v in row.items() if k != "step"}, step)

    def state_dict(self) -> dict[str, Any]:
        """Returns rows and the steps not yet in one."""
        pending = {name: torch.stack(values) for name, values in self._pending.items()}
        return {"rows": self.rows, "pending": pending}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what `state_dict` returned."""
        self.rows = list(state_dict["rows"])
        self._pending = {name: list(values) for name, values in state_dict["pending"].items()}


def _over_ranks(outputs: Mapping[str, Tensor], num_ranks: int) -> dict[str, Tensor]:
    """Returns loss and terms as means over ranks, and the number of degenerate images of all."""
    values = {name: value.detach() for name, value in outputs.items() if name != "finite"}
    if num_ranks == 1:
        return values
    totals = sum_over_ranks(torch.stack([value.float() for value in values.values()]))
    return {
        name: total if name == "degenerate" else total / num_ranks
        for name, total in zip(values, totals, strict=True)
    }
