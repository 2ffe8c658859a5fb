"""Keeps the state of a training, so that it can be killed at any moment and go on."""

import pickle
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from dav2.data.files import written_whole
from dav2.training.data import Batch
from dav2.training.parallel import of_all_ranks
from dav2.training.sharding import share_of_state, whole_state
from dav2.training.steps import Training

PROGRESS = "progress.pt"
"""Name of the file in the folder of a training's unfinished work."""


_KEYS = {"step", "module", "optimiser", "callbacks"}


class Checkpointer(Callback):
    """Writes everything that decides the rest of a training to one file, whole, now and then.

    That is: weights, their average, the optimiser, the number of steps, and what other callbacks
    remember. Order of samples, views, schedule and random numbers follow from seed and step alone.
    """

    def __init__(
        self,
        folder: Path,
        others: Mapping[str, Callback],
        *,
        every_steps: int,
        writes: bool = True,
    ) -> None:
        """Writes nothing yet.

        Args:
            folder: Folder of the unfinished work.
            others: Callbacks whose state belongs to the training, by name; they come before this
                one in the trainer's list.
            every_steps: Steps between two states; the last is always written.
            writes: Whether this is the first rank, which alone changes the folder.
        """
        self._path = folder / PROGRESS
        self._others = others
        self._every_steps = every_steps
        for torn in folder.glob(f".{PROGRESS}.*.part") if writes else ():
            shutil.rmtree(torn)  # what a kill interrupted
        self._found = load_progress(self._path)

    @property
    def first_step(self) -> int:
        """Steps that were done when the training was last interrupted."""
        return int(self._found["step"]) if self._found else 0

    def restore(self, module: Training[Any]) -> None:
        """Gives weights and the other callbacks their state back, before the trainer starts.

        Raises:
            ValueError: If the state is that of another model.
        """
        if self._found:
            try:
                module.load_state_dict(self._found["module"])
            except RuntimeError as error:
                reason = " ".join(str(error).split())[:200]
                raise ValueError(
                    f"{self._path}: expected the state of this model, got one of another: {reason}"
                ) from None
            module.num_steps_done = self.first_step
            for name, callback in self._others.items():
                callback.load_state_dict(self._found["callbacks"][name])

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gives the optimiser its state back; its rates are the schedule's, not the file's.

        Raises:
            ValueError: If ranks found different progress.
        """
        steps = of_all_ranks(self.first_step)
        if len(set(steps)) > 1:
            raise ValueError(
                f"{self._path}: expected one file for all ranks, on a disk that they share, got "
                f"steps {', '.join(map(str, steps))}"
            )
        if self._found:
            (optimiser,) = trainer.optimizers
            fresh = [dict(group) for group in optimiser.param_groups]
            optimiser.load_state_dict(share_of_state(self._found["optimiser"], optimiser))
            for group, own in zip(optimiser.param_groups, fresh, strict=True):
                group.update({name: own[name] for name in ("lr", "initial_lr")})

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Writes where it is due.

        Raises:
            OSError: If it cannot be written, as on a full disk.
        """
        assert isinstance(pl_module, Training)
        if not pl_module.is_due(self._every_steps, batch_idx):
            return
        is_kept = trainer.is_global_zero
        state = {
            "step": pl_module.num_steps_done,
            "module": whole_state(pl_module.state_dict(), is_kept=is_kept),
            "optimiser": whole_state(trainer.optimizers[0].state_dict(), is_kept=is_kept),
            "callbacks": {name: other.state_dict() for name, other in self._others.items()},
        }
        if is_kept:
            self._write(state)

    def _write(self, state: Mapping[str, Any]) -> None:
        try:
            with written_whole(self._path) as written:
                torch.save(state, written)
        except (RuntimeError, OSError) as error:  # PyTorch's writer knows no OSError
            reason = str(error).partition("\n")[0].rpartition("] . ")[2]
            raise OSError(
                f"{self._path}: expected to write the state of a training, got {reason} (is the "
                "disk full?); the state before it is kept"
            ) from error


def load_progress(path: Path) -> dict[str, Any]:
    """Returns the state of an interrupted training, or nothing where there is none.

    Raises:
        ValueError: If the file is damaged, or no state of a training.
    """
    if not path.is_file():
        return {}
    if not zipfile.is_zipfile(path):  # PyTorch would take it for a pickle, and advise to trust it
        raise ValueError(
            f"{path}: expected the state of a training, got another kind of file, or half of one"
        )
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path}: expected the state of a training, got a damaged one") from error
    if not isinstance(state, dict) or not state.keys() >= _KEYS:
        raise ValueError(f"{path}: expected the state of a training, got another kind of file")
    return state
