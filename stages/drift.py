"""Tells whether the images that a server is asked about still look like those of the training.

Of both it knows the shares of bins alone: memory stays bounded, and no image is kept.
"""

import json
import logging
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from jaxtyping import Float64
from pydantic import Field, PositiveInt

from dav2.data.images import EncodedImage
from dav2.data.manifest import read_manifest
from dav2.data.measurement import statistics_side_px
from dav2.data.statistics import image_statistics
from stages.params import Params

MEASURED = ("brightness", "contrast", "sharpness", "short_side_px", "aspect")
"""As the manifest's columns; the last two from width and height, aspect being width over height."""
EVENT, RESOURCE = "dav2.rebuild-wanted", "dav2.pipeline"
"""What `flows.watch` emits too, and prefect.yaml starts a rebuild upon."""

_QUANTILES = np.linspace(0, 1, 21)
_CHANCE = 1.95  # of Kolmogorov-Smirnov's distance, exceeded once in a thousand windows
_WAITING = 4  # images; more are not looked at, so that a busy server waits for nothing
_EMIT_LIMIT_S = 60.0

logger = logging.getLogger(__name__)


class DriftParams(Params):
    """When images have drifted; mlflow/serving.yaml explains each."""

    window: PositiveInt
    max_drift: Annotated[float, Field(ge=0, le=1)]


class Reference:
    """How the statistics of some images are distributed, in bins that it chose itself."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        """Takes what `as_json` has given.

        Raises:
            ValueError: If it is not.
        """
        try:
            self.num_images = int(content["num_images"])
            self._edges = {name: np.array(content["edges"][name], float) for name in MEASURED}
            self._shares = {name: np.array(content["shares"][name], float) for name in MEASURED}
        except (KeyError, TypeError, ValueError):
            raise ValueError(
                f"reference of images: expected edges and shares of {', '.join(MEASURED)}, "
                f"got {str(content)[:80]}"
            ) from None

    @classmethod
    def of_manifest(cls, path: Path) -> "Reference":
        """Returns that of the good images of a manifest.

        Raises:
            ValueError: If it lists none whose statistics are known.
        """
        rows = read_manifest(path)
        rows = rows[rows["reason"].isna()]
        sides = rows[["height", "width"]].astype(float)
        known = rows.assign(
            short_side_px=sides.min(axis=1), aspect=sides["width"] / sides["height"]
        )[list(MEASURED)].dropna()
        if known.empty:
            raise ValueError(f"{path}: expected images with statistics, got none")
        values = {name: known[name].to_numpy(float) for name in MEASURED}
        edges = {name: np.unique(np.quantile(of, _QUANTILES)) for name, of in values.items()}
        shares = {
            name: np.bincount(_bins(edges[name], of), minlength=2 * len(edges[name]) + 1) / len(of)
            for name, of in values.items()
        }
        return cls({"num_images": len(known), "edges": edges, "shares": shares})

    def as_json(self) -> str:
        """Returns what `__init__` takes."""
        content = {
            "num_images": self.num_images,
            "edges": {name: of.tolist() for name, of in self._edges.items()},
            "shares": {name: of.tolist() for name, of in self._shares.items()},
        }
        return json.dumps(content, indent=1) + "\n"

    def empty(self) -> dict[str, Float64[np.ndarray, "bins"]]:
        """Returns counts of no image, for `add`."""
        return {name: np.zeros_like(of) for name, of in self._shares.items()}

    def add(
        self, counts: Mapping[str, Float64[np.ndarray, "bins"]], measured: Mapping[str, float]
    ) -> None:
        """Counts one image."""
        for name, edges in self._edges.items():
            counts[name][_bins(edges, np.array([measured[name]]))] += 1

    def drift(self, counts: Mapping[str, Float64[np.ndarray, "bins"]]) -> dict[str, float]:
        """Returns for each statistic how far the counted images are from these, 0 to 1.

        Kolmogorov-Smirnov's distance on the bins (the largest difference of the cumulative
        shares), less what chance gives once in a thousand times, and at least 0.
        """
        found = {}
        for name, shares in self._shares.items():
            num = float(counts[name].sum())
            apart = np.abs(np.cumsum(shares) - np.cumsum(counts[name]) / num).max()
            chance = _CHANCE * (1 / num + 1 / self.num_images) ** 0.5
            found[name] = max(0.0, float(apart) - chance)
        return found


def measure(data: bytes) -> dict[str, float]:
    """Returns the statistics of an image file as ingest would measure them.

    Raises:
        ValueError: If it is no image, or a damaged one.
    """
    encoded = EncodedImage(data)
    header = encoded.header()
    seen = image_statistics(encoded.decode(at_least_px=statistics_side_px(header)))
    return {
        "brightness": seen.brightness,
        "contrast": seen.contrast,
        "sharpness": seen.sharpness,
        "short_side_px": float(min(header.height, header.width)),
        "aspect": header.width / header.height,
    }


class Watched:
    """A model of MLflow whose images are looked at, in a thread, once they have been answered."""

    def __init__(
        self,
        model: Any,
        reference: Reference,
        params: DriftParams,
        say: Callable[[str], bool] | None = None,
    ) -> None:
        """Begins with an empty window.

        Args:
            model: From `mlflow.pyfunc.load_model`.
            reference: Of the images it was trained on.
            params: When they have drifted.
            say: Is told once when a drift begins, and again with the next window if it returns
                False; `want_rebuild` by default.
        """
        self._model = model
        self._reference = reference
        self._params = params
        self._say = say or want_rebuild
        self._was_said = False
        self._num = 0
        self._counts = reference.empty()
        self._waiting: queue.Queue[bytes] = queue.Queue(_WAITING)
        threading.Thread(target=self._look, daemon=True).start()

    def __getattr__(self, name: str) -> Any:
        """Is the model in all else."""
        return getattr(self._model, name)

    def predict(self, data: pd.DataFrame, params: dict[str, Any] | None = None) -> Any:
        """Answers as the model does."""
        answer = self._model.predict(data, params=params)
        for image in data["image"]:
            try:
                self._waiting.put_nowait(bytes(image))
            except queue.Full:
                break
        return answer

    def settle(self) -> None:
        """Waits until all images that wait have been looked at."""
        self._waiting.join()

    def _look(self) -> None:
        while True:
            image = self._waiting.get()
            try:
                self._reference.add(self._counts, measure(image))
                self._num += 1
                if self._num == self._params.window:
                    self._judge()
            except ValueError as error:
                logger.warning("drift: %s", error)
            finally:
                self._waiting.task_done()

    def _judge(self) -> None:
        """Compares a full window and begins the next."""
        found = self._reference.drift(self._counts)
        self._num, self._counts = 0, self._reference.empty()
        limit = self._params.max_drift
        beyond = [f"{name} {value:.2f}" for name, value in found.items() if value > limit]
        logger.info("drift: %s", ", ".join(f"{name} {value:.2f}" for name, value in found.items()))
        if not beyond:
            self._was_said = False
        elif not self._was_said:
            reason = f"serving sees other images: drift of {', '.join(beyond)} above {limit:g}"
            logger.warning("%s", reason)
            self._was_said = self._say(reason)


def want_rebuild(reason: str) -> bool:
    """Emits the event that starts a rebuild; returns False if Prefect does not take it.

    Through Prefect's command line, since stages do not import it. Without PREFECT_API_URL nobody is
    to hear of it, and the warning in the log is all.
    """
    if not os.environ.get("PREFECT_API_URL"):
        return True
    payload = json.dumps({"reason": reason})
    command = [*("prefect", "event", "emit", EVENT), *("--resource-id", RESOURCE)]
    try:
        done = subprocess.run(
            [sys.executable, "-m", *command, "--payload", payload],
            capture_output=True,
            text=True,
            timeout=_EMIT_LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        logger.error("%s: expected Prefect to take it within %g s", EVENT, _EMIT_LIMIT_S)
        return False
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        logger.error("%s: expected Prefect to take it, got %s", EVENT, last)
    return done.returncode == 0


def _bins(edges: Float64[np.ndarray, "edges"], values: Float64[np.ndarray, "N"]) -> Any:
    """Returns the bin of each value: odd ones are edges, even ones what lies between."""
    return np.searchsorted(edges, values, "left") + np.searchsorted(edges, values, "right")
