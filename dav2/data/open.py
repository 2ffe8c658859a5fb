"""Opens a dataset by name, and the samples of a manifest by index.

Axes: H height, W width (pixels).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, assert_never

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from dav2.data.images import MAX_PIXELS
from dav2.data.manifest import extra_files
from dav2.data.sample import DepthSample, Reader, SampleFiles

DatasetName = Literal["hypersim", "vkitti2", "diode", "da2k", "folder", "middlebury"]


def open_dataset(name: DatasetName, root: Path, *, max_pixels: int = MAX_PIXELS) -> Reader:
    """Returns the reader of a dataset.

    Args:
        name: Which layout lies under `root`.
        root: Folder of the dataset as published.
        max_pixels: Larger images are refused by their header.
    """
    match name:
        case "hypersim":
            from dav2.data.hypersim import Hypersim

            return Hypersim(root, max_pixels=max_pixels)
        case "vkitti2":
            from dav2.data.vkitti2 import VirtualKitti2

            return VirtualKitti2(root, max_pixels=max_pixels)
        case "diode":
            from dav2.data.diode import Diode

            return Diode(root, max_pixels=max_pixels)
        case "da2k":
            from dav2.data.da2k import Da2k

            return Da2k(root, max_pixels=max_pixels)
        case "folder":
            from dav2.data.folder import ImageFolder

            return ImageFolder(root, max_pixels=max_pixels)
        case "middlebury":
            from dav2.data.middlebury import Middlebury

            return Middlebury(root, max_pixels=max_pixels)
        case _:
            assert_never(name)


@dataclass(frozen=True, slots=True)
class SourceLocation:
    """Where a source's files lie and which reader reads them."""

    reader: DatasetName
    root: Path


class ManifestReader:
    """Reads the samples of a manifest by index, through the reader of each row's source.

    Sample ids are those of the manifest: unique over all sources. An image larger than every one
    the manifest lists is refused: it cannot be the one that was ingested.
    """

    def __init__(self, manifest: pd.DataFrame, sources: Mapping[str, SourceLocation]) -> None:
        missing = sorted(set(manifest["source"]) - set(sources))
        if missing:
            raise ValueError(
                f"manifest: expected only sources that are located, got {', '.join(missing)}"
            )
        pixels = manifest["width"].astype("int64") * manifest["height"].astype("int64")
        max_pixels = int(pixels.max()) if len(manifest) else MAX_PIXELS
        self._readers = {
            name: open_dataset(sources[name].reader, sources[name].root, max_pixels=max_pixels)
            for name in sorted(set(manifest["source"]))
        }
        columns = ["source", "sample_id", "scene", "image", "depth", "extra"]
        self._rows = manifest[columns].reset_index(drop=True)

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, index: int) -> DepthSample:
        """Returns the sample of one row; raises as its reader does."""
        reader, files, sample_id = self._row(index)
        return replace(reader.read(files), sample_id=sample_id)

    def read_image(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """Returns the upright RGB image of one row; raises as its reader does."""
        reader, files, _ = self._row(index)
        return reader.read_image(files)

    def _row(self, index: int) -> tuple[Reader, SampleFiles, str]:
        row = self._rows.iloc[index]
        files = SampleFiles(
            sample_id=row["sample_id"],
            scene=row["scene"],
            image=row["image"],
            depth=None if pd.isna(row["depth"]) else row["depth"],
            extra=extra_files(row["extra"]),
        )
        return self._readers[row["source"]], files, row["sample_id"]
