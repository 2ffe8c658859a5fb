"""Somebody's predictions beside their images, to compare a model without running it.

Axes: H height, W width (pixels).
A map has its image's path within a folder of its own and is one of: `.npy`, or `.npz` of one array
(float or integer), or a 16-bit greyscale PNG. It has its image's size.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Float64

from dav2.data.arrays import decode_npy, decode_npz
from dav2.data.images import MAX_PIXELS
from dav2.data.option_values import check_flag, check_number, check_text
from dav2.data.png16 import decode_png16
from dav2.data.reader import FileReader, check_measured, check_samples
from dav2.data.sample import DepthSample, SampleFiles
from dav2.data.storage import Storage

_IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
_MAP_SUFFIXES = frozenset({".npy", ".npz", ".png"})
_QUANTITIES = ("depth", "inverse_depth", "disparity")


@dataclass(frozen=True, slots=True)
class PredictionsOptions:
    """Where the maps lie and what their values mean."""

    images: str = "images"
    """Folder of the images, relative to the root."""
    maps: str = "predictions"
    """Folder of the maps, relative to the root."""
    quantity: str = "inverse_depth"
    """`depth`, `inverse_depth` or `disparity`. Relative depth, which is inverse depth up to scale
    and shift, is read as `inverse_depth`: the shift stays in it."""
    values_per_unit: float | int = 1
    """Stored values are divided by it: 1000 where a PNG holds millimetres."""
    scale_known: bool = False
    """True where the values are then metres, or 1/m."""

    def __post_init__(self) -> None:
        for name in ("images", "maps"):
            folder = getattr(self, name)
            check_text(folder, name=name)
            if {"", ".", ".."} & set(folder.split("/")):
                raise ValueError(f"{name}: expected a folder below the root, got {folder!r}")
        if self.images == self.maps:
            raise ValueError(f"maps: expected another folder than that of images, got {self.maps}")
        if self.quantity not in _QUANTITIES:
            raise ValueError(
                f"quantity: expected {' or '.join(_QUANTITIES)}, got {self.quantity!r}"
            )
        check_number(self.values_per_unit, name="values_per_unit", above=0)
        check_flag(self.scale_known, name="scale_known")
        if self.scale_known and self.quantity == "disparity":
            raise ValueError(
                "scale_known: expected false for disparity, as pixels need a baseline, got true"
            )


class Predictions(FileReader):
    """Pairs `images/<path>.<jpg, png, ...>` with `predictions/<path>.<npy, npz, png>`.

    The only split is `all`. Every image must have exactly one map: a model that failed on some
    images must not be compared on the others only; maps without an image are left out. A sample's
    id is its path without suffix. The values that a map holds come back by `inverse_depth()`, up to
    rounding; those not above zero are not valid, as they have no depth.
    """

    def __init__(
        self,
        root: Path | str | Storage,
        *,
        max_pixels: int = MAX_PIXELS,
        options: PredictionsOptions = PredictionsOptions(),
    ) -> None:
        """Prepares to read; opens nothing."""
        super().__init__(root, max_pixels=max_pixels)
        self._options = options

    def list_samples(self, split: str) -> list[SampleFiles]:
        """Returns all images with their maps; the only split is `all`."""
        next(self._storage.list_files())  # a missing root is told before a missing folder of it
        self._refuse_split(split, "all")
        maps = self._by_path(self._options.maps, _MAP_SUFFIXES)
        samples = []
        for path, image in self._by_path(self._options.images, _IMAGE_SUFFIXES).items():
            if path not in maps:
                raise ValueError(
                    f"{self._storage.where(image)}: expected a map {self._options.maps}/{path} "
                    f"({', '.join(sorted(_MAP_SUFFIXES))}), got none"
                )
            parent = PurePosixPath(path).parent
            samples.append(
                SampleFiles(
                    sample_id=path,
                    scene="" if parent == PurePosixPath() else str(parent),
                    image=image,
                    depth=maps[path],
                )
            )
        return check_samples(samples, where=self._storage.where(), split=split)

    def read(self, files: SampleFiles) -> DepthSample:
        """Returns one image with what was predicted; valid is where that is a depth."""
        image = self.read_image(files)
        assert files.depth is not None
        stored = self._stored(files.depth, (image.shape[0], image.shape[1]))
        values = stored.astype(np.float64) / self._options.values_per_unit
        depth = values if self._options.quantity == "depth" else _inverse(values)
        # Cast first: what float32 cannot hold is no depth either.
        with np.errstate(over="ignore", under="ignore"):
            metres: Float32[np.ndarray, "H W"] = depth.astype(np.float32)
        valid = np.isfinite(metres) & (metres > 0)
        check_measured(stored, valid, None, where=self._storage.where(files.depth))
        return DepthSample(
            sample_id=files.sample_id,
            dataset="predictions",
            scene=files.scene,
            image=image,
            depth=metres,
            valid=valid,
            sky=None,
            intrinsics=None,
            scale_known=self._options.scale_known,
        )

    def _stored(self, path: str, size: tuple[int, int]) -> npt.NDArray[np.generic]:
        data, where = self.read_bytes(path), self._storage.where(path)
        if path.endswith(".npy"):
            return decode_npy(data, size=size, kinds="fiu", where=where)
        if path.endswith(".npz"):
            return decode_npz(data, size=size, kinds="fiu", where=where)
        return decode_png16(data, size=size, where=where)

    def _by_path(self, folder: str, suffixes: frozenset[str]) -> dict[str, str]:
        """Returns the files below a folder by their path within it, without suffix."""
        found: dict[str, str] = {}
        for file in self._storage.list_files(folder):
            within = PurePosixPath(file.path).relative_to(folder)
            if within.suffix.lower() not in suffixes or any(
                part.startswith(".") for part in within.parts
            ):
                continue
            path = str(within.with_suffix(""))
            if path in found:
                raise ValueError(
                    f"{self._storage.where(file.path)}: expected one file of this name, whatever "
                    f"its suffix, got {found[path]} too"
                )
            found[path] = file.path
        return found


def _inverse(values: Float64[np.ndarray, "H W"]) -> Float64[np.ndarray, "H W"]:
    """Returns 1 / value, NaN where that is no depth."""
    inverse = np.full(values.shape, np.nan)
    with np.errstate(over="ignore"):
        np.divide(1, values, out=inverse, where=np.isfinite(values) & (values > 0))
    return inverse
