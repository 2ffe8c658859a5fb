"""Warms an encoder up on the unlabelled images, where there are no weights of DINOv2 to start from.

It paints what is masked of them (`dav2.training.masked_images`); students start from the result.
"""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

from PIL import Image
from pydantic import Field, PositiveInt

from dav2.data.files import write_json, written_whole
from dav2.models.encoder import EncoderName, encoder_config
from stages.fingerprint import code_fingerprint, fingerprint
from stages.params import Params, load
from stages.program import run
from stages.ranks import is_first_rank
from stages.sources import locations
from stages.training_params import RunParams, Share, run_options
from stages.training_work import leave_to_first_rank, plain, prepare_work, write_curves

if TYPE_CHECKING:
    from dav2.training.masked_images import WarmedUp
    from dav2.training.samples import Samples

# What decides the encoder's weights beside its parameters and images.
DECIDING_MODULES = (
    "dav2.training.masked_images",
    "dav2.models.checkpoints",
    "stages.warm_encoder",
    "stages.training_params",
)


class WarmAugmentParams(Params):
    """What is varied from one view of an image to the next; colours are what is to be painted."""

    max_scale: Annotated[float, Field(ge=1)]
    """Before the crop, images are enlarged by up to this factor."""
    flip_probability: Share


class WarmEncoderParams(RunParams):
    """How encoders are warmed up: all of `matrix.warm`."""

    mask_ratio: Annotated[float, Field(gt=0, lt=1)]
    """Share of an image's patches that are masked."""
    num_held_out: PositiveInt
    """Images to measure and draw, never trained on."""
    augment: WarmAugmentParams


def main(encoder: str, manifest_path: Path, checkpoint: Path, reports: Path) -> None:
    """Makes a warmed encoder from a gated manifest of unlabelled images.

    Args:
        encoder: Its size.
        manifest_path: Gated manifest of the unlabelled images.
        checkpoint: safetensors file to write: the encoder alone.
        reports: Folder to write: `curves.csv`, `painted.json` and `painted.png`.

    Raises:
        ValueError: If arguments, parameters or images do not fit, or numbers go wrong while
            training.
    """
    known: dict[str, EncoderName] = {
        name: name for name in get_args(EncoderName) if encoder_config(name).family == "dinov2"
    }
    if encoder not in known:
        raise ValueError(
            f"warm_encoder: expected an encoder of {', '.join(known)}, got {encoder!r}"
        )
    params = load("warm_encoder", WarmEncoderParams)
    import torch

    from dav2.models.checkpoints import save_encoder
    from dav2.models.masked_image_model import MaskedImageModel
    from dav2.training.masked_images import WarmUpConfig, warm_up
    from stages.tracking import tracked

    inputs = {"unlabelled": manifest_path}
    with tracked("warm_encoder", params, inputs=inputs, outputs=[checkpoint, reports]) as run:
        options = run_options(params, params.augment, name=f"warm-up {encoder}")
        config = WarmUpConfig(**options, mask_ratio=params.mask_ratio)
        samples, held_out, mark = _photographs(manifest_path, num_held_out=params.num_held_out)
        torch.manual_seed(params.seed)
        model = MaskedImageModel(known[encoder])
        code = code_fingerprint(DECIDING_MODULES)
        work, mark = prepare_work(
            "warm_encoder", params, mark, given={"encoder": encoder}, code=code
        )
        warmed = warm_up(
            model,
            samples,
            held_out,
            config=config,
            work=work,
            listener=lambda measures, step: run.log_metrics(measures, step=step),
        )
        leave_to_first_rank()
        _publish(warmed, reports, num_held_out=params.num_held_out)
        metadata: dict[str, Any] = {
            "role": "encoder",
            "fingerprint": mark,
            "short_side_px": params.short_side_px,
        }
        save_encoder(warmed.encoder, checkpoint, name=known[encoder], metadata=metadata)
        run.log_picture("painted.png", warmed.picture)


def _photographs(manifest_path: Path, *, num_held_out: int) -> "tuple[Samples, Samples, str]":
    """Returns images to train on, those held out evenly, and the fingerprint of both."""
    from dav2.data.manifest import read_manifest
    from dav2.training.samples import ChosenSamples, Photographs, hold_out

    manifest = read_manifest(manifest_path)
    samples = Photographs(manifest, locations())
    train, held_out = hold_out(len(samples.sample_ids), num_held_out=num_held_out)
    mark = fingerprint(manifest[["sample_id", "content_hash", "decoder"]].values.tolist())
    return ChosenSamples(samples, train), ChosenSamples(samples, held_out), mark


def _publish(warmed: "WarmedUp", reports: Path, *, num_held_out: int) -> None:
    with written_whole(reports) as folder:
        folder.mkdir()
        write_curves(warmed.curves, folder / "curves.csv")
        content = {**plain(warmed.measures), "num_samples": num_held_out}
        write_json(content, folder / "painted.json")
        Image.fromarray(warmed.picture).save(folder / "painted.png")


if __name__ == "__main__":
    level = logging.INFO if is_first_rank() else logging.WARNING
    logging.basicConfig(level=level, format="%(name)s: %(message)s")
    run("warm_encoder", main, sys.argv[1], *(Path(argument) for argument in sys.argv[2:]))
