"""Do pseudo-labels teach more than synthetic ones? On a machine that has no more than `dav2` needs.

The question of `experiments/cpu_long.yaml`, asked of larger models and more steps where there is a
GPU but neither DVC nor MLflow: a teacher learns from the labelled renders of a project and labels
its photographs; students of either kind of labels start alike and learn for as long, over several
seeds. All are measured on renders that no training has seen, while they learn and at the end.

A training that was stopped goes on when the command is started again.
"""

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import torch
from torch import nn

from benchmarks.model import machine
from dav2.data.files import write_json, written_whole
from dav2.data.manifest import read_manifest
from dav2.data.open import SourceLocation
from dav2.labeling.prepare import LabelingOptions
from dav2.models.depth_anything import DepthAnything, ModelConfig
from dav2.models.device import chosen_device
from dav2.models.encoder import EncoderName
from dav2.training.augment import AugmentConfig
from dav2.training.fit import FitConfig, Fitted, fit
from dav2.training.mixture import MixedSamples
from dav2.training.module import LossConfig
from dav2.training.run import Device
from dav2.training.samples import KeptSamples, LabelledSamples, Samples
from dav2.training.steps import OptimiserConfig
from dav2.training.teacher_labels import TeacherLabels
from dav2.training.validation import ValidationConfig

LABELS = ("pseudo", "synthetic", "both")
MEASURES = ("abs_rel_inverse", "delta1", "pair_accuracy")
_PLACES = ("data", "work", "out")


@dataclass(frozen=True, slots=True)
class Data:
    """What a project has rendered and gated, as this machine finds it."""

    labelled: Samples
    photographs: pd.DataFrame
    judges: Samples
    """Renders of the same kind as the photographs, with depth."""
    locations: Mapping[str, SourceLocation]
    mark: str
    """Of the content of all images."""


def open_data(folder: Path, judge: str) -> Data:
    """Returns the samples under a project's folder `data`.

    Args:
        folder: With `raw/<source>` of every source, and the manifests that `gate_data` leaves.
        judge: Source to measure on.

    Raises:
        FileNotFoundError: If a manifest is missing.
        ValueError: If no sample to measure on is of that source.
    """
    labelled = read_manifest(folder / "training" / "synthetic" / "manifest.parquet")
    photographs = read_manifest(folder / "gated" / "unlabelled.parquet")
    listed = read_manifest(folder / "gated" / "evaluation.parquet")
    judges = listed[(listed["source"] == judge) & listed["depth"].notna()]
    if judges.empty:
        found = ", ".join(sorted(set(listed["source"])))
        raise ValueError(f"--judge: expected a source with depth of {found}, got {judge}")
    rows = pd.concat([labelled, photographs, judges])
    readers = rows.drop_duplicates("source")[["source", "dataset"]]
    locations = {
        source: SourceLocation(reader=reader, root=folder / "raw" / source)
        for source, reader in readers.itertuples(index=False)
    }
    train = labelled[labelled["split"] != "val"]
    return Data(
        LabelledSamples(train, locations, max_depth_m=None),
        photographs,
        LabelledSamples(judges, locations, max_depth_m=None),
        locations,
        sha256("".join(rows["content_hash"]).encode()).hexdigest(),
    )


def _configuration(options: argparse.Namespace, *, name: str, steps: int, seed: int) -> FitConfig:
    """Returns a training as `experiments/cpu_long.yaml` has it, but for what the options say."""
    return FitConfig(
        name=name,
        seed=seed,
        optimiser=OptimiserConfig(
            num_steps=steps,
            encoder_lr=options.rate,
            decoder_lr=options.rate,
            schedule="cosine",
            warmup_steps=min(200, steps // 10),
            clip_norm=1.0,
            average_decay=0.998,
        ),
        compile_blocks=options.compile,
        augment=AugmentConfig(
            short_side_px=min(options.crop),
            crops_px=(options.crop,),
            max_scale=1.25,
            jitter_probability=0.8,
            brightness=0.4,
            contrast=0.4,
            saturation=0.4,
            hue=0.1,
            blur_probability=0.3,
            blur_sigma_px=(0.1, 1.0),
        ),
        batch_size=options.batch_size,
        accumulate=1,
        precision=options.precision,
        device=options.device,
        num_threads=options.threads,
        num_workers=0,  # renders of this size fit into memory
        memory_limit_bytes=options.memory_mb * 10**6,
        log_every_steps=max(1, steps // 40),
        checkpoint_every_steps=max(1, steps // 20),
        losses=LossConfig("inverse_depth", gradient_weight=0.5, trim_fraction=0.1),
        validation=ValidationConfig(
            every_steps=max(1, steps // options.points),
            short_side_px=min(options.crop),
            batch_size=options.batch_size,
            keep_best=False,  # what judges must not choose
            max_depth_m=None,
        ),
    )


def _trained(
    encoder: EncoderName, samples: Samples, data: Data, config: FitConfig, *, work: Path, given: str
) -> Fitted:
    """Returns a model, trained in a folder of all that decides its weights.

    Args:
        encoder: Its size.
        samples: What it learns from.
        data: What else there is.
        config: How it learns.
        work: Folder of unfinished trainings.
        given: What decides the samples beside `data`.
    """
    mark = sha256(repr((encoder, config, data.mark, given)).encode()).hexdigest()[:16]
    folder = work / f"{config.name}-{mark}"
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    model = DepthAnything(ModelConfig(encoder))
    return fit(model, samples, data.judges, config=config, work=folder)


def _weights_mark(model: nn.Module) -> str:
    """Returns a fingerprint of a model's weights."""
    digest = sha256()
    for tensor in model.state_dict().values():
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _teacher_labels(teacher: nn.Module, data: Data, options: argparse.Namespace) -> Samples:
    """Returns the photographs with the teacher's labels, each asked for once."""
    labelling = LabelingOptions(
        short_side_px=min(options.crop),
        jpeg_scaling=False,
        image_short_side_px=2 * min(options.crop),
        jpeg_quality=95,
        max_aspect_ratio=4.0,
        batch_size=1,
        check_fraction=0.0,
        check_scale=None,
        codec="png16",
        dtype="float32",
        compile=False,
    )
    labels = TeacherLabels(
        data.photographs,
        data.locations,
        labelling,
        load_teacher=lambda: teacher,
        device=torch.device(options.device),
    )
    return KeptSamples(labels, limit_bytes=options.memory_mb * 10**6)


def compare(options: argparse.Namespace) -> pd.DataFrame:
    """Trains everything; returns the measures of each model, and writes them as they come."""
    data = open_data(options.data, options.judge)
    config = _configuration(options, name="teacher", steps=options.teacher_steps, seed=0)
    teacher = _trained(options.teacher, data.labelled, data, config, work=options.work, given="")
    mark = _weights_mark(teacher.model)
    pseudo = _teacher_labels(teacher.model, data, options)
    sets: dict[str, Samples] = {
        "pseudo": pseudo,
        "synthetic": data.labelled,
        "both": MixedSamples([pseudo, data.labelled]),
    }
    final: list[dict[str, Any]] = [{"model": "teacher", "seed": 0, **teacher.validation}]
    course = [{"model": "teacher", "seed": 0, **entry} for entry in teacher.history]
    for seed in range(options.seeds):
        for labels in options.labels:
            name = f"{labels}-{seed}"
            config = _configuration(options, name=name, steps=options.steps, seed=seed)
            given = "" if labels == "synthetic" else mark
            student = _trained(
                options.student, sets[labels], data, config, work=options.work, given=given
            )
            final.append({"model": labels, "seed": seed, **student.validation})
            course += [{"model": labels, "seed": seed, **entry} for entry in student.history]
            _write(options, pd.DataFrame(final), pd.DataFrame(course))
    return pd.DataFrame(final)


def table(final: pd.DataFrame) -> str:
    """Returns a markdown table: of each measure and kind of labels all seeds, mean and deviation.

    Args:
        final: A row a model: `model`, `seed` and measures.
    """
    seeds = [f"seed {seed}" for seed in sorted(final["seed"].unique())]
    head = ["measure", "model", *seeds, "mean", "deviation"]
    lines = [head, ["---"] * len(head)]
    for measure in MEASURES:
        for model, rows in final.groupby("model", sort=False):
            values = [float(value) for value in rows.sort_values("seed")[measure]]
            cells = [f"{value:.4f}" for value in values]
            cells += ["-"] * (len(seeds) - len(values))
            spread = f"{statistics.stdev(values):.4f}" if len(values) > 1 else "-"
            lines.append([measure, str(model), *cells, f"{statistics.fmean(values):.4f}", spread])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _write(options: argparse.Namespace, final: pd.DataFrame, course: pd.DataFrame) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    told = {name: str(value) for name, value in vars(options).items() if name not in _PLACES}
    content = {"machine": machine(options.device), **told, "final": final.to_dict("records")}
    write_json(content, options.out / "measures.json")
    for name, text in (("course.csv", course.to_csv(index=False)), ("table.md", table(final))):
        with written_whole(options.out / name) as path:
            path.write_text(text)


def main(arguments: Sequence[str]) -> None:
    """Prints the table, and writes it with measures and curves to a folder."""
    options = _parser().parse_args(arguments)
    options.device = chosen_device(options.device, where="--device")
    options.crop = tuple(options.crop)
    print(table(compare(options)), end="")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Students of pseudo-labels and of synthetic ones.")
    parser.add_argument("--data", type=Path, default=Path("data"), help="a project's, carried here")
    parser.add_argument("--judge", default="wild_eval", help="source to measure on")
    parser.add_argument("--teacher", choices=get_args(EncoderName), default="vit192x8")
    parser.add_argument("--student", choices=get_args(EncoderName), default="vit192x8")
    parser.add_argument("--teacher-steps", type=int, default=9000)
    parser.add_argument("--steps", type=int, default=4000, help="of a student")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1e-3, help="of encoder and head")
    parser.add_argument("--crop", nargs=2, type=int, default=(84, 112), metavar=("H", "W"))
    parser.add_argument("--labels", nargs="+", choices=LABELS, default=["pseudo", "synthetic"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--points", type=int, default=10, help="measured while one learns")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", default="auto", choices=get_args(Device))
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--memory-mb", type=int, default=16_000, help="of decoded samples")
    parser.add_argument("--work", type=Path, default=Path(".work/pseudo_against_synthetic"))
    parser.add_argument("--out", type=Path, default=Path(".work/pseudo_against_synthetic/out"))
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
