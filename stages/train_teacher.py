"""Trains the teacher on synthetic images alone, or takes a finished model as teacher."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import PositiveInt

from dav2.models.encoder import EncoderName
from stages.fingerprint import fingerprint
from stages.params import load
from stages.program import run
from stages.ranks import is_first_rank
from stages.training import (
    check_floor,
    given_checkpoint,
    initial_model,
    labelled_samples,
    publish,
    train,
    weighted_sources,
    weights_mark,
)
from stages.training_params import LabelNoise, RelativeLossParams, TrainingParams, fit_config

if TYPE_CHECKING:
    from dav2.training.fit import FitConfig, Fitted
    from dav2.training.samples import Samples

logger = logging.getLogger(__name__)


class TrainTeacherParams(TrainingParams):
    """What the teacher is and how it learns."""

    encoder: EncoderName
    weights: str | None
    """Finished model that is to be the teacher, of ours, of the authors or of Transformers:
    validated, not trained."""
    encoder_weights: str | None
    """Whose encoder training starts from, likewise, or an encoder of DINOv2 or timm; null for
    random weights."""
    label_noise: LabelNoise
    """Of what is trained on; `{}` for none."""
    source_weights: dict[str, PositiveInt]
    """Of as many samples as all weights add up to, how many are of each source; `{}` for plain
    concatenation as in the papers, each source seen as often as it has samples."""
    losses: RelativeLossParams


def main(manifest_path: Path, checkpoint: Path, reports: Path) -> None:
    """Makes a teacher from a gated manifest of labelled samples.

    Args:
        manifest_path: Gated manifest, splits `train` and `val`.
        checkpoint: safetensors file to write.
        reports: Folder to write: `curves.csv` and `validation.json`.

    Raises:
        ValueError: If parameters or samples do not fit, numbers go wrong while training, or the
            teacher stays below the validation's floor.
    """
    params = load("train_teacher", TrainTeacherParams)
    from dav2.training.module import LossConfig
    from stages.tracking import tracked

    inputs = {"labelled": manifest_path}
    weights, encoder_weights = (
        given_checkpoint(text, where=f"train_teacher.{name}", output=checkpoint)
        for name, text in (
            ("weights", params.weights),
            ("encoder_weights", params.encoder_weights),
        )
    )
    with tracked("train_teacher", params, inputs=inputs, outputs=[checkpoint, reports]) as run:
        data = labelled_samples(
            manifest_path,
            num_held_out=params.validation.num_samples,
            noise=params.label_noise,
        )
        losses = LossConfig("inverse_depth", **params.losses.model_dump())
        mixture = weighted_sources(data[0], params.source_weights, where=str(manifest_path))
        config = fit_config(params, name="teacher", losses=losses, mixture=mixture)
        if weights is None:
            model, given = initial_model(params.encoder, params.seed, encoder_weights)
            fitted, mark = train(
                "train_teacher",
                params,
                model,
                data,
                config=config,
                given=given,
                record=run,
            )
        else:
            fitted, mark = _finished(weights, params, data, config)
        metadata = {
            "role": "teacher",
            "fingerprint": mark,
            "short_side_px": params.short_side_px,
        }
        publish(fitted, checkpoint, reports, held_out=data[1], metadata=metadata)
        run.log_picture("validation.png", fitted.picture)


def _finished(
    path: Path,
    params: TrainTeacherParams,
    data: "tuple[Samples, Samples, str]",
    config: "FitConfig",
) -> "tuple[Fitted, str]":
    """Returns somebody's model, measured like one of ours."""
    import torch

    from dav2.models.checkpoints import load as load_model
    from dav2.training.fit import Fitted
    from dav2.training.pictures import draw_validation
    from dav2.training.validation import freeze, measure

    torch.set_num_threads(params.num_threads)
    model, _ = load_model(path)
    if model.config.max_depth_m is not None:
        raise ValueError(
            f"{path}: expected a teacher of relative depth, "
            f"got a metric one with {model.config.max_depth_m} m"
        )
    frozen = freeze(data[1], config.validation)
    measures = measure(model, frozen, config.validation)
    validation = {"step": 0.0, **measures}
    check_floor(validation, params.validation.min_pair_accuracy, where=str(path))
    logger.info("%s is the teacher: nothing is trained", path)
    picture = draw_validation(model, frozen, config.validation)
    return Fitted(model, [], validation, [validation], picture), fingerprint(weights_mark(path))


if __name__ == "__main__":
    level = logging.INFO if is_first_rank() else logging.WARNING
    logging.basicConfig(level=level, format="%(name)s: %(message)s")
    run("train_teacher", main, *(Path(argument) for argument in sys.argv[1:]))
