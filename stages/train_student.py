"""Trains a student on a teacher's labels, or, as control, on synthetic images, or on both."""

import copy
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from pydantic import Field, PositiveFloat, PositiveInt

from dav2.models.encoder import EncoderName
from stages.fingerprint import fingerprint
from stages.params import Params, load
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
from stages.training_params import (
    LabelNoise,
    RelativeLossParams,
    RunningParams,
    Share,
    TrainingParams,
    Weight,
    fit_config,
)

if TYPE_CHECKING:
    from torch import nn

    from dav2.models.depth_anything import DepthAnything
    from dav2.training.fit import FitConfig
    from dav2.training.mixture import Part
    from dav2.training.samples import Samples
    from stages.tracking import Run

Labels = Literal["pseudo", "synthetic", "both"]

logger = logging.getLogger(__name__)


class StudentLossParams(RelativeLossParams):
    """Terms of a student's training."""

    trim_fraction: Annotated[float, Field(ge=0, lt=1)]
    """Share of the worst pixels of each pseudo-labelled sample that the data term leaves out."""
    feature_weight: Weight
    """Of feature alignment with the encoder it started from; off without `encoder_weights`."""
    feature_tolerance: Share
    """Patches more alike than this (cosine) are left alone."""
    synthetic_weight: PositiveFloat
    """Of labels `both`: how much a synthetic image counts beside a pseudo-labelled one; V1's means
    over either by itself make it 2."""


class MixtureParams(Params):
    """How often a student of both labels sees either."""

    pseudo: PositiveInt
    synthetic: PositiveInt


class StudentRunningParams(RunningParams):
    """What decides no weight of a student."""

    shards_root: str | None
    """A copy of the folder of shards to read in its place, say `s3://bucket/training/pseudo`; of
    the folder itself, its index and checksums are then enough."""


class TrainStudentParams(TrainingParams):
    """How students learn: all of them, whatever their labels, so that they compare."""

    running: StudentRunningParams

    encoder_weights: dict[EncoderName, str] | None
    """For each encoder, the checkpoint training starts from; null for random weights."""
    num_pseudo_labels: PositiveInt | None
    """Pseudo-labels learnt from, drawn by the seed; null for all."""
    label_noise: LabelNoise
    """Of synthetic images that are trained on; `{}` for none."""
    losses: StudentLossParams
    mixture: MixtureParams | None
    """Of labels `both`: of `pseudo` + `synthetic` samples, how many are of which. V1 takes two to
    one; null for one set after the other, each seen as often as it has samples, as in V2."""
    perturb: Literal["all", "pseudo"]
    """Which samples get other colours, blur and CutMix: V1 leaves labelled images as they are."""
    align_features: Literal["all", "pseudo", "synthetic"]
    """Which samples feature alignment sees; in V1 it helped with pseudo-labels alone."""


def main(
    encoder: str,
    labels: str,
    folder: Path,
    checkpoint: Path,
    reports: Path,
    warmed: Path | None = None,
) -> None:
    """Makes a student.

    Students of one encoder share steps, batches, order, views and, but for a warmed one, initial
    weights. They differ in what they learn from, and so in which of it is trimmed (pseudo-labels
    alone), perturbed (`perturb`) and aligned (`align_features`).

    Args:
        encoder: Size of its encoder.
        labels: `pseudo`, `synthetic` for the control, or `both`.
        folder: Shards of pseudo-labels, or a folder with a manifest of labelled samples; of both,
            the folder that holds one of each, by their names.
        checkpoint: safetensors file to write.
        reports: Folder to write: `curves.csv` and `validation.json`.
        warmed: Encoder of `warm_encoder` to start from and to align features with, whatever
            `encoder_weights` says.

    Raises:
        ValueError: If arguments, parameters or samples do not fit, numbers go wrong while training,
            or the student stays below the validation's floor.
    """
    name = checked_encoder(
        "train_student", encoder, labels, what="labels", choices=get_args(Labels)
    )
    params = load("train_student", TrainStudentParams)
    from stages.tracking import tracked

    both = ("pseudo", "synthetic")
    folders = {part: folder / part for part in both} if labels == "both" else {labels: folder}
    inputs = folders if warmed is None else {**folders, "warmed": warmed}
    weights = warmed or given_checkpoint(
        (params.encoder_weights or {}).get(name),
        where=f"train_student.encoder_weights.{name}",
        output=checkpoint,
    )
    with tracked("train_student", params, inputs=inputs, outputs=[checkpoint, reports]) as run:
        fit_student(
            "train_student",
            params,
            name,
            labels,
            [_data(part, path, params) for part, path in folders.items()],
            weights=weights,
            checkpoint=checkpoint,
            reports=reports,
            run=run,
        )


def fit_student(
    stage: str,
    params: TrainStudentParams,
    encoder: EncoderName,
    labels: str,
    loaded: "Sequence[tuple[Samples, Samples, str]]",
    *,
    weights: Path | None,
    checkpoint: Path,
    reports: Path,
    run: "Run",
) -> None:
    """Trains a student on samples that were opened, and writes checkpoint and reports.

    Args:
        stage: Whose work it is.
        params: How students learn.
        encoder: Size of its encoder.
        labels: What it learns from: `pseudo`, `synthetic` or `both`.
        loaded: Samples to train on, to validate on and their fingerprint; of both, two.
        weights: Checkpoint whose encoder to start from and to align features with.
        checkpoint: safetensors file to write.
        reports: Folder to write.
        run: Told curves, measures and pictures.

    Raises:
        ValueError: If samples do not fit, numbers go wrong while training, or the student stays
            below the validation's floor.
    """
    data = loaded[0] if len(loaded) == 1 else _together(loaded)
    model, given = initial_model(encoder, params.seed, weights)
    if weights is None:
        logger.info("no encoder weights are given: random start, no feature alignment")
    config = _config(
        params,
        f"student {encoder} {labels}",
        labels,
        aligned=weights is not None,
        mixture=_mixture(params, [len(samples.sample_ids) for samples, _, _ in loaded]),
    )
    fitted, mark = train(
        stage,
        params,
        model,
        data,
        config=config,
        given={**given, "labels": labels},
        record=run,
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


def _data(labels: str, folder: Path, params: TrainStudentParams) -> "tuple[Samples, Samples, str]":
    num_held_out = params.validation.num_samples
    if labels == "pseudo":
        return pseudo_labels(
            folder,
            num_held_out=num_held_out,
            num_samples=params.num_pseudo_labels,
            seed=params.seed,
            copy=params.running.shards_root,
        )
    manifest_path = folder / "manifest.parquet"
    return labelled_samples(manifest_path, num_held_out=num_held_out, noise=params.label_noise)


def _together(
    loaded: "Sequence[tuple[Samples, Samples, str]]",
) -> "tuple[Samples, Samples, str]":
    from dav2.training.mixture import MixedSamples

    train, held_out, marks = zip(*loaded, strict=True)
    return MixedSamples(train), MixedSamples(held_out), fingerprint(list(marks))


def _mixture(params: TrainStudentParams, lengths: Sequence[int]) -> "tuple[Part, ...]":
    from dav2.training.mixture import Part

    if params.mixture is None or len(lengths) == 1:
        return ()
    weights = (params.mixture.pseudo, params.mixture.synthetic)
    return tuple(map(Part, lengths, weights))


def _config(
    params: TrainStudentParams,
    name: str,
    labels: str,
    *,
    aligned: bool,
    mixture: "tuple[Part, ...]",
) -> "FitConfig":
    from dav2.training.module import LossConfig

    losses = params.losses.model_dump()
    if labels == "synthetic":
        losses |= {"trim_fraction": 0.0, "synthetic_weight": 1.0}
    if not aligned or {labels, params.align_features} == {"pseudo", "synthetic"}:
        losses["feature_weight"] = 0.0
    return fit_config(
        params,
        name=name,
        losses=LossConfig("inverse_depth", align_features=params.align_features, **losses),
        mixture=mixture,
        perturb=params.perturb,
    )


def _frozen(model: "DepthAnything", config: "FitConfig") -> "nn.Module | None":
    """Returns the encoder as it was before training, where features are aligned with it."""
    return copy.deepcopy(model.encoder) if config.losses.feature_weight > 0 else None


if __name__ == "__main__":
    level = logging.INFO if is_first_rank() else logging.WARNING
    logging.basicConfig(level=level, format="%(name)s: %(message)s")
    run("train_student", main, *sys.argv[1:3], *(Path(argument) for argument in sys.argv[3:]))
