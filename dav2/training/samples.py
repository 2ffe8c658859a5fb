"""What a model learns from: images with targets, from labelled samples or from a teacher's labels.

Axes: H height, W width of the image; h, w of its target (pixels).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32, UInt8

from dav2.data.open import ManifestReader, SourceLocation
from dav2.data.shards import ShardReader
from dav2.training.label_noise import with_sensor_noise
from dav2.training.order import permuted

_NO_NOISE: Mapping[str, float] = MappingProxyType({})

_MIN_DEPTH_M = 1e-3
"""Nearer pixels are taken for errors by metric training, as in the authors' metric code."""


@dataclass(frozen=True, slots=True)
class TrainingSample:
    """An image and what a model should say of it; image and target cover the same view."""

    sample_id: str
    image: UInt8[np.ndarray, "H W 3"]
    target: Float32[np.ndarray, "h w"]
    """Inverse depth in 1/m (0 on sky), a teacher's relative depth, or depth in metres."""
    valid: Bool[np.ndarray, "h w"]
    """True where `target` counts; the target is finite there."""
    pseudo: bool = False
    """True where a teacher gave the target."""

    def num_bytes(self) -> int:
        """Returns the memory that the arrays take."""
        return self.image.nbytes + self.target.nbytes + self.valid.nbytes


@runtime_checkable
class Samples(Protocol):
    """Samples by index."""

    @property
    def sample_ids(self) -> tuple[str, ...]:
        """Names of all samples, in the order of their indices."""
        ...

    def read(self, index: int) -> TrainingSample:
        """Returns one sample.

        Raises:
            ValueError: If it cannot be read.
        """
        ...


class LabelledSamples:
    """The samples of a manifest, with measured depth."""

    def __init__(
        self,
        manifest: pd.DataFrame,
        sources: Mapping[str, SourceLocation],
        *,
        max_depth_m: float | None,
        noise: Mapping[str, float] = _NO_NOISE,
    ) -> None:
        """Opens the sources that the manifest names.

        Args:
            manifest: Rows of labelled samples.
            sources: Where each source lies.
            max_depth_m: None: targets are inverse depth, and sky counts as infinitely far. Else
                targets are metres, and sky and what lies beyond do not count.
            noise: For some sources, how faulty their depth is made (`with_sensor_noise`).
        """
        self._reader = ManifestReader(manifest, sources)
        self._ids = tuple(str(name) for name in manifest["sample_id"])
        self._max_depth_m = max_depth_m
        self._noise = [noise.get(source, 0.0) for source in manifest["source"]]

    @property
    def sample_ids(self) -> tuple[str, ...]:
        """Names of all samples, in the order of their indices."""
        return self._ids

    def read(self, index: int) -> TrainingSample:
        """Returns one sample.

        Raises:
            ValueError: If it cannot be read, has no depth, or its scale is not known where metres
                are wanted.
        """
        sample = self._reader.read(index)
        name = sample.sample_id
        if sample.depth is None or sample.valid is None:
            raise ValueError(f"{name}: expected a sample with depth, got none")
        sample = with_sensor_noise(sample, self._noise[index])
        assert sample.depth is not None
        assert sample.valid is not None
        if self._max_depth_m is None:
            return TrainingSample(name, sample.image, sample.inverse_depth(), sample.valid)
        if not sample.scale_known:
            raise ValueError(f"{name}: expected depth in metres, got depth of unknown scale")
        with np.errstate(invalid="ignore"):  # depth may be anything where it is not valid
            counts = (
                sample.valid & (sample.depth >= _MIN_DEPTH_M) & (sample.depth <= self._max_depth_m)
            )
        if sample.sky is not None:
            counts &= ~sample.sky
        target = np.where(counts, sample.depth, np.float32(0))
        return TrainingSample(name, sample.image, target, counts)


class Photographs:
    """Images alone, without a pixel that has a target."""

    def __init__(self, manifest: pd.DataFrame, sources: Mapping[str, SourceLocation]) -> None:
        """Opens the sources that the manifest names.

        Args:
            manifest: Rows of samples, with or without depth.
            sources: Where each source lies.
        """
        self._reader = ManifestReader(manifest, sources)
        self._ids = tuple(str(name) for name in manifest["sample_id"])

    @property
    def sample_ids(self) -> tuple[str, ...]:
        """Names of all samples, in the order of their indices."""
        return self._ids

    def read(self, index: int) -> TrainingSample:
        """Returns one sample; raises `ValueError` if it cannot be read."""
        image = self._reader.read_image(index)
        nothing = np.zeros((1, 1), np.float32)
        return TrainingSample(self._ids[index], image, nothing, nothing > 0)


class PseudoLabels:
    """Images labelled by a teacher; every pixel counts."""

    def __init__(self, root: Path | str) -> None:
        """Opens a folder of shards, or a copy of it in a bucket (`s3://...`).

        Raises:
            FileNotFoundError: If its index or a shard is missing.
            ValueError: If its index is damaged.
            OSError: If a bucket cannot be read.
        """
        self._reader = ShardReader(root)
        self._ids = self._reader.sample_ids

    @property
    def sample_ids(self) -> tuple[str, ...]:
        """Names of all samples, in the order of their indices."""
        return self._ids

    def read(self, index: int) -> TrainingSample:
        """Returns one sample; raises `ValueError` as `ShardReader`."""
        found = self._reader.read(index)
        everywhere = np.ones(found.relative_depth.shape, bool)
        target = found.relative_depth
        return TrainingSample(found.sample_id, found.image, target, everywhere, pseudo=True)


class ChosenSamples:
    """Some of the samples of another set."""

    def __init__(self, samples: Samples, indices: Sequence[int]) -> None:
        self._samples = samples
        self._indices = tuple(indices)

    @property
    def sample_ids(self) -> tuple[str, ...]:
        """Names of all samples, in the order of their indices."""
        names = self._samples.sample_ids
        return tuple(names[index] for index in self._indices)

    def read(self, index: int) -> TrainingSample:
        """Returns one sample; raises `ValueError` as the set it is chosen from."""
        return self._samples.read(self._indices[index])


class KeptSamples:
    """Samples that stay in memory once read, up to a limit; beyond it they are read each time."""

    def __init__(self, samples: Samples, *, limit_bytes: int) -> None:
        self._samples = samples
        self._free_bytes = limit_bytes
        self._kept: dict[int, TrainingSample] = {}

    @property
    def sample_ids(self) -> tuple[str, ...]:
        """Names of all samples, in the order of their indices."""
        return self._samples.sample_ids

    def read(self, index: int) -> TrainingSample:
        """Returns one sample; raises `ValueError` as the set it keeps."""
        if index in self._kept:
            return self._kept[index]
        sample = self._samples.read(index)
        if sample.num_bytes() <= self._free_bytes:
            self._free_bytes -= sample.num_bytes()
            self._kept[index] = sample
        return sample


def hold_out(num_samples: int, *, num_held_out: int) -> tuple[list[int], list[int]]:
    """Splits indices into those to train on and those, spread evenly, to validate on.

    Raises:
        ValueError: If less than one sample would be left for either.
    """
    if not 0 < num_held_out < num_samples:
        raise ValueError(
            f"hold out: expected more than {num_held_out} samples, of which at least one is held "
            f"out, got {num_samples}"
        )
    held_out = spread(num_samples, num_chosen=num_held_out)
    return sorted(set(range(num_samples)) - set(held_out)), held_out


def subset(num_samples: int, *, num_chosen: int, seed: int) -> list[int]:
    """Returns `num_chosen` indices below `num_samples`, sorted, the first of a permutation.

    Of two subsets of one seed the smaller is part of the larger.

    Raises:
        ValueError: If there are fewer samples.
    """
    if num_chosen > num_samples:
        raise ValueError(f"subset: expected at least {num_chosen} samples, got {num_samples}")
    return sorted(permuted(place, num_samples, seed=seed) for place in range(num_chosen))


def spread(num_samples: int, *, num_chosen: int) -> list[int]:
    """Returns at most `num_chosen` indices below `num_samples`, spread evenly."""
    chosen = min(num_chosen, num_samples)
    return [(2 * place + 1) * num_samples // (2 * chosen) for place in range(chosen)]
