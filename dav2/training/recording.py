"""What a training says of itself: curves, and an end with a reason when numbers go wrong."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from dav2.training.data import Batch
from dav2.training.parallel import of_all_ranks, sum_over_ranks
from dav2.training.steps import Training

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
            ValueError: If one gave a loss or a prediction that is not finite on any rank; names the
                samples.
        """
        found = [wrong for wrong in of_all_ranks(self._first_wrong()) if wrong is not None]
        if found:
            first = min(step for step, _ in found)
            bad = [name for step, names in found if step == first for name in names]
            listed = ", ".join(bad[:_NUM_NAMED]) + (", ..." if len(bad) > _NUM_NAMED else "")
            raise ValueError(
                f"training step {first}: expected finite numbers, got NaN or infinity from {listed}"
            )
        self._finite.clear()

    def _first_wrong(self) -> tuple[int, list[str]] | None:
        """Returns the first step of this rank that gave no finite numbers, and its samples."""
        for step, names, (finite, own) in self._finite:
            if not bool(finite.all()):
                guilty = own if not bool(own.all()) else finite
                marked = zip(names, guilty.tolist(), strict=True)
                return step, [name for name, fine in marked if not fine]
        return None

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
