"""Opens a dataset by name, and the samples of a manifest by index.

Axes: H height, W width (pixels).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol, assert_never, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from dav2.data.images import MAX_PIXELS, decode_image, is_jpeg
from dav2.data.manifest import extra_files
from dav2.data.reader import NoOptions, Options, reader_options
from dav2.data.sample import DepthSample, Reader, SampleFiles
from dav2.data.storage import RememberingStorage, Storage, open_storage

_NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})

DatasetName = Literal[
    "hypersim",
    "vkitti2",
    "diode",
    "da2k",
    "folder",
    "middlebury",
    "webdataset",
    "sa1b",
    "imagenet21k",
    "open_images",
    "google_landmarks",
    "places365",
    "objects365",
    "uri_list",
    "nyuv2",
    "eth3d",
    "sintel",
    "booster",
    "predictions",
    "ddad",
    "tartanair",
    "irs",
    "blendedmvs",
    "own",
    "diw",
    "nyuv2_train",
    "kitti",
    "megadepth",
    "hrwsi",
    "bdd100k",
    "lsun",
    "diml",
]


@runtime_checkable
class _PlainReader(Protocol):
    """A class of readers without options."""

    def __call__(self, root: Storage, /, *, max_pixels: int) -> Reader: ...


def open_dataset(
    name: DatasetName,
    root: Path | str | Storage,
    *,
    max_pixels: int = MAX_PIXELS,
    options: Mapping[str, Any] = _NO_OPTIONS,
) -> Reader:
    """Returns the reader of a dataset.

    Args:
        name: Which layout lies under `root`.
        root: The dataset as published: a folder, `s3://bucket/prefix`, or opened storage.
        max_pixels: Larger images are refused by their header.
        options: Choices of this reader, as its class of options names them.

    Raises:
        ValueError: If an option is unknown or does not fit.
    """
    storage = open_storage(root)

    def chosen(kind: type[Options]) -> Options:
        return reader_options(kind, options, where=f"{storage.where()} ({name})")

    def plain(kind: _PlainReader) -> Reader:
        chosen(NoOptions)
        return kind(storage, max_pixels=max_pixels)

    match name:
        case "hypersim":
            from dav2.data.hypersim import Hypersim, HypersimOptions

            return Hypersim(storage, max_pixels=max_pixels, options=chosen(HypersimOptions))
        case "vkitti2":
            from dav2.data.vkitti2 import VirtualKitti2

            return plain(VirtualKitti2)
        case "diode":
            from dav2.data.diode import Diode

            return plain(Diode)
        case "da2k":
            from dav2.data.da2k import Da2k

            return plain(Da2k)
        case "folder":
            from dav2.data.folder import ImageFolder

            return plain(ImageFolder)
        case "middlebury":
            from dav2.data.middlebury import Middlebury

            return plain(Middlebury)
        case "webdataset":
            from dav2.data.webdataset import WebDataset, WebDatasetOptions

            return WebDataset(storage, max_pixels=max_pixels, options=chosen(WebDatasetOptions))
        case "sa1b":
            from dav2.data.sa1b import Sa1b

            return plain(Sa1b)
        case "imagenet21k":
            from dav2.data.imagenet21k import ImageNet21k

            return plain(ImageNet21k)
        case "open_images":
            from dav2.data.open_images import OpenImages, OpenImagesOptions

            return OpenImages(storage, max_pixels=max_pixels, options=chosen(OpenImagesOptions))
        case "google_landmarks":
            from dav2.data.google_landmarks import GoogleLandmarks

            return plain(GoogleLandmarks)
        case "places365":
            from dav2.data.places365 import Places365

            return plain(Places365)
        case "objects365":
            from dav2.data.objects365 import Objects365

            return plain(Objects365)
        case "uri_list":
            from dav2.data.uri_list import UriList, UriListOptions

            return UriList(storage, max_pixels=max_pixels, options=chosen(UriListOptions))
        case "nyuv2":
            from dav2.data.nyuv2 import Nyuv2, Nyuv2Options

            return Nyuv2(storage, max_pixels=max_pixels, options=chosen(Nyuv2Options))
        case "eth3d":
            from dav2.data.eth3d import Eth3d

            return plain(Eth3d)
        case "sintel":
            from dav2.data.sintel import Sintel, SintelOptions

            return Sintel(storage, max_pixels=max_pixels, options=chosen(SintelOptions))
        case "booster":
            from dav2.data.booster import Booster

            return plain(Booster)
        case "predictions":
            from dav2.data.predictions import Predictions, PredictionsOptions

            return Predictions(storage, max_pixels=max_pixels, options=chosen(PredictionsOptions))
        case "ddad":
            from dav2.data.ddad import Ddad

            return plain(Ddad)
        case "tartanair":
            from dav2.data.tartanair import TartanAir, TartanAirOptions

            return TartanAir(storage, max_pixels=max_pixels, options=chosen(TartanAirOptions))
        case "irs":
            from dav2.data.irs import Irs, IrsOptions

            return Irs(storage, max_pixels=max_pixels, options=chosen(IrsOptions))
        case "blendedmvs":
            from dav2.data.blendedmvs import BlendedMvs, BlendedMvsOptions

            return BlendedMvs(storage, max_pixels=max_pixels, options=chosen(BlendedMvsOptions))
        case "own":
            from dav2.data.own import OwnFolder
            from dav2.data.own_options import OwnOptions

            return OwnFolder(storage, max_pixels=max_pixels, options=chosen(OwnOptions))
        case "diw":
            from dav2.data.diw import Diw, DiwOptions

            return Diw(storage, max_pixels=max_pixels, options=chosen(DiwOptions))
        case "nyuv2_train":
            from dav2.data.nyuv2_train import Nyuv2Train, Nyuv2TrainOptions

            return Nyuv2Train(storage, max_pixels=max_pixels, options=chosen(Nyuv2TrainOptions))
        case "kitti":
            from dav2.data.kitti import Kitti, KittiOptions

            return Kitti(storage, max_pixels=max_pixels, options=chosen(KittiOptions))
        case "megadepth":
            from dav2.data.megadepth import MegaDepth, MegaDepthOptions

            return MegaDepth(storage, max_pixels=max_pixels, options=chosen(MegaDepthOptions))
        case "hrwsi":
            from dav2.data.hrwsi import Hrwsi

            return plain(Hrwsi)
        case "bdd100k":
            from dav2.data.bdd100k import Bdd100k, Bdd100kOptions

            return Bdd100k(storage, max_pixels=max_pixels, options=chosen(Bdd100kOptions))
        case "lsun":
            from dav2.data.lsun import Lsun

            return plain(Lsun)
        case "diml":
            from dav2.data.diml import Diml, DimlOptions

            return Diml(storage, max_pixels=max_pixels, options=chosen(DimlOptions))
        case _:
            assert_never(name)


@dataclass(frozen=True, slots=True)
class SourceLocation:
    """Where a source's files lie and which reader reads them."""

    reader: DatasetName
    root: Path | str
    """A folder, or `s3://bucket/prefix`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Choices of the reader."""

    def open(self, *, max_pixels: int = MAX_PIXELS, storage: Storage | None = None) -> Reader:
        """Returns the source's reader; raises as `open_dataset`.

        Args:
            max_pixels: Larger images are refused by their header.
            storage: The root as somebody has opened it.
        """
        return open_dataset(
            self.reader, storage or self.root, max_pixels=max_pixels, options=self.options
        )

    def where(self) -> str:
        """Returns the root's full name, as messages of the reader have it."""
        return open_storage(self.root).where()


class ChangedFileError(OSError):
    """A file is not the one that its manifest describes."""


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
        self._max_pixels = int(pixels.max()) if len(manifest) else MAX_PIXELS
        self._storages = {
            name: RememberingStorage(open_storage(sources[name].root))
            for name in sorted(set(manifest["source"]))
        }
        self._readers = {
            name: sources[name].open(max_pixels=self._max_pixels, storage=storage)
            for name, storage in self._storages.items()
        }
        columns = ["source", "sample_id", "scene", "image", "depth", "extra", "image_hash"]
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

    def read_ingested(
        self, index: int, *, at_least_px: int | None = None
    ) -> tuple[UInt8[np.ndarray, "H W 3"], bytes]:
        """Returns one row's image and the bytes of its file, read once.

        Args:
            index: Place in the manifest.
            at_least_px: Where full size is not needed: a JPEG that is a sample by itself may come
                smaller, as from `decode_image`; None for full size.

        Raises:
            ChangedFileError: If it is not the file that was ingested; else as its reader does.
        """
        reader, files, _ = self._row(index)
        row = self._rows.iloc[index]
        with self._storages[row["source"]].remembering():
            data = reader.read_bytes(files.image)
            if hashlib.sha256(data).hexdigest() != row["image_hash"]:
                raise ChangedFileError(
                    f"{files.image}: expected the file that was ingested, got one changed since"
                )
            if at_least_px is not None and is_jpeg(data) and files.is_image_alone:
                where, most = files.image, self._max_pixels
                image = decode_image(data, max_pixels=most, where=where, at_least_px=at_least_px)
                return image, data
            return reader.read_image(files), data

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
