"""What a program of others predicted, evaluated like a model: a folder of maps.

Axes: H height, W width (pixels).
"""

from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import pandas as pd
from pydantic import PositiveFloat, model_validator

from dav2.data.map_folder import read_map
from dav2.data.open import ManifestReader
from stages.evaluation import Predicted
from stages.evaluation_params import Domain, EvaluateParams, source_protocols
from stages.params import Params, read_document, validate

_DESCRIPTION = "maps.yaml"
_SMALLEST_DEPTH_M = np.float32(1e-6)


class MapsParams(Params):
    """What the values of a folder of maps mean: its `maps.yaml`."""

    quantity: Literal["relative_depth", "depth"]
    """`relative_depth`: inverse depth up to scale and shift, higher is closer. `depth`: metres."""
    values_per_unit: PositiveFloat
    """Stored values are divided by it: 1000 where a PNG holds millimetres."""
    domain: Domain | None
    """Of metres: where the metric protocol applies."""

    @model_validator(mode="after")
    def _domain_fits(self) -> Self:
        if (self.domain is not None) != (self.quantity == "depth"):
            raise ValueError("expected a domain of depth, and none of relative_depth")
        return self


@dataclass(frozen=True, slots=True)
class PredictedMaps:
    """A folder of `<source>/<image without suffix>.npy`, `.npz` or 16-bit `.png`."""

    folder: Path
    says: MapsParams

    def predicted(
        self,
        manifest: pd.DataFrame,
        reader: ManifestReader,
        params: EvaluateParams,
        done: Set[int],
    ) -> Iterator[list[Predicted]]:
        """Yields the maps of the rows that are not done, one at a time.

        Args:
            manifest: Of the evaluation.
            reader: Of its rows.
            params: Name the protocols.
            done: Rows to leave out.

        Raises:
            FileNotFoundError: If an image has no map.
            ValueError: If one is not of its image's size, or not finite.
        """
        domains = dict(zip(manifest["source"], manifest["domain"], strict=True))
        protocols = source_protocols(params, domains)
        before = frozenset(done)
        for row, (source, image) in enumerate(
            zip(manifest["source"], manifest["image"], strict=True)
        ):
            if row in before:
                continue
            sample = reader.read(row)
            values = read_map(
                self.folder / source,
                image,
                size=(sample.image.shape[0], sample.image.shape[1]),
                values_per_unit=self.says.values_per_unit,
            )
            if self.says.quantity == "relative_depth":
                yield [Predicted(row, sample, values)]
                continue
            is_judged = domains[source] == self.says.domain and "metric" in protocols[source]
            inverse = 1 / np.maximum(values, _SMALLEST_DEPTH_M)
            yield [Predicted(row, sample, inverse, values if is_judged else None)]


def is_maps(path: Path) -> bool:
    """Returns whether a folder holds maps rather than weights."""
    return (path / _DESCRIPTION).is_file()


def open_maps(folder: Path) -> PredictedMaps:
    """Returns a folder of maps as its `maps.yaml` describes it.

    Raises:
        ValueError: If that does not fit.
    """
    path = folder / _DESCRIPTION
    return PredictedMaps(folder, validate(read_document(path), MapsParams, where=str(path)))
