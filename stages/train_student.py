"""Trains a student on a teacher's labels, or, as control, on synthetic images."""

import copy
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from pydantic import Field

from dav2.models.encoder import EncoderName
from stages.params import load
from stages.program import run
from stages.ranks import is_first_rank
from stages.training import (
    checked_encoder,
    given_checkpoint,
    initial_model,
    labelled_samples,
    pseudo_labels,
    publish,
    train,
)
from stages.training_params import RelativeLossParams, Share, TrainingParams, Weight, fit_config

if TYPE_CHECKING:
    from torch import nn

    from dav2.models.depth_anything import DepthAnything
    from dav2.training.fit import FitConfig
    from dav2.training.samples import Samples

Labels = Literal["pseudo", "synthetic"]

logger = logging.getLogger(__name__)


class StudentLossParams(RelativeLossParams):
    """Terms of a student's training."""

    trim_fraction: Annotated[float, Field(ge=0, lt=1)]
    """Share of the worst pixels of each pseudo-labelled sample that the data term leaves out."""
    feature_weight: Weight
    """Of feature alignment with the encoder it started from; off without `encoder_weights`."""
    feature_tolerance: Share
    """Patches more alike than this (cosine) are left alone."""


class TrainStudentParams(TrainingParams):
    """How students learn: all of them, whatever their labels, so that they compare."""

    encoder_weights: dict[EncoderName, str] | None
    """For each encoder, the checkpoint training starts from; null for random weights."""
    losses: StudentLossParams


def main(encoder: str, labels: str, folder: Path, checkpoint: Path, reports: Path) -> None:
    """Makes a student.

    Students of one encoder share initial weights, steps, batches, views and their order; only what
    they learn from differs, and pseudo-labels alone are trimmed.

    Args:
        encoder: Size of its encoder.
        labels: `pseudo`, or `synthetic` for the control.
        folder: Shards of pseudo-labels, or a folder with a manifest of labelled samples.
        checkpoint: safetensors file to write.
        reports: Folder to write: `curves.csv` and `validation.json`.

    Raises:
        ValueError: If arguments, parameters or samples do not fit, numbers go wrong while training,
            or the student stays below the validation's floor.
    """
    name = checked_encoder(
        "train_student", encoder, labels, what="labels", choices=get_args(Labels)
    )
    params = load("train_student", TrainStudentParams)
    from stages.tracking import tracked

    inputs = {labels: folder}
    weights = given_checkpoint(
        (params.encoder_weights or {}).get(name),
        where=f"train_student.encoder_weights.{name}",
        output=checkpoint,
    )
    with tracked("train_student", params, inputs=inputs, outputs=[checkpoint, reports]) as run:
        data = _data(labels, folder, params.validation.num_samples)
        model, given = initial_model(name, params.seed, weights)
        if weights is None:
            logger.info("no encoder weights are given: random start, no feature alignment")
        config = _config(params, f"student {encoder} {labels}", labels, aligned=weights is not None)
        fitted, mark = train(
            "train_student",
            params,
            model,
            data,
            config=config,
            given={**given, "labels": labels},
            listener=lambda measures, step: run.log_metrics(measures, step=step),
            frozen_encoder=_frozen(model, config),
        )
        metadata = {
            "role": "student",
            "labels": labels,
            "fingerprint": mark,
            "short_side_px": params.short_side_px,
        }
        publish(fitted, checkpoint, reports, held_out=data[1], metadata=metadata)
        run.log_picture("validation.png", fitted.picture)


def _data(labels: str, folder: Path, num_held_out: int) -> "tuple[Samples, Samples, str]":
    if labels == "pseudo":
        return pseudo_labels(folder, num_held_out=num_held_out)
    return labelled_samples(folder / "manifest.parquet", num_held_out=num_held_out)


def _config(params: TrainStudentParams, name: str, labels: str, *, aligned: bool) -> "FitConfig":
    from dav2.training.module import LossConfig

    pseudo = labels == "pseudo"
    losses = params.losses.model_dump()
    if not pseudo:
        losses["trim_fraction"] = 0.0
    if not aligned:
        losses["feature_weight"] = 0.0
    return fit_config(
        params, name=name, losses=LossConfig("inverse_depth", **losses), labelled_by_teacher=pseudo
    )


def _frozen(model: "DepthAnything", config: "FitConfig") -> "nn.Module | None":
    """Returns the encoder as it was before training, where features are aligned with it."""
    return copy.deepcopy(model.encoder) if config.losses.feature_weight > 0 else None


if __name__ == "__main__":
    level = logging.INFO if is_first_rank() else logging.WARNING
    logging.basicConfig(level=level, format="%(name)s: %(message)s")
    run("train_student", main, *sys.argv[1:3], *(Path(argument) for argument in sys.argv[3:]))
