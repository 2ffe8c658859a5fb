"""Trains a student on labels that it asks of the teacher as it goes: no shards are written."""

import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from stages.fingerprint import code_fingerprint, fingerprint
from stages.labelling_job import PseudoLabelParams, make_job
from stages.params import load
from stages.program import run
from stages.ranks import is_first_rank
from stages.train_student import TrainStudentParams, fit_student
from stages.training import checked_encoder, divided, given_checkpoint

if TYPE_CHECKING:
    from dav2.training.samples import Samples

_LABELLING_MODULES = ("dav2.labeling.labeler", "dav2.training.teacher_labels")


def main(encoder: str, manifest_path: Path, teacher: Path, checkpoint: Path, reports: Path) -> None:
    """Makes a student that learns what a student of shards learns, with the codec's steps.

    Args:
        encoder: Size of its encoder.
        manifest_path: Gated manifest of the unlabelled photographs.
        teacher: Checkpoint of the teacher, prepared for as `pseudo_label` says.
        checkpoint: safetensors file to write.
        reports: Folder to write: `curves.csv` and `validation.json`.

    Raises:
        ValueError: As `stages.train_student`, or if the teacher predicts metres, or a photograph
            cannot be decoded.
        OSError: If a photograph cannot be read any more, or is not the one that was ingested.
    """
    name = checked_encoder("train_student_live", encoder, "live", what="labels", choices=("live",))
    params = _in_one_process(load("train_student", TrainStudentParams))
    from stages.tracking import tracked

    weights = given_checkpoint(
        (params.encoder_weights or {}).get(name),
        where=f"train_student.encoder_weights.{name}",
        output=checkpoint,
    )
    inputs = {"unlabelled": manifest_path, "teacher": teacher}
    with tracked("train_student_live", params, inputs=inputs, outputs=[checkpoint, reports]) as run:
        fit_student(
            "train_student_live",
            params,
            name,
            "pseudo",
            [_data(manifest_path, teacher, params)],
            weights=weights,
            checkpoint=checkpoint,
            reports=reports,
            run=run,
        )


def _in_one_process(params: TrainStudentParams) -> TrainStudentParams:
    """Returns parameters without other processes: each would hold a teacher of its own."""
    running = params.running.model_copy(update={"num_workers": 0})
    return params.model_copy(update={"running": running})


def _data(
    manifest_path: Path, teacher: Path, params: TrainStudentParams
) -> "tuple[Samples, Samples, str]":
    from dav2.training.teacher_labels import TeacherLabels

    job = make_job(load("pseudo_label", PseudoLabelParams), manifest_path, teacher)
    samples = TeacherLabels(
        job.manifest,
        job.sources,
        job.options,
        load_teacher=job.load_teacher,
        device=job.device,
    )
    train, held_out = divided(
        samples,
        num_held_out=params.validation.num_samples,
        num_samples=params.num_pseudo_labels,
        seed=params.seed,
    )
    content = job.manifest[["sample_id", "content_hash", "decoder"]].to_numpy().tolist()
    code = code_fingerprint(_LABELLING_MODULES)
    mark = fingerprint(content, job.teacher, asdict(job.options), job.device.type, code)
    return train, held_out, mark


if __name__ == "__main__":
    level = logging.INFO if is_first_rank() else logging.WARNING
    logging.basicConfig(level=level, format="%(name)s: %(message)s")
    run("train_student_live", main, sys.argv[1], *(Path(argument) for argument in sys.argv[2:]))
