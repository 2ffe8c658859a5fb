"""Takes images and videos through a model and writes what comes out.

Axes: H height, W width (pixels).
"""

import logging
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from tqdm import tqdm

from dav2.data.images import decode_image
from dav2.data.preparation import Preparation, prepared_size
from dav2.models.depth_anything import DepthAnything
from dav2.predict import predict
from dav2.prediction.ahead import read_ahead
from dav2.prediction.batches import Planned, plan_batches
from dav2.prediction.formats import Prediction, write
from dav2.prediction.options import Options
from dav2.prediction.points import find_focal
from dav2.prediction.sources import Source
from dav2.prediction.tiles import predict_tiled

_MAX_ASPECT = 16  # an image of 1 x 20000 would become one of 518 x 10 million
_MAX_WRITERS = 4

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """An image that was read, or why it was not."""

    planned: Planned
    image: UInt8[np.ndarray, "H W 3"] | None
    problem: str = ""


class Run:
    """Predicts sources; a failed one is logged in one line and counted, the others go on."""

    def __init__(
        self,
        model: DepthAnything,
        options: Options,
        *,
        short_side_px: int,
        preparation: Preparation,
    ) -> None:
        """Takes a model as `dav2.models.inference.prepare` leaves it."""
        self._model = model
        self._options = options
        self._short_side_px = short_side_px
        self._preparation: Preparation = preparation
        self._is_metric = model.config.max_depth_m is not None
        self.entries: dict[str, Any] = {}
        """What stands in predictions.json, of what is written."""
        self.num_failed = 0

    def predict_images(self, sources: Sequence[Source], progress: "tqdm[Any]") -> None:
        """Predicts images in batches; one is read and one written while one is computed."""
        batches = plan_batches(
            sources,
            short_side_px=self._short_side_px,
            preparation=self._preparation,
            batch_size=self._options.batch_size,
        )
        writing: list[tuple[_Read, Future[None]]] = []
        num_writers = min(_MAX_WRITERS, os.cpu_count() or 1)
        with ThreadPoolExecutor(num_writers, thread_name_prefix="write") as writers:
            for batch in read_ahead(_read(batch) for batch in batches):
                good = []
                for item in batch:
                    if item.image is None:
                        self._fail(item.planned.source, item.problem)
                    else:
                        good.append(item)
                maps = self._maps_of(good)
                self._finish(writing, progress)
                writing = [
                    (item, writers.submit(self._write, item, values))
                    for item, values in zip(good, maps, strict=True)
                ]
                progress.update(len(batch) - len(good))
            self._finish(writing, progress)

    def predict_videos(self, sources: Sequence[Source], progress: "tqdm[Any]") -> None:
        """Predicts videos, one after the other."""
        if not sources:
            return
        from dav2.prediction.video import VideoOptions, predict_video

        options = VideoOptions(
            predict=self._predict,
            formats=self._options.formats,
            is_metric=self._is_metric,
            batch_size=self._options.batch_size,
            focal_of=partial(find_focal, given_px=self._options.focal_px),
            size_of=self._size_of,
        )
        for source in sources:
            with tqdm(desc=source.path.name, unit="frame", leave=False, disable=None) as frames:
                try:
                    entry, problem = predict_video(
                        source.path,
                        self._options.out / source.name,
                        options,
                        advance=partial(_advance, frames),
                    )
                except (ValueError, OSError, MemoryError, RuntimeError) as error:
                    if isinstance(error, RuntimeError) and not _lacks_memory(error):
                        raise
                    self._fail(source, _reason(error))
                else:
                    self.entries[source.label] = entry
                    if problem:
                        self._fail(source, f"{problem}; {entry['frames']} frames are done")
            progress.update()

    def _maps_of(self, items: Sequence[_Read]) -> list[Float32[np.ndarray, "_H _W"] | None]:
        """Returns the map of each; None for all if the device's memory does not hold them."""
        try:
            return list(self._predict([item.image for item in items if item.image is not None]))
        except (MemoryError, RuntimeError) as error:
            if not _lacks_memory(error):
                raise
            for item in items:
                self._fail(item.planned.source, _reason(error))
            return [None] * len(items)

    def _predict(
        self, images: Sequence[UInt8[np.ndarray, "_H _W 3"]]
    ) -> list[Float32[np.ndarray, "_H _W"]]:
        if self._options.tile:
            return [
                predict_tiled(
                    self._model,
                    image,
                    short_side_px=self._short_side_px,
                    preparation=self._preparation,
                    batch_size=self._options.batch_size,
                )
                for image in images
            ]
        return predict(
            self._model,
            images,
            short_side_px=self._short_side_px,
            preparation=self._preparation,
            batch_size=self._options.batch_size,
        )

    def _write(self, item: _Read, values: Float32[np.ndarray, "H W"] | None) -> None:
        if values is None or item.image is None:
            return
        source, header = item.planned.source, item.planned.header
        focal = find_focal(
            values.shape, given_px=self._options.focal_px, focal_35mm=header.focal_35mm
        )
        prediction = Prediction(item.image, values, self._is_metric, focal)
        entry = write(prediction, self._options.out / source.name, self._options.formats)
        # Here, not where it is waited for: an interruption may come between.
        self.entries[source.label] = entry | self._size_of(values.shape)

    def _size_of(self, size: tuple[int, int]) -> dict[str, Any]:
        seen = prepared_size(
            *size, short_side_px=self._short_side_px, preparation=self._preparation
        )
        tiled = self._options.tile and max(size) > min(seen)
        entry = {"input_size": list(seen), "preparation": self._preparation}
        return entry | ({"tile_px": min(seen)} if tiled else {})

    def _finish(self, writing: Sequence[tuple[_Read, Future[None]]], progress: "tqdm[Any]") -> None:
        for item, written in writing:
            try:
                written.result()
            except (ValueError, OSError) as error:
                self._fail(item.planned.source, _reason(error))
            progress.update()

    def _fail(self, source: Source, problem: str) -> None:
        self.num_failed += 1
        where = "" if problem.startswith(str(source.path)) else f"{source.path}: "
        _log.error("%s%s", where, problem)


def _read(batch: Sequence[Planned]) -> list[_Read]:
    return [_read_one(planned) for planned in batch]


def _read_one(planned: Planned) -> _Read:
    path: Path = planned.source.path
    try:
        image = decode_image(path)
    except (ValueError, OSError) as error:
        return _Read(planned, None, str(error))
    height, width = image.shape[:2]
    if max(height, width) > _MAX_ASPECT * min(height, width):
        return _Read(
            planned, None, f"expected sides of at most {_MAX_ASPECT}:1, got {width} x {height}"
        )
    return _Read(planned, image)


def _advance(progress: "tqdm[Any]") -> None:
    progress.update()


def _reason(error: Exception) -> str:
    if _lacks_memory(error):
        return (
            "expected memory for the model, got too little on the device "
            "(a smaller --batch-size or --input-size needs less)"
        )
    return str(error)


def _lacks_memory(error: Exception) -> bool:
    # On a CPU torch has no type of its own for it.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        "DefaultCPUAllocator" in str(error)
    )
