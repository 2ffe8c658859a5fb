"""What the training stages share: samples, initial models, fingerprints and outputs."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, get_args

from dav2.data.files import sha256_of, write_json, written_whole
from dav2.data.storage import open_storage
from dav2.models.encoder import EncoderName
from stages.fingerprint import code_fingerprint, fingerprint
from stages.sources import locations
from stages.training_params import TrainingParams
from stages.training_work import leave_to_first_rank, plain, prepare_work, write_curves

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from dav2.models.depth_anything import DepthAnything
    from dav2.training.fit import FitConfig, Fitted
    from dav2.training.mixture import Part
    from dav2.training.samples import Samples
    from stages.tracking import Run

_NO_NOISE: Mapping[str, float] = MappingProxyType({})

# What decides a model's weights beside its parameters and samples.
DECIDING_MODULES = (
    "dav2.training.fit",
    "dav2.models.checkpoints",
    "stages.training",
    "stages.training_params",
)


def checked_encoder(
    stage: str, encoder: str, chosen: str, *, what: str, choices: tuple[str, ...]
) -> EncoderName:
    """Returns a stage's first argument as an encoder's name, once both its words are known ones.

    Args:
        stage: Name of the stage, for the message.
        encoder: First word of its command line.
        chosen: Second word.
        what: What the second word chooses, for the message.
        choices: What it may be.

    Raises:
        ValueError: If there is no such encoder or no such choice.
    """
    known: dict[str, EncoderName] = {name: name for name in get_args(EncoderName)}
    if encoder not in known or chosen not in choices:
        raise ValueError(
            f"{stage}: expected an encoder of {', '.join(known)} and {what} of "
            f"{', '.join(choices)}, got {encoder!r} and {chosen!r}"
        )
    return known[encoder]


def labelled_samples(
    manifest_path: Path,
    *,
    num_held_out: int,
    max_depth_m: float | None = None,
    noise: Mapping[str, float] = _NO_NOISE,
) -> "tuple[Samples, Samples, str]":
    """Returns samples to train on, to validate on (split `val`), and their fingerprint.

    Where no source has a split `val`, whole scenes are held out: frames of one scene are alike.

    Args:
        manifest_path: Gated manifest of labelled samples.
        num_held_out: Most samples to validate on.
        max_depth_m: Of a metric model, whose targets are metres; None for inverse depth.
        noise: For some sources, how faulty the depth to train on is made; validation sees it as
            it is.

    Raises:
        ValueError: If there is nothing to train on, to validate on or to make noisy.
    """
    from dav2.data.manifest import read_manifest
    from dav2.training.samples import LabelledSamples, spread

    manifest = read_manifest(manifest_path)
    train, held_out = _split(manifest, num_held_out, manifest_path)
    if unknown := sorted(set(noise) - set(train["source"])):
        raise ValueError(
            f"{manifest_path}: expected label_noise of the sources "
            f"{', '.join(sorted(set(train['source'])))}, got {', '.join(unknown)}"
        )
    held_out = held_out.iloc[spread(len(held_out), num_chosen=num_held_out)]
    deciding = ["sample_id", "content_hash", "decoder"]
    mark = fingerprint([frame[deciding].values.tolist() for frame in (train, held_out)])
    sources = locations()
    return (
        LabelledSamples(train, sources, max_depth_m=max_depth_m, noise=noise),
        LabelledSamples(held_out, sources, max_depth_m=max_depth_m),
        mark,
    )


def weighted_sources(
    samples: "Samples", weights: Mapping[str, int], *, where: str
) -> "tuple[Part, ...]":
    """Returns how often the sources of labelled samples are drawn; nothing without weights.

    Args:
        samples: Of a manifest, whose ids begin with their sources.
        weights: Of each source.
        where: The manifest, for messages.

    Raises:
        ValueError: If the weights are not those of its sources.
    """
    from dav2.training.mixture import Part

    if not weights:
        return ()
    named = (sample_id.partition("-")[0] for sample_id in samples.sample_ids)
    counts = [(source, len(list(found))) for source, found in groupby(named)]
    if sorted(weights) != (known := sorted(source for source, _ in counts)):
        raise ValueError(
            f"{where}: expected source_weights of each of the sources {', '.join(known)}, "
            f"got {', '.join(sorted(weights))}"
        )
    return tuple(Part(count, weights[source]) for source, count in counts)


def pseudo_labels(
    folder: Path,
    *,
    num_held_out: int,
    num_samples: int | None = None,
    seed: int = 0,
    copy: str | None = None,
) -> "tuple[Samples, Samples, str]":
    """Returns pseudo-labels to train on, some held out evenly, and their fingerprint.

    Args:
        folder: Shards and their index.
        num_held_out: Samples to validate on, the same whatever else is asked for.
        num_samples: Samples to train on, drawn by `seed`; None for all others.
        seed: Of the draw.
        copy: Where the shards are read from, with index and checksums: another folder, or
            `s3://bucket/prefix`; None for the folder itself.

    Raises:
        FileNotFoundError: If a shard, the index or the checksums are missing.
        ValueError: If there are fewer labels than that, or the copy is one of other labels.
        OSError: If the copy cannot be read.
    """
    from dav2.training.samples import PseudoLabels

    described = ("manifest.parquet", "shards.json")
    for name in described:
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder / name}: expected the index or checksums of the shards, got no file"
            )
    if copy is not None:
        _check_copy(folder, copy, described)
    samples = PseudoLabels(folder if copy is None else copy)
    train, held_out = divided(
        samples, num_held_out=num_held_out, num_samples=num_samples, seed=seed
    )
    # The shards' own checksums stand in `shards.json`.
    mark = fingerprint([sha256_of(folder / name) for name in described])
    return train, held_out, mark


def _check_copy(folder: Path, root: str, names: Sequence[str]) -> None:
    """Raises `ValueError` if files of a copy are not those of the folder."""
    copy = open_storage(root)
    for name in names:
        if copy.read(name) != (folder / name).read_bytes():
            raise ValueError(
                f"{copy.where(name)}: expected a copy of {folder / name}, got other bytes"
            )


def divided(
    samples: "Samples", *, num_held_out: int, num_samples: int | None, seed: int
) -> "tuple[Samples, Samples]":
    """Returns samples to train on, and some held out evenly; arguments as of `pseudo_labels`.

    Raises:
        ValueError: If there are fewer samples than that.
    """
    from dav2.training.samples import ChosenSamples, hold_out, subset

    train, held_out = hold_out(len(samples.sample_ids), num_held_out=num_held_out)
    if num_samples is not None:
        chosen = subset(len(train), num_chosen=num_samples, seed=seed)
        train = [train[index] for index in chosen]
    return ChosenSamples(samples, train), ChosenSamples(samples, held_out)


def given_checkpoint(text: str | None, *, where: str, output: Path) -> Path | None:
    """Returns a parameter that names a checkpoint to start from as a path.

    Args:
        text: The parameter; None for no checkpoint.
        where: Its name, for the message.
        output: Checkpoint that the stage writes. DVC removes it before the stage runs.

    Raises:
        ValueError: If the parameter names that very output.
    """
    if text is None:
        return None
    if Path(text).resolve() == output.resolve():
        raise ValueError(
            f"{where}: expected a checkpoint that the stage does not write itself, got {text}, "
            "which is removed before it runs: copy the file elsewhere and name the copy"
        )
    return Path(text)


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
    mark = weights_mark(weights) if weights is not None else None
    return model, {"encoder": encoder, "max_depth_m": max_depth_m, "weights": mark}


def weights_mark(path: Path) -> str:
    """Returns the fingerprint of a checkpoint, be it a file or a folder of Transformers."""
    if not path.is_dir():
        return sha256_of(path)
    return fingerprint([sha256_of(path / name) for name in ("config.json", "model.safetensors")])


def train(
    stage: str,
    params: TrainingParams,
    model: "DepthAnything",
    data: "tuple[Samples, Samples, str]",
    *,
    config: "FitConfig",
    given: Mapping[str, Any],
    record: "Run",
    frozen_encoder: "nn.Module | None" = None,
) -> "tuple[Fitted, str]":
    """Trains a model in the work folder of everything that decides its weights.

    Where several devices train it, every rank comes here, and the first alone returns: the others
    have nothing left to do and end, with status 0.

    Args:
        stage: Name of the stage.
        params: Its parameters.
        model: With its initial weights.
        data: Samples to train on, to validate on, and their fingerprint.
        config: From `fit_config`.
        given: Whatever else decides the weights, JSON-able.
        record: Gets curves and measures, and a picture of every validation.
        frozen_encoder: For feature alignment.

    Returns:
        The result, and the fingerprint.

    Raises:
        SystemExit: On ranks other than the first, when the training is done.
        ConnectionError: If another rank is lost.
        ValueError: As `dav2.training.fit.fit`, or the model orders fewer pairs of the validation
            than the floor asks for; what was trained stays, for a lower floor.
    """
    from dav2.training.fit import fit

    samples, held_out, mark = data
    work, mark = prepare_work(
        stage, params, mark, given=given, code=code_fingerprint(DECIDING_MODULES)
    )
    fitted = fit(
        model,
        samples,
        held_out,
        config=config,
        work=work,
        listener=lambda measures, step: record.log_metrics(measures, step=step),
        viewer=lambda picture, step: record.log_picture(f"validation/{step:06d}.png", picture),
        frozen_encoder=frozen_encoder,
    )
    leave_to_first_rank()
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
    held_out: "Samples",
    metadata: Mapping[str, Any],
) -> None:
    """Writes weights, `curves.csv` and `validation.json`; nothing in them varies from run to run.

    Args:
        fitted: Result of a training.
        checkpoint: safetensors file to write.
        reports: Folder to write.
        held_out: Samples validated on.
        metadata: Kept in the checkpoint.
    """
    from dav2.models.checkpoints import save

    final = plain(fitted.validation)
    with written_whole(reports) as folder:
        folder.mkdir()
        write_curves(fitted.curves, folder / "curves.csv")
        history = [plain(entry) for entry in fitted.history]
        content = {"final": final, "history": history, "num_samples": len(held_out.sample_ids)}
        write_json(content, folder / "validation.json")
    save(fitted.model, checkpoint, {**metadata, "validation": final})


def _split(
    manifest: "pd.DataFrame", num_held_out: int, path: Path
) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """Returns the rows to train on and those to validate on."""
    held_out = manifest["split"] == "val"
    if not held_out.any():
        held_out = _whole_scenes(manifest, num_held_out)
    if held_out.all() or not held_out.any():
        found = ", ".join(sorted(set(manifest["split"]))) or "no row"
        raise ValueError(
            f"{path}: expected samples of split 'val' and of another, or of two scenes of which "
            f"one can be held out, got {found}"
        )
    return manifest[~held_out], manifest[held_out]


def _whole_scenes(manifest: "pd.DataFrame", num_samples: int) -> "pd.Series[bool]":
    """Returns which rows are of few scenes, evenly spread, that have enough samples together.

    At most half of the scenes, however few samples they have.
    """
    from dav2.training.samples import spread

    scenes = manifest["source"] + "/" + manifest["scene"]
    names = sorted(scenes.unique())
    chosen = scenes.isin([])
    for count in range(1, len(names) // 2 + 1):
        if chosen.sum() >= num_samples:
            break
        chosen = scenes.isin([names[place] for place in spread(len(names), num_chosen=count)])
    return chosen
