"""Labels the unlabelled photographs with the teacher, shard by shard."""

import logging
import os
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from dav2.data.files import sha256_of
from dav2.labeling.codec import CodecName
from dav2.labeling.engine import EngineName
from stages.fingerprint import (
    WORK,
    code_fingerprint,
    fingerprint,
    library_versions,
    work_folder,
)
from stages.params import Params, load
from stages.program import run
from stages.sources import locations

if TYPE_CHECKING:
    from torch import nn

    from dav2.labeling.first_shards import FirstShards
    from dav2.labeling.job import LabelingJob
    from dav2.labeling.plan import PlannedShard
    from dav2.labeling.store import ShardRecord
    from stages.tracking import Run

DECIDING_MODULES = (
    "dav2.data.shards",
    "dav2.labeling.labeler",
    "dav2.labeling.plan",
    "dav2.models.checkpoints",
)
"""Who decides what a shard's bytes are. The engine is not among them: it decides when they are."""

MOVING_MODULES = (
    "dav2.data.files",
    "dav2.data.s3",
    "dav2.data.storage",
    "dav2.models.transformers_folder",
)
"""What those import and what decides nothing: it moves bytes of which the manifest has the hash, or
reads folders, which a teacher is not."""

_TRACKED = (
    "num_samples",
    "num_labelled",
    "num_quarantined",
    "num_degenerate",
    "num_shards_set_aside",
    "coverage",
)

_DRAWN = 12

logger = logging.getLogger(__name__)


class PseudoLabelParams(Params):
    """How photographs become labels."""

    engine: EngineName
    """`inline`: one device, in this process; `ray`: workers on any number of devices."""
    ray_address: str | None
    """`host:port` of a Ray cluster; null: that of `RAY_ADDRESS`, else Ray of this machine alone."""
    ray_workers: PositiveInt | None
    """Null: one for each GPU or, on CPUs, for each `num_threads` cores."""
    device: Literal["auto", "cpu", "cuda"]
    """`auto`: a CUDA device where there is one."""
    dtype: Literal["auto", "float32", "bfloat16"]
    """Arithmetic of the teacher; `auto`: bfloat16 on a GPU, float32 on a CPU."""
    compile: bool
    """Whether the teacher is compiled, for each shape of a whole batch: minutes at the start for
    quicker batches, and labels that may round differently. On a CPU it needs a C++ compiler."""
    num_threads: PositiveInt
    """Of the teacher on a CPU; another number may round labels differently."""
    num_workers: PositiveInt
    """Threads that decode photographs, and as many that encode labels."""
    short_side_px: Annotated[int, Field(gt=0, multiple_of=14)]
    """Short side of the teacher's input; the whole photograph, never a crop."""
    jpeg_scaling: bool
    """Whether large photographs are decoded at a half, a quarter or an eighth of their sides where
    that is enough. The teacher then sees other pixels (36 to 46 dB apart)."""
    image_short_side_px: PositiveInt
    """Largest short side of a photograph in a shard."""
    jpeg_quality: Annotated[int, Field(ge=1, le=95)]
    max_aspect_ratio: Annotated[float, Field(ge=1)]
    """Longer over shorter side; photographs above it are quarantined."""
    batch_size: PositiveInt
    codec: CodecName
    """How labels are packed: docs/performance.md compares size, speed and error."""
    samples_per_shard: PositiveInt
    """Most samples in a shard; 700 photographs at 518 px are about 300 MB."""
    check_fraction: Annotated[float, Field(ge=0, le=1)]
    """Share of photographs whose label is compared with that of their mirror image, and at another
    resolution."""
    check_scale: Annotated[float, Field(gt=0)] | None
    """Short side of that other resolution as a multiple of `short_side_px`; null: no such check."""
    check_first_shards: NonNegativeInt
    """How many shards of each source, made first, must keep `gate_labels.labels` before the others
    are made; at the gate some of these only warn. 0: none."""
    max_quarantined_fraction: Annotated[float, Field(ge=0, le=1)]
    """Share of photographs without a label above which the stage fails; those of shards that were
    set aside do not count, `gate_labels` judges them."""
    gpu_hour_price: NonNegativeFloat | None
    """Of one GPU, in any currency, for the cost in MLflow; null: no cost."""


def main(manifest_path: Path, teacher_path: Path, output: Path) -> None:
    """Makes a folder of shards from a gated manifest and a teacher.

    Finished shards are kept in `.work/pseudo_label/<fingerprint>`, so that an interrupted run
    continues and a new source or photograph costs only its own shards.

    Args:
        manifest_path: Gated manifest of the unlabelled photographs.
        teacher_path: Checkpoint of the teacher.
        output: Folder to write: `shards/*.tar`, `shards.json`, `manifest.parquet`,
            `quarantine.parquet` and `summary.json`.

    Raises:
        SystemExit: With one line, if the parameters do not fit, an input is missing or damaged, the
            teacher predicts metres, another labelling is running, or more photographs than allowed
            cannot be labelled. Nothing is written to `output` then.
    """
    try:
        _pseudo_label(load("pseudo_label", PseudoLabelParams), manifest_path, teacher_path, output)
    except (ValueError, OSError) as error:
        raise SystemExit(f"pseudo_label: {error}") from None


def _pseudo_label(
    params: PseudoLabelParams, manifest_path: Path, teacher_path: Path, output: Path
) -> None:
    import torch

    from dav2.labeling.plan import plan_shards
    from dav2.labeling.preview import draw_labels, draw_worst_labels
    from dav2.labeling.store import held_alone, publish
    from dav2.labeling.summary import summarise
    from stages.tracking import tracked

    torch.set_num_threads(params.num_threads)
    inputs = {"unlabelled": manifest_path, "teacher": teacher_path}
    with tracked("pseudo_label", params, inputs=inputs, outputs=[output]) as run:
        job = make_job(params, manifest_path, teacher_path)
        with held_alone(WORK / "pseudo_label.lock", output, job.store):
            shards = plan_shards(
                job.manifest, samples_per_shard=params.samples_per_shard, recipe=job.recipe
            )
            records = _label(params, job, shards, run)
            summary = summarise(job, records)
            publish(job.store, records, output, summary=summary)
        run.log_metrics({name: summary[name] for name in _TRACKED})
        picture = draw_labels(output, num_samples=_DRAWN)
        if picture is not None:
            run.log_picture("labels.png", picture)
        for measure, worst in draw_worst_labels(output, num_samples=_DRAWN).items():
            run.log_picture(f"worst-{measure}.png", worst)


def make_job(params: PseudoLabelParams, manifest_path: Path, teacher_path: Path) -> "LabelingJob":
    """Returns what to label, with which teacher and how.

    Args:
        params: How photographs become labels.
        manifest_path: Gated manifest of the unlabelled photographs.
        teacher_path: Checkpoint of the teacher.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the manifest is damaged, or a device or library is missing.
    """
    import torch

    from dav2.data.manifest import read_manifest
    from dav2.labeling.job import LabelingJob, RayOptions
    from dav2.labeling.prepare import LabelingOptions
    from dav2.models.device import chosen_device

    device = torch.device(chosen_device(params.device, where="pseudo_label.device"))
    on_gpu = device.type == "cuda"
    default_dtype: Literal["float32", "bfloat16"] = "bfloat16" if on_gpu else "float32"
    options = LabelingOptions(
        short_side_px=params.short_side_px,
        jpeg_scaling=params.jpeg_scaling,
        image_short_side_px=params.image_short_side_px,
        jpeg_quality=params.jpeg_quality,
        max_aspect_ratio=params.max_aspect_ratio,
        batch_size=params.batch_size,
        check_fraction=params.check_fraction,
        check_scale=params.check_scale,
        codec=params.codec,
        dtype=default_dtype if params.dtype == "auto" else params.dtype,
        compile=params.compile,
    )
    if not teacher_path.is_file():
        raise FileNotFoundError(f"{teacher_path}: expected the teacher's checkpoint, got no file")
    found = _deciding(teacher_path, params.codec)
    num_threads = None if on_gpu else params.num_threads
    recipe = fingerprint(found, asdict(options), device.type, num_threads)
    return LabelingJob(
        manifest=read_manifest(manifest_path),
        sources=locations(),
        load_teacher=partial(load_teacher, teacher_path),
        teacher=found["teacher"],
        recipe=recipe,
        verify=partial(_verify, found, teacher_path, params.codec),
        options=options,
        device=device,
        num_threads=params.num_threads,
        num_workers=params.num_workers,
        store=work_folder("pseudo_label", recipe),
        ray=RayOptions(
            address=params.ray_address or os.environ.get("RAY_ADDRESS"),
            num_workers=params.ray_workers,
        ),
    )


def load_teacher(path: Path) -> "nn.Module":
    """Returns the teacher; raises `ValueError` if it predicts metres rather than relative depth."""
    from dav2.models.checkpoints import load as load_model

    model, _ = load_model(path)
    if model.config.max_depth_m is not None:
        raise ValueError(
            f"{path}: expected a teacher of relative depth, "
            f"got a metric one with {model.config.max_depth_m} m"
        )
    return model


def _deciding(teacher_path: Path, codec: CodecName) -> dict[str, str]:
    """Returns what decides the labels and may differ from machine to machine."""
    from dav2.labeling.codec import codec_version

    return {
        "teacher": sha256_of(teacher_path)[:16],
        "code": code_fingerprint(DECIDING_MODULES, without=MOVING_MODULES),
        **library_versions("torch", "timm", "pillow"),
        "library of the codec": codec_version(codec) or "none",
    }


def _verify(expected: dict[str, str], teacher_path: Path, codec: CodecName) -> None:
    """Raises `ValueError` if this machine would make other labels than the one that asked."""
    for name, got in _deciding(teacher_path, codec).items():
        if got != expected[name]:
            raise ValueError(f"{name}: expected {expected[name]} as the driver has, got {got}")


def _label(
    params: PseudoLabelParams, job: "LabelingJob", shards: "list[PlannedShard]", run: "Run"
) -> "list[tuple[PlannedShard, ShardRecord]]":
    """Returns the record of every shard, of earlier runs or made now."""
    from tqdm import tqdm

    from dav2.labeling.engine import label_shards
    from dav2.labeling.first_shards import source_by_source
    from dav2.labeling.store import find_shard
    from dav2.labeling.unread import readable_again
    from stages.labelling_progress import Progress
    from stages.labelling_spent import SpentLog

    found = [(shard, record) for shard in shards if (record := find_shard(job.store, shard))]
    again = readable_again(job, found)
    records = {shard.name: record for shard, record in found if shard.name not in again}
    missing = source_by_source(shard for shard in shards if shard.name not in records)
    num_missing = sum(len(shard.rows) for shard in missing)
    logger.info("%d of %d shards are there already", len(records), len(shards))
    refused, first = _Refused(params, job), _first_shards(params, job, shards)
    for shard, record in found:
        if shard.name in records:
            refused.add(shard, record)
            first.add(shard, record)
    num_samples = len(job.manifest)
    with tqdm(
        total=num_samples,
        initial=num_samples - num_missing,
        desc="label",
        unit="image",
        smoothing=0.1,
    ) as bar:
        if missing:
            spent = SpentLog(job.store / "spent.jsonl")
            progress = Progress(run, bar, spent, on_gpu=job.device.type == "cuda")
            try:
                for attempt in label_shards(
                    params.engine, missing, job, on_samples=bar.update, on_attempt=progress.add
                ):
                    assert attempt.record is not None
                    records[attempt.shard.name] = attempt.record
                    refused.add(attempt.shard, attempt.record)
                    first.add(attempt.shard, attempt.record)
            finally:
                progress.finish(gpu_hour_price=params.gpu_hour_price)
    return [(shard, records[shard.name]) for shard in shards]


def _first_shards(
    params: PseudoLabelParams, job: "LabelingJob", shards: "list[PlannedShard]"
) -> "FirstShards":
    from dav2.labeling.first_shards import FirstShards, LabelLimits
    from stages.label_limits import LabelLimitsParams

    limits = LabelLimits(**load("gate_labels.labels", LabelLimitsParams).model_dump())
    return FirstShards(job.store, limits, shards, num_shards=params.check_first_shards)


class _Refused:
    """Counts photographs without a label, and stops the stage at too many."""

    def __init__(self, params: PseudoLabelParams, job: "LabelingJob") -> None:
        self._job = job
        self._num_refused = 0
        # As in ingest, a handful of photographs may lose one.
        self._limit = max(1.0, params.max_quarantined_fraction * len(job.manifest))

    def add(self, shard: "PlannedShard", record: "ShardRecord") -> None:
        from dav2.labeling.store import read_refused

        if record.set_aside:
            return
        self._num_refused += record.num_refused
        if self._num_refused > self._limit:
            reason = read_refused(self._job.store, [shard])["reason"].to_pylist()[0]
            raise ValueError(
                f"expected at most {self._limit:g} of {len(self._job.manifest)} photographs "
                f"without a label, got {self._num_refused} so far, one of them {reason}"
            )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run("pseudo_label", main, *(Path(argument) for argument in sys.argv[1:]))
