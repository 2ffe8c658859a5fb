"""What a training says of itself: curves, and an end with a reason when numbers go wrong."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from dav2.training.data import Batch
from dav2.training.module import DepthTraining

Listener = Callable[[Mapping[str, float], int], None]
"""Takes numbers by name, and the step they belong to."""

_NUM_NAMED = 5


class Recorder(Callback):
    """Averages the terms of the loss over some steps into one row, and stops at the first NaN.

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
        self._finite: list[tuple[int, list[str], Tensor]] = []
        self._rates: dict[str, float] = {}

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Notes the rates of the step."""
        assert isinstance(pl_module, DepthTraining)
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
        assert isinstance(pl_module, DepthTraining)
        step = pl_module.num_steps_done
        terms = {name: value for name, value in outputs.items() if name != "finite"}
        for name, value in terms.items():
            self._pending.setdefault(name, []).append(value.detach())
        finite = outputs["finite"] & outputs["loss"].detach().isfinite()
        self._finite.append((step, batch.sample_ids, torch.stack([finite, outputs["finite"]])))
        if pl_module.is_due(self._every_steps, batch_idx):
            self.check()
            means = {
                name: float(torch.stack(values).mean()) for name, values in self._pending.items()
            }
            self._pending.clear()
            row = {"step": float(step), **means, **self._rates}
            self.rows.append(row)
            if self._listener is not None:
                self._listener({k: v for k, v in row.items() if k != "step"}, step)

    def check(self) -> None:
        """Looks at the steps since the last row.

        Raises:
            ValueError: If one gave a loss or a prediction that is not finite; names the samples.
        """
        for step, names, (finite, own) in self._finite:
            if not bool(finite.all()):
                guilty = own if not bool(own.all()) else finite
                bad = [name for name, fine in zip(names, guilty.tolist(), strict=True) if not fine]
                listed = ", ".join(bad[:_NUM_NAMED]) + (", ..." if len(bad) > _NUM_NAMED else "")
                raise ValueError(
                    f"training step {step}: expected finite numbers, got NaN or infinity from "
                    f"{listed}"
                )
        self._finite.clear()

    def state_dict(self) -> dict[str, Any]:
        """Returns rows and the steps not yet in one."""
        pending = {name: torch.stack(values) for name, values in self._pending.items()}
        return {"rows": self.rows, "pending": pending}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what `state_dict` returned."""
        self.rows = list(state_dict["rows"])
        self._pending = {name: list(values) for name, values in state_dict["pending"].items()}
