"""Samples to train on, made from a seed: as tensors in memory, or as shards on a disk.

Axes: H height, W width (pixels), 3 colours.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float32, UInt8
from PIL import Image

from dav2.data.images import encode_jpeg
from dav2.data.shards import INDEX_SCHEMA, ShardWriter, write_index
from dav2.labeling.codec import encode_label
from dav2.training.samples import TrainingSample

_NUM_KEPT = 8


class GeneratedSamples:
    """Samples that cost nothing to read: a few arrays under many names."""

    def __init__(self, count: int, size: tuple[int, int]) -> None:
        """Makes the arrays.

        Args:
            count: Number of samples.
            size: Height and width of image and target, pixels.
        """
        self.sample_ids = tuple(f"made-{number:06d}" for number in range(count))
        self._scenes = [scene(number, size) for number in range(min(count, _NUM_KEPT))]

    def read(self, index: int) -> TrainingSample:
        """Returns one sample."""
        image, target = self._scenes[index % len(self._scenes)]
        valid = np.ones(target.shape, bool)
        return TrainingSample(self.sample_ids[index], image, target, valid)


def scene(
    seed: int, size: tuple[int, int]
) -> tuple[UInt8[np.ndarray, "H W 3"], Float32[np.ndarray, "H W"]]:
    """Returns an image and its relative depth, smooth and noisy as photographs and labels are."""
    numbers = np.random.default_rng(seed)
    height, width = size
    coarse = Image.fromarray(numbers.integers(0, 256, (24, 32, 3), np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    image = (smooth + numbers.integers(-6, 7, smooth.shape, np.int16)).clip(0, 255)
    far = Image.fromarray(numbers.uniform(1, 9, (12, 16)).astype(np.float32))
    target = np.array(far.resize((width, height), Image.Resampling.BICUBIC))
    target += numbers.normal(0, 1e-3, target.shape).astype(np.float32)
    return image.astype(np.uint8), target.clip(0, None)


def write_shards(folder: Path, count: int, size: tuple[int, int]) -> None:
    """Writes pseudo-labels as `pseudo_label` does: JPEG of quality 95 and 16-bit PNG, one tar."""
    (folder / "shards").mkdir(parents=True)
    rows = []
    with ShardWriter(folder / "shards" / "made.tar") as writer:
        for number in range(count):
            image, target = scene(number, size)
            label = encode_label(target)
            name = f"made-{number:06d}"
            told = {"sample_id": name, "codec": "png16", "min": label.minimum, "max": label.maximum}
            spans = writer.add(
                name,
                jpeg=encode_jpeg(image, quality=95),
                label=label,
                description=json.dumps(told).encode(),
            )
            sizes = {"image_height": size[0], "image_width": size[1]}
            sizes |= {"height": size[0], "width": size[1]}
            given = {"sample_id": name, "source": "made", "shard": "made.tar", "degenerate": False}
            rows.append({**dict.fromkeys(INDEX_SCHEMA.names, 0.0), **given, **sizes, **spans})
    write_index(pd.DataFrame(rows), folder / "manifest.parquet")
