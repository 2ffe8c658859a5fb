"""Ends a training, with a reason, when its numbers go wrong."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from dav2.training.data import Batch
from dav2.training.parallel import of_all_ranks
from dav2.training.steps import Training

_NUM_NAMED = 5


@dataclass(frozen=True, slots=True)
class _Noted:
    """What is known of one batch; on the device."""

    step: int
    sample_ids: list[str]
    own: Bool[Tensor, " B"]
    """Whether a sample's own numbers are finite."""
    loss: Bool[Tensor, ""]
    gradients: Bool[Tensor, ""]
    """Of the step that the batch completes; True where it completes none."""


class _Fault(NamedTuple):
    """Numbers that are not finite; the least is the first, and tells most of whose they are."""

    step: int
    doubt: int
    """0: numbers of these samples are not finite; 1: the loss of all of them; 2: the gradients."""
    sample_ids: list[str]


class Guard(Callback):
    """Stops a training at the first NaN or infinity, before its weights are used for anything.

    What a step gave stays on the device until something is due, so that no step waits. Weights and
    optimiser need no look of their own: AdamW leaves them finite while the norm of the gradients
    is.
    """

    def __init__(self, *every_steps: int) -> None:
        """Has seen nothing yet.

        Args:
            every_steps: Periods of whatever uses what training gave; it comes after this one in
                the trainer's list.
        """
        self._every_steps = every_steps
        self._noted: list[_Noted] = []

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Notes the batch; looks at all that was noted where something is due.

        Raises:
            ValueError: If a loss, a prediction, a target or the norm of a step's gradients is not
                finite on any rank; names step and samples.
        """
        assert isinstance(pl_module, Training)
        loss = outputs["loss"].detach().isfinite()
        is_complete = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        step = pl_module.num_steps_done + (not is_complete)
        gradients = pl_module.finite_gradients if is_complete else torch.ones_like(loss)
        self._noted.append(_Noted(step, batch.sample_ids, outputs["finite"], loss, gradients))
        if any(pl_module.is_due(period, batch_idx) for period in self._every_steps):
            self._check()

    def _check(self) -> None:
        faults = [fault for fault in of_all_ranks(self._first_fault()) if fault is not None]
        if faults:
            step, doubt, _ = min(faults)
            bad = [name for fault in faults if fault[:2] == (step, doubt) for name in fault[2]]
            listed = ", ".join(bad[:_NUM_NAMED]) + (", ..." if len(bad) > _NUM_NAMED else "")
            what = "gradients" if doubt == 2 else "numbers"
            raise ValueError(
                f"training step {step}: expected finite {what}, got NaN or infinity from {listed}"
            )
        self._noted.clear()

    def _first_fault(self) -> _Fault | None:
        """Returns what went wrong first on this rank; waits once for the device if nothing did."""
        marks = [torch.cat([one.own, one.loss[None], one.gradients[None]]) for one in self._noted]
        if not marks or bool(torch.cat(marks).all()):
            return None
        for batch, found in zip(self._noted, marks, strict=True):
            *own, loss, gradients = found.tolist()
            names = batch.sample_ids
            if not all(own):
                bad = [name for name, fine in zip(names, own, strict=True) if not fine]
                return _Fault(batch.step, 0, bad)
            if not loss:
                return _Fault(batch.step, 1, names)
            if not gradients:
                parts = [one.sample_ids for one in self._noted if one.step == batch.step]
                return _Fault(batch.step, 2, [name for part in parts for name in part])
        return None
