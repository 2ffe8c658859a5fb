"""The teacher on one device, and what becomes of its answers: integers, statistics, bytes.

Axes: B batch, H, W pixels of the label, h, w pixels of the teacher's input.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, UInt8, UInt16
from torch import Tensor, nn
from torch.nn import functional as F

from dav2.data.transforms import normalise
from dav2.labeling.codec import EncodedLabel, max_code, pack
from dav2.labeling.prepare import LabelingOptions, PreparedImage
from dav2.labeling.quality import (
    flip_inconsistency,
    label_statistics,
    scale_inconsistency,
    statistics_on_device,
)
from dav2.models.encoder import PATCH_PX


@dataclass(frozen=True, slots=True)
class Label:
    """What the teacher says of an image, on its way from the device to the shard."""

    codes: UInt16[np.ndarray, "H W"]
    """Of a codec's steps between minimum and maximum."""
    minimum: float
    maximum: float
    statistics: Mapping[str, float | bool]
    """Of `dav2.labeling.quality`; empty where a value is not finite."""
    num_not_finite: int
    answers: Float32[np.ndarray, "C h w"] | None
    """Where the label is checked: the answer it was made of; that to the mirrored image, not
    mirrored back; and, if there is one, that to the image at another resolution."""


@dataclass(frozen=True, slots=True)
class FinishedSample:
    """A sample as bytes, with its part of the index row."""

    sample_id: str
    jpeg: bytes
    label: EncodedLabel
    description: bytes
    row: Mapping[str, Any]


class Labeler:
    """The teacher on one device.

    With `options.compile` its blocks and head are compiled for each shape of a batch that is full;
    smaller batches take the uncompiled ones, so that bytes follow from a shard's batches alone.
    """

    def __init__(
        self, model: nn.Module, options: LabelingOptions, *, device: torch.device, teacher: str
    ) -> None:
        """Moves the model to the device.

        Args:
            model: Images (B 3 H W, normalised) to relative depth (B H W).
            options: The choices that decide a label's bytes.
            device: Where the model runs.
            teacher: Fingerprint of its weights, written beside each label.
        """
        self._model = model.to(device).eval().requires_grad_(False)
        self._options = options
        self._device = device
        self._teacher = teacher
        self._limits = _compile_limits(options)
        if options.compile:
            _compile_parts(self._model)

    def stack(self, images: Sequence[PreparedImage]) -> UInt8[Tensor, "B h w 3"]:
        """Returns images of one size as a batch in host memory from which a GPU copies quickly."""
        batch = torch.from_numpy(np.stack([image.teacher_input for image in images]))
        return batch.pin_memory() if self._device.type == "cuda" else batch

    def answer(self, batch: UInt8[Tensor, "B h w 3"]) -> Float32[Tensor, "B h w"]:
        """Returns the teacher's answer to each image, on the device; any affine scale."""
        options, device = self._options, self._device
        autocast = torch.autocast(
            device.type, dtype=torch.bfloat16, enabled=options.dtype == "bfloat16"
        )
        with torch.inference_mode(), autocast, self._compiled(len(batch)):
            output: Tensor = self._model(normalise(batch.to(device, non_blocking=True)))
        return output.float()

    def label(
        self, images: Sequence[PreparedImage], batch: UInt8[Tensor, "B h w 3"]
    ) -> list[Label]:
        """Returns the label of each image, which leaves the device as 2 bytes a pixel.

        Args:
            images: Of one size.
            batch: As `stack` returns them.
        """
        answers = self.answer(batch)
        checked = [place for place, image in enumerate(images) if image.is_checked]
        mirrored = self.answer(batch[checked].flip(2)) if checked else answers[:0]
        of_checked = {
            place: self._compared(images[place], answers[place], other)
            for place, other in zip(checked, mirrored, strict=True)
        }
        by_size: dict[tuple[int, int], list[int]] = defaultdict(list)
        for place, image in enumerate(images):
            by_size[image.label_size].append(place)
        labels: dict[int, Label] = {}
        for size, places in by_size.items():
            maps = resize_labels(answers[places], size)
            labels |= zip(places, self._quantised(maps, places, of_checked), strict=True)
        return [labels[place] for place in range(len(images))]

    def finish(self, image: PreparedImage, label: Label) -> FinishedSample:
        """Describes and packs a label.

        Args:
            image: What was labelled.
            label: As `label` returns it.

        Raises:
            ValueError: If the teacher gave values that are not finite.
        """
        if label.num_not_finite:
            raise ValueError(
                f"label: expected finite values, got {label.num_not_finite} that are not"
            )
        input_height, input_width = image.teacher_input.shape[:2]
        checks = {} if label.answers is None else _inconsistencies(label.answers)
        description = {
            "sample_id": image.sample_id,
            "source": image.source,
            "codec": self._options.codec,
            "min": label.minimum,
            "max": label.maximum,
            "teacher": self._teacher,
            "input_height": input_height,
            "input_width": input_width,
        }
        row = {
            "sample_id": image.sample_id,
            "source": image.source,
            "image_height": image.jpeg_size[0],
            "image_width": image.jpeg_size[1],
            "height": image.label_size[0],
            "width": image.label_size[1],
            "flip_inconsistency": checks.get("flip_inconsistency"),
            "scale_inconsistency": checks.get("scale_inconsistency"),
        }
        data = pack(label.codes, self._options.codec)
        return FinishedSample(
            sample_id=image.sample_id,
            jpeg=image.jpeg,
            label=EncodedLabel(data, label.minimum, label.maximum, self._options.codec),
            description=json.dumps(description, sort_keys=True, allow_nan=False).encode(),
            row={**row, **label.statistics},
        )

    def _compiled(self, num_images: int) -> AbstractContextManager[object]:
        """Says how a batch passes through the teacher's parts."""
        if not self._options.compile:
            return nullcontext()
        chosen: AbstractContextManager[object]
        if num_images == self._options.batch_size:
            chosen = torch._dynamo.config.patch(self._limits)  # of this thread alone
        else:
            chosen = torch.compiler.set_stance("force_eager")
        return chosen

    def _compared(
        self,
        image: PreparedImage,
        answer: Float32[Tensor, "h w"],
        mirrored: Float32[Tensor, "h w"],
    ) -> Float32[np.ndarray, "C h w"]:
        answers = [answer, mirrored]
        if image.rescaled_input is not None:
            other = self.answer(torch.from_numpy(image.rescaled_input)[None])
            answers.append(resize_labels(other, (answer.shape[0], answer.shape[1]))[0])
        return np.asarray(torch.stack(answers).cpu().numpy())

    def _quantised(
        self,
        maps: Float32[Tensor, "B H W"],
        places: Sequence[int],
        of_checked: Mapping[int, Float32[np.ndarray, "C h w"]],
    ) -> list[Label]:
        codes, minima, maxima = quantise(maps, max_code(self._options.codec))
        num_not_finite = (~maps.isfinite()).sum((1, 2)).tolist()
        if self._device.type == "cpu":  # the maps are on the host already
            statistics = [
                {} if num_bad else label_statistics(values)
                for values, num_bad in zip(maps.numpy(), num_not_finite, strict=True)
            ]
        else:
            statistics = statistics_on_device(maps)
        return [
            Label(one, low, high, described, num_bad, of_checked.get(place))
            for one, low, high, described, num_bad, place in zip(
                codes.cpu().numpy(),
                minima.tolist(),
                maxima.tolist(),
                statistics,
                num_not_finite,
                places,
                strict=True,
            )
        ]


def quantise(
    maps: Float32[Tensor, "B H W"], largest: int
) -> tuple[UInt16[Tensor, "B H W"], Float64[Tensor, " B"], Float64[Tensor, " B"]]:
    """Returns codes, minima and maxima of labels, where they are: those of `encode_label`.

    Args:
        maps: Labels; what is not finite makes a map's codes meaningless.
        largest: Code of a maximum.
    """
    values = maps.double()
    minima, maxima = values.amin((1, 2)), values.amax((1, 2))
    span = maxima - minima
    scale = torch.where(span > 0, largest / span, 0.0)
    codes = ((values - minima[:, None, None]) * scale[:, None, None]).round()
    return codes.to(torch.uint16), minima, maxima


def resize_labels(
    maps: Float32[Tensor, "B h w"], size: tuple[int, int]
) -> Float32[Tensor, "B H W"]:
    """Resamples bilinearly with aligned corners, as the authors bring predictions to an image.

    Args:
        maps: On the grid of the teacher's input.
        size: Height and width to bring them to, pixels; those they have leave them as they are.
    """
    if maps.shape[1:] == size:
        return maps
    return F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=True)[:, 0]


def _compile_limits(options: LabelingOptions) -> dict[str, int]:
    """Returns limits of PyTorch that allow as many graphs as there can be shapes.

    Beyond them it would go on uncompiled, and bytes would depend on what a worker has seen before.
    """
    scales = 1 + (options.check_scale or 0)
    longest = options.max_aspect_ratio * options.short_side_px / PATCH_PX
    num_shapes = 2 * ceil(scales * (longest + 1))  # upright and lying
    return {"recompile_limit": num_shapes, "accumulated_recompile_limit": 2 * num_shapes}


def _compile_parts(model: Any) -> None:
    # Block by block, as in training: equal blocks share one graph. `deterministic`: no kernel is
    # chosen by a race, which could end otherwise in another worker.
    for part in (*model.encoder.blocks, model.head):
        part.compile(dynamic=False, options={"deterministic": True})


def _inconsistencies(answers: Float32[np.ndarray, "C h w"]) -> dict[str, float | None]:
    found = {"flip_inconsistency": flip_inconsistency(answers[0], answers[1])}
    if len(answers) > 2:
        found["scale_inconsistency"] = scale_inconsistency(answers[0], answers[2])
    return found
