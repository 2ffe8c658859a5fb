"""Fine-tunes a student to metres in one domain."""

import logging
import sys
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, PositiveFloat

from stages.params import Params, load
from stages.program import run
from stages.ranks import is_first_rank
from stages.training import checked_encoder, initial_model, labelled_samples, publish, train
from stages.training_params import AugmentParams, TrainingParams, fit_config

Domain = Literal["indoor", "outdoor"]


class MaxDepthParams(Params):
    """Metres at which a metric model of a domain saturates; farther pixels do not count."""

    indoor: PositiveFloat
    outdoor: PositiveFloat


class OneScaleParams(AugmentParams):
    """What is varied, but never the scale: enlarging an image brings what it shows closer."""

    max_scale: Annotated[float, Field(ge=1, le=1)]


class FinetuneMetricParams(TrainingParams):
    """How metric models learn."""

    augment: OneScaleParams
    max_depth_m: MaxDepthParams
    with_head: bool
    """Start from the student's head too, rather than from a new one as the authors do."""
    variance_focus: Annotated[float, Field(ge=0, le=1)]
    """SiLog: 0 minimises the error of the logarithm, 1 its variance alone."""


def main(
    encoder: str, domain: str, manifest_path: Path, student: Path, checkpoint: Path, reports: Path
) -> None:
    """Makes a metric model.

    Args:
        encoder: Size of the student's encoder.
        domain: `indoor` or `outdoor`.
        manifest_path: Gated manifest of the domain's labelled samples.
        student: Checkpoint to start from.
        checkpoint: safetensors file to write.
        reports: Folder to write: `curves.csv` and `validation.json`.

    Raises:
        ValueError: If arguments, parameters or samples do not fit, numbers go wrong while training,
            or the model stays below the validation's floor.
    """
    name = checked_encoder(
        "finetune_metric", encoder, domain, what="a domain", choices=get_args(Domain)
    )
    params = load("finetune_metric", FinetuneMetricParams)
    from dav2.training.module import LossConfig
    from stages.tracking import tracked

    max_depth_m = params.max_depth_m.indoor if domain == "indoor" else params.max_depth_m.outdoor
    inputs = {"metric": manifest_path, "student": student}
    with tracked("finetune_metric", params, inputs=inputs, outputs=[checkpoint, reports]) as run:
        num_held_out = params.validation.num_samples
        data = labelled_samples(manifest_path, num_held_out=num_held_out, max_depth_m=max_depth_m)
        model, given = initial_model(
            name, params.seed, student, max_depth_m=max_depth_m, with_head=params.with_head
        )
        losses = LossConfig("depth", variance_focus=params.variance_focus)
        fitted, mark = train(
            "finetune_metric",
            params,
            model,
            data,
            config=fit_config(
                params, name=f"metric {name} {domain}", losses=losses, max_depth_m=max_depth_m
            ),
            given=given,
            record=run,
        )
        metadata = {
            "role": "metric",
            "domain": domain,
            "fingerprint": mark,
            "short_side_px": params.short_side_px,
        }
        publish(fitted, checkpoint, reports, held_out=data[1], metadata=metadata)
        run.log_picture("validation.png", fitted.picture)


if __name__ == "__main__":
    level = logging.INFO if is_first_rank() else logging.WARNING
    logging.basicConfig(level=level, format="%(name)s: %(message)s")
    run("finetune_metric", main, *sys.argv[1:3], *(Path(argument) for argument in sys.argv[3:]))
