"""One image with its depth, and what every dataset reader must offer.

Axes: H height, W width (pixels of the image as stored); h, w those of a reduced one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, UInt8


@dataclass(frozen=True, slots=True)
class Intrinsics:
    """Pinhole camera in pixels; the centre of the upper left pixel is (0.5, 0.5)."""

    fx_px: float
    fy_px: float
    cx_px: float
    cy_px: float


@dataclass(frozen=True, slots=True, eq=False)
class DepthSample:
    """One image and, where the dataset has it, its depth."""

    sample_id: str
    """Unique within the dataset; a POSIX path without suffix, or with it where that decides."""
    dataset: str
    scene: str
    image: UInt8[np.ndarray, "H W 3"]
    """Upright RGB."""
    depth: Float32[np.ndarray, "H W"] | None
    """Metres along the optical axis, +inf on sky; as the file held it where not `valid`, so it may
    be NaN there. Where `scale_known` is False: metres up to one factor. None: unlabelled."""
    valid: Bool[np.ndarray, "H W"] | None
    """True where measured; sky counts as measured."""
    sky: Bool[np.ndarray, "H W"] | None
    """True where the source says sky; None where it does not tell."""
    intrinsics: Intrinsics | None
    scale_known: bool = True

    def inverse_depth(self) -> Float32[np.ndarray, "H W"]:
        """Returns 1/m: 0 on sky and where nothing was measured.

        Raises:
            ValueError: If the sample has no depth.
        """
        if self.depth is None or self.valid is None:
            raise ValueError(f"{self.sample_id}: expected a sample with depth, got none")
        near = self.valid if self.sky is None else self.valid & ~self.sky
        inverse = np.zeros(self.depth.shape, np.float32)
        np.divide(np.float32(1), self.depth, out=inverse, where=near)
        return inverse


@dataclass(frozen=True, slots=True)
class SampleFiles:
    """The files of one sample: POSIX paths relative to the root of its dataset.

    A path may name a part of a file that holds many samples (`dav2.data.storage`).
    """

    sample_id: str
    scene: str
    image: str
    depth: str | None = None
    extra: tuple[str, ...] = ()
    """Whatever else decides what is read: masks, camera tables, annotations."""

    @property
    def is_image_alone(self) -> bool:
        """Whether nothing but the image decides what is read, so that it may come smaller."""
        return self.depth is None and not self.extra


@runtime_checkable
class Reader(Protocol):
    """Reads one dataset's own layout and does nothing else: no resizing, no scaling of values."""

    def list_samples(self, split: str) -> Iterable[SampleFiles]:
        """Returns the samples of a split: sorted by id, or one after the other if they are many.

        Raises:
            FileNotFoundError: If the root or a list that must lie there is missing.
            ValueError: If the dataset has no such split, or nothing is in it.
        """
        ...

    def read(self, files: SampleFiles) -> DepthSample:
        """Returns one sample.

        Raises:
            FileNotFoundError: If one of its files is missing.
            ValueError: If one cannot be read or does not fit the others: file, expected, got.
        """
        ...

    def read_image(self, files: SampleFiles) -> UInt8[np.ndarray, "H W 3"]:
        """Returns the sample's image alone, upright RGB; raises as `read`."""
        ...

    def read_bytes(self, path: str) -> bytes:
        """Returns the bytes of one of a sample's files, which its hashes are made of."""
        ...
