"""What the three training stages share: parameters, samples, fingerprints and outputs."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from dav2.data.files import sha256_of, write_json, written_whole
from dav2.models.encoder import EncoderName
from dav2.training.schedule import ScheduleName
from stages.fingerprint import code_fingerprint, fingerprint, work_folder
from stages.params import Params
from stages.sources import locations

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from dav2.models.depth_anything import DepthAnything
    from dav2.training.fit import FitConfig, Fitted
    from dav2.training.module import LossConfig
    from dav2.training.recording import Listener
    from dav2.training.samples import Samples

# What decides a model's weights beside its parameters and samples.
DECIDING_MODULES = ("dav2.training.fit", "dav2.models.checkpoints", "stages.training")

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Side = Annotated[int, Field(ge=14, multiple_of=14)]


class OptimiserParams(Params):
    """How weights move."""

    encoder_lr: PositiveFloat
    """AdamW's step size of the encoder."""
    decoder_lr: PositiveFloat
    """AdamW's step size of the head; the papers take ten times the encoder's."""
    schedule: ScheduleName
    warmup_steps: NonNegativeInt
    weight_decay: Weight
    betas: tuple[Share, Share]
    clip_norm: Weight
    """Gradients of a larger norm are shortened to it; 0 for never."""
    average_decay: Annotated[float, Field(ge=0, lt=1)]
    """Of the exponential average of the weights, which is what is kept; 0 for the last weights."""


class AugmentParams(Params):
    """What is varied from one view of a sample to the next."""

    max_scale: Annotated[float, Field(ge=1)]
    """Before the crop, images are enlarged by up to this factor."""
    flip_probability: Share
    jitter_probability: Share
    """Of changing the colours."""
    brightness: Share
    """Factor between 1 - this and 1 + this; likewise contrast and saturation."""
    contrast: Share
    saturation: Share
    hue: Annotated[float, Field(ge=0, le=0.5)]
    """Largest turn of the hue; 0.5 is the opposite colour."""
    blur_probability: Share
    blur_sigma_px: tuple[Weight, PositiveFloat]
    """Smallest and largest deviation of the blur."""


class ValidationParams(Params):
    """How a model is watched while it trains."""

    every_steps: PositiveInt
    num_samples: PositiveInt
    """Frozen samples: spread over the split `val`, or held out of pseudo-labels."""
    keep_best: bool
    """Keep the weights of the smallest AbsRel on them, rather than the last."""
    min_pair_accuracy: Share
    """The stage fails below it: a collapsed model must not go on. Half is chance."""


class RunningParams(Params):
    """What decides no weight."""

    num_workers: NonNegativeInt
    """Processes that decode samples which do not fit into memory."""
    memory_limit_mb: PositiveInt
    """Decoded samples are kept in memory while below this."""
    checkpoint_every_steps: PositiveInt
    """An interrupted training goes on from the last of these."""


class TrainingParams(Params):
    """What every training states."""

    seed: NonNegativeInt
    num_steps: PositiveInt
    batch_size: PositiveInt
    """Samples of one forward pass."""
    accumulate: PositiveInt
    """Forward passes of one step."""
    short_side_px: PositiveInt
    """Short side of an image before the crop."""
    crop_px: tuple[Side, Side]
    """Height and width of a view."""
    precision: Literal["float32", "bfloat16"]
    """Of activations; weights and losses stay in float32."""
    num_threads: PositiveInt
    """Of the CPU; another number rounds differently, and so gives other weights."""
    log_every_steps: PositiveInt
    """Steps of one row of the curves."""
    optimiser: OptimiserParams
    augment: AugmentParams
    validation: ValidationParams
    running: RunningParams


class RelativeLossParams(Params):
    """Terms of a training on inverse depth."""

    gradient_weight: Weight
    """Of gradient matching, beside the data term's 1; the paper's choice is 2."""
    num_gradient_scales: PositiveInt


def fit_config(
    params: TrainingParams,
    *,
    name: str,
    losses: "LossConfig",
    max_depth_m: float | None = None,
    labelled_by_teacher: bool = False,
) -> "FitConfig":
    """Returns what `dav2.training.fit` takes.

    Args:
        params: Parameters of the stage.
        name: Shown while it trains.
        losses: Terms and weights.
        max_depth_m: Of a metric model.
        labelled_by_teacher: Targets are pseudo-labels.
    """
    from dav2.training.augment import AugmentConfig
    from dav2.training.fit import FitConfig
    from dav2.training.module import OptimiserConfig
    from dav2.training.validation import ValidationConfig

    return FitConfig(
        name=name,
        seed=params.seed,
        losses=losses,
        optimiser=OptimiserConfig(num_steps=params.num_steps, **params.optimiser.model_dump()),
        augment=AugmentConfig(
            short_side_px=params.short_side_px,
            crop_px=params.crop_px,
            **params.augment.model_dump(),
        ),
        validation=ValidationConfig(
            every_steps=params.validation.every_steps,
            short_side_px=params.short_side_px,
            batch_size=params.batch_size,
            keep_best=params.validation.keep_best,
            labelled_by_teacher=labelled_by_teacher,
            max_depth_m=max_depth_m,
        ),
        batch_size=params.batch_size,
        accumulate=params.accumulate,
        precision=params.precision,
        num_threads=params.num_threads,
        num_workers=params.running.num_workers,
        memory_limit_bytes=params.running.memory_limit_mb * 1_000_000,
        log_every_steps=params.log_every_steps,
        checkpoint_every_steps=params.running.checkpoint_every_steps,
    )


def labelled_samples(
    manifest_path: Path, *, num_held_out: int, max_depth_m: float | None = None
) -> "tuple[Samples, Samples, str]":
    """Returns samples to train on (split `train`), to validate on (`val`), and their fingerprint.

    Args:
        manifest_path: Gated manifest of labelled samples.
        num_held_out: Most samples to validate on.
        max_depth_m: Of a metric model, whose targets are metres; None for inverse depth.

    Raises:
        ValueError: If one of the splits has no sample.
    """
    from dav2.data.manifest import read_manifest
    from dav2.training.samples import LabelledSamples, spread

    manifest = read_manifest(manifest_path)
    train = _split(manifest, "train", manifest_path)
    held_out = _split(manifest, "val", manifest_path)
    held_out = held_out.iloc[spread(len(held_out), num_chosen=num_held_out)]
    deciding = ["sample_id", "content_hash", "decoder"]
    mark = fingerprint([frame[deciding].values.tolist() for frame in (train, held_out)])
    sources = locations()
    return (
        LabelledSamples(train, sources, max_depth_m=max_depth_m),
        LabelledSamples(held_out, sources, max_depth_m=max_depth_m),
        mark,
    )


def pseudo_labels(folder: Path, *, num_held_out: int) -> "tuple[Samples, Samples, str]":
    """Returns pseudo-labels to train on, some held out evenly, and their fingerprint.

    Raises:
        ValueError: If there are not more labels than are to be held out.
    """
    from dav2.training.samples import ChosenSamples, PseudoLabels, hold_out

    samples = PseudoLabels(folder)
    train, held_out = hold_out(len(samples.sample_ids), num_held_out=num_held_out)
    # The shards' own checksums stand in `shards.json`.
    mark = fingerprint([sha256_of(folder / name) for name in ("manifest.parquet", "shards.json")])
    return ChosenSamples(samples, train), ChosenSamples(samples, held_out), mark


def optional_path(text: str | None) -> Path | None:
    """Returns a parameter that names a file as a path."""
    return None if text is None else Path(text)


def initial_model(
    encoder: EncoderName,
    seed: int,
    weights: Path | None,
    *,
    max_depth_m: float | None = None,
    with_head: bool = False,
) -> "tuple[DepthAnything, dict[str, Any]]":
    """Returns a model before training, and what decides its weights beside the seed.

    Args:
        encoder: Its size.
        seed: Decides random weights.
        weights: Checkpoint whose encoder to start from, or nothing.
        max_depth_m: Of a metric model.
        with_head: Start from the checkpoint's head too.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If the checkpoint is of another encoder.
    """
    import torch

    from dav2.models.checkpoints import load_encoder_weights
    from dav2.models.depth_anything import DepthAnything, ModelConfig

    torch.manual_seed(seed)
    model = DepthAnything(ModelConfig(encoder, max_depth_m))
    if weights is not None:
        load_encoder_weights(model, weights, with_head=with_head)
    mark = sha256_of(weights) if weights is not None else None
    return model, {"encoder": encoder, "max_depth_m": max_depth_m, "weights": mark}


def train(
    stage: str,
    params: TrainingParams,
    model: "DepthAnything",
    data: "tuple[Samples, Samples, str]",
    *,
    config: "FitConfig",
    given: Mapping[str, Any],
    listener: "Listener",
    frozen_encoder: "nn.Module | None" = None,
) -> "tuple[Fitted, str]":
    """Trains a model in the work folder of everything that decides its weights.

    Args:
        stage: Name of the stage.
        params: Its parameters.
        model: With its initial weights.
        data: Samples to train on, to validate on, and their fingerprint.
        config: From `fit_config`.
        given: Whatever else decides the weights, JSON-able.
        listener: Told curves and measures.
        frozen_encoder: For feature alignment.

    Returns:
        The result, and the fingerprint.

    Raises:
        ValueError: As `dav2.training.fit.fit`, or the model orders fewer pairs of the validation
            than the floor asks for.
    """
    from dav2.training.fit import fit

    samples, held_out, mark = data
    chosen = params.model_dump(mode="json", exclude={"running"})
    mark = fingerprint(stage, chosen, mark, dict(given), code_fingerprint(DECIDING_MODULES))
    work = work_folder(stage, mark)
    fitted = fit(
        model,
        samples,
        held_out,
        config=config,
        work=work,
        listener=listener,
        frozen_encoder=frozen_encoder,
    )
    check_floor(fitted.validation, params.validation.min_pair_accuracy, where=config.name)
    return fitted, mark


def check_floor(measures: Mapping[str, float], minimum: float, *, where: str) -> None:
    """Raises `ValueError` if too few pairs of the validation are in right order."""
    got = measures["pair_accuracy"]
    if got < minimum:
        raise ValueError(
            f"{where}: expected at least {minimum:g} of the validation's pairs in right order, "
            f"got {got:.3f}: the model has not learned or has collapsed"
        )


def publish(
    fitted: "Fitted",
    checkpoint: Path,
    reports: Path,
    *,
    num_held_out: int,
    metadata: Mapping[str, Any],
) -> None:
    """Writes weights, `curves.csv` and `validation.json`; nothing in them varies from run to run.

    Args:
        fitted: Result of a training.
        checkpoint: safetensors file to write.
        reports: Folder to write.
        num_held_out: Samples validated on.
        metadata: Kept in the checkpoint.
    """
    from dav2.models.checkpoints import save

    final = _plain(fitted.validation)
    with written_whole(reports) as folder:
        folder.mkdir()
        with (folder / "curves.csv").open("w", newline="", encoding="utf-8") as stream:
            names = list(fitted.curves[0]) if fitted.curves else ["step"]
            writer = csv.DictWriter(stream, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(_plain(row) for row in fitted.curves)
        history = [_plain(entry) for entry in fitted.history]
        content = {"final": final, "history": history, "num_samples": num_held_out}
        write_json(content, folder / "validation.json")
    save(fitted.model, checkpoint, {**metadata, "validation": final})


def _plain(row: Mapping[str, float]) -> dict[str, float | int]:
    """Returns numbers of six digits; steps are whole."""
    return {
        name: int(value) if name == "step" else float(f"{value:.6g}") for name, value in row.items()
    }


def _split(manifest: "pd.DataFrame", split: str, path: Path) -> "pd.DataFrame":
    rows: pd.DataFrame = manifest[manifest["split"] == split]
    if rows.empty:
        found = ", ".join(sorted(set(manifest["split"]))) or "no row"
        raise ValueError(f"{path}: expected samples of split {split!r}, got {found}")
    return rows
