"""What is to be labelled, with which teacher and how: all that decides a label's numbers.

The stage `pseudo_label` writes them into shards, `train_student_live` hands them to a student.
"""

import os
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from dav2.data.files import sha256_of
from dav2.labeling.codec import CodecName
from dav2.labeling.job import EngineName
from stages.fingerprint import code_fingerprint, fingerprint, library_versions, work_folder
from stages.params import Params
from stages.sources import locations

if TYPE_CHECKING:
    from torch import nn

    from dav2.labeling.job import LabelingJob

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
