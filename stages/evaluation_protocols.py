"""Protocols of evaluation: what a paper did with a dataset, one file each in `protocols/`."""

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pandas as pd
from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from dav2.data.open import DatasetName
from dav2.data.preparation import Preparation
from dav2.metrics.depth import Alignment, Crop, ImageCrop, Protocol, SkyRule
from dav2.prediction.model_input import ModelInput, Upsampling
from stages.params import Params, read_document, validate

FOLDER = Path(__file__).parents[1] / "protocols"

Averaging = Literal["image", "pixel"]
PatchMultiple = Annotated[int, Field(gt=0, multiple_of=14)]


class InputParams(Params):
    """How an image becomes what the model sees, and its map one of the image's size."""

    short_side_px: PatchMultiple | None
    """Of the whole image, never a crop; null: `evaluate.short_side_px`, or as it was trained."""
    size_px: tuple[PatchMultiple, PatchMultiple] | None
    """Height and width in place of a short side, whatever the image's aspect."""
    scale: PositiveFloat
    """Factor of the short side: V2's test-time resolution scaling."""
    preparation: Preparation | None
    """How images are resized; null: as those that the model was trained on."""
    upsampling: Upsampling
    """`aligned` with corners, as the authors' code; `centred` pixels, as most others'."""
    with_flip: bool
    """Whether the map is the mean of the image's and of the mirrored image's."""

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.size_px is not None and (self.short_side_px is not None or self.scale != 1):
            raise ValueError("expected size_px, or short_side_px and scale, got both")
        return self


class ProtocolParams(Params):
    """One protocol; `dav2.metrics.depth.Protocol` says what the fields of pixels mean."""

    paper: str
    stated: str
    """What of it the paper or its code states; the rest is our choice."""
    datasets: tuple[DatasetName, ...]
    """Readers it is for; empty: any."""
    splits: tuple[str, ...]
    """Splits it is for; empty: any."""
    num_images: PositiveInt | None
    """As many as the paper evaluates."""
    alignment: Alignment
    crop: Crop
    image_crop: ImageCrop
    min_depth_m: NonNegativeFloat
    max_depth_m: PositiveFloat | None
    sky: SkyRule
    erode_px: NonNegativeInt
    max_spread: Annotated[float, Field(gt=1)] | None
    floor_inverse_depth: PositiveFloat | None
    is_clipped: bool
    averaging: Averaging
    """`image`: each image weighs the same. `pixel`: each evaluated pixel of all images does."""
    input: InputParams

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.max_depth_m is not None and self.min_depth_m >= self.max_depth_m:
            raise ValueError(f"expected min_depth_m below max_depth_m, got {self.min_depth_m}")
        self.protocol()  # which refuses what does not fit
        return self

    def protocol(self) -> Protocol:
        """Returns the protocol as the measures take it."""
        others = {"paper", "stated", "datasets", "splits", "num_images", "averaging", "input"}
        return Protocol(**self.model_dump(exclude=others))

    def model_input(self, short_side_px: int, preparation: Preparation) -> ModelInput:
        """Returns the input as prediction takes it.

        Args:
            short_side_px: Where the protocol leaves it open.
            preparation: Likewise.
        """
        own = self.input
        wanted_px = own.scale * (own.short_side_px or short_side_px)
        return ModelInput(
            # Of a scale of 1 as given: a model of others may have been trained at any size.
            short_side_px=short_side_px if wanted_px == short_side_px else _multiple(wanted_px),
            size_px=own.size_px,
            preparation=own.preparation or preparation,
            upsampling=own.upsampling,
            with_flip=own.with_flip,
            image_crop=self.image_crop,
        )


@cache
def read_protocol(name: str) -> ProtocolParams:
    """Returns a protocol of `protocols/`.

    Args:
        name: Folder and file without suffix, as `v2/kitti`.

    Raises:
        ValueError: If there is none of this name, or it does not fit.
    """
    path = FOLDER / f"{name}.yaml"
    if name not in protocol_names():
        raise ValueError(f"expected a protocol of {', '.join(protocol_names())}, got {name!r}")
    return validate(read_document(path), ProtocolParams, where=f"protocols/{name}.yaml")


def protocol_names() -> list[str]:
    """Returns the names of all protocols, sorted."""
    paths = (path.relative_to(FOLDER).with_suffix("") for path in FOLDER.rglob("*.yaml"))
    return sorted(path.as_posix() for path in paths)


def _multiple(side_px: float) -> int:
    return max(1, round(side_px / 14)) * 14


def check_source(name: str, protocol: ProtocolParams, rows: pd.DataFrame) -> dict[str, Any]:
    """Returns the protocol as the evaluation keeps it: all fields, images met, one line of text.

    Args:
        name: Of the protocol.
        protocol: What it says.
        rows: Of one source in the evaluation manifest.

    Raises:
        ValueError: If the source is not of a dataset or split that the protocol is for.
    """
    for column, known in (("dataset", protocol.datasets), ("split", protocol.splits)):
        found = Counter(rows[column]) if known else {}
        for value in sorted(set(found) - set(known)):
            raise ValueError(
                f"protocol {name}: expected samples of {column} {' or '.join(known)}, got "
                f"{found[value]} of {value!r}"
            )
    kept = {"name": name, "num_images_here": len(rows), **protocol.model_dump(mode="json")}
    return {**kept, "says": _described(kept)}


def _described(protocol: dict[str, Any]) -> str:
    """Returns what decides a number, in one line, to stand beside it."""
    limits = f"{protocol['min_depth_m']:g} to " + (
        "the farthest truth" if protocol["max_depth_m"] is None else f"{protocol['max_depth_m']:g}"
    )
    parts = [
        f"protocol {protocol['name']}: aligned in {protocol['alignment'].replace('_', ' ')}"
        if protocol["alignment"] != "none"
        else f"protocol {protocol['name']}: not aligned",
        f"{limits} m",
    ]
    for key in ("crop", "image_crop"):
        if protocol[key] != "none":
            parts.append(f"{key.replace('_', ' ')} {protocol[key].replace('_', ' ')}")
    if protocol["floor_inverse_depth"] is not None:
        parts.append(f"floor {protocol['floor_inverse_depth']:g}/m")
    if protocol["sky"] != "exclude":
        parts.append("sky at the farthest")
    if protocol["input"]["with_flip"]:
        parts.append("mean with the mirrored image")
    parts.append(f"means over {protocol['averaging']}s")
    if protocol["num_images"] not in (None, protocol["num_images_here"]):
        parts.append(f"{protocol['num_images_here']} of its {protocol['num_images']} images")
    return ", ".join(parts)
