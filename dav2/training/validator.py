"""Validates a model while it trains, keeps the best weights and knows when to stop."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import UInt8
from lightning.pytorch import Callback, LightningModule, Trainer

from dav2.models.depth_anything import DepthAnything
from dav2.training.data import Batch
from dav2.training.module import DepthTraining
from dav2.training.parallel import of_first_rank
from dav2.training.pictures import draw_predictions
from dav2.training.recording import Listener
from dav2.training.validation import (
    FrozenSample,
    ValidationConfig,
    measure_predictions,
    predict_frozen,
)

Viewer = Callable[[UInt8[np.ndarray, "H W 3"], int], None]
"""Takes a picture, and the step it belongs to."""


class Validator(Callback):
    """Validates the averaged weights every so many steps and after the last."""

    def __init__(
        self,
        samples: list[FrozenSample],
        config: ValidationConfig,
        *,
        listener: Listener | None = None,
        viewer: Viewer | None = None,
    ) -> None:
        """Has nothing measured yet.

        Args:
            samples: From `freeze`.
            config: When and how.
            listener: Told the measures of each validation.
            viewer: Shown its picture.
        """
        self.history: list[dict[str, float]] = []
        """The measures of each validation, and the step it followed."""
        self._samples = samples
        self._config = config
        self._listener = listener
        self._viewer = viewer
        self._best: dict[str, Any] = {}

    @property
    def every_steps(self) -> int:
        """Steps between two validations."""
        return self._config.every_steps

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Validates where it is due."""
        assert isinstance(pl_module, DepthTraining)
        if pl_module.is_due(self._config.every_steps, batch_idx):
            self._validate(pl_module, measuring=trainer.is_global_zero)
            if self.has_lost_patience():
                pl_module.has_stopped = trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """Returns history and best weights."""
        return {"history": self.history, "best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what `state_dict` returned."""
        self.history = list(state_dict["history"])
        self._best = dict(state_dict["best"])

    def has_lost_patience(self) -> bool:
        """Returns whether too many validations in a row found no smaller AbsRel."""
        best, waited = float("inf"), 0
        for entry in self.history:
            better = self._badness(entry) < best
            best = self._badness(entry) if better else best
            waited = 0 if better else waited + 1
        return self._config.patience is not None and waited >= self._config.patience

    def final(self, module: DepthTraining) -> tuple[DepthAnything, dict[str, float]]:
        """Returns the model to keep, and its measures with their step."""
        kept = module.whole_average()
        if self._config.keep_best:
            kept.load_state_dict(self._best)
            return kept, min(self.history, key=self._badness)
        return kept, self.history[-1]

    def _validate(self, module: DepthTraining, *, measuring: bool) -> None:
        """Measures on the first rank, for which the others wait: they must stop and keep alike."""
        own: dict[str, float] = {}
        step = module.num_steps_done
        average = module.whole_average()
        if measuring:
            predictions = predict_frozen(average, self._samples, self._config)
            own = measure_predictions(predictions, self._samples, self._config)
            if self._viewer is not None:
                self._viewer(draw_predictions(predictions, self._samples, self._config), step)
        measures: dict[str, float] = of_first_rank(own)
        self.history.append({"step": float(step), **measures})
        if self._config.keep_best and self._is_best():
            weights = average.state_dict()
            self._best = {name: tensor.to("cpu", copy=True) for name, tensor in weights.items()}
        if self._listener is not None:
            self._listener({f"val/{name}": value for name, value in measures.items()}, step)

    def _is_best(self) -> bool:
        *before, last = (self._badness(entry) for entry in self.history)
        return all(last < earlier for earlier in before)

    def _badness(self, entry: dict[str, float]) -> float:
        return entry["abs_rel_inverse" if self._config.max_depth_m is None else "abs_rel"]
