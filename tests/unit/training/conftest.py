"""Small samples and configurations for the tests of training."""

import numpy as np
import pytest

from dav2.training.augment import AugmentConfig
from dav2.training.fit import FitConfig
from dav2.training.module import LossConfig
from dav2.training.samples import TrainingSample
from dav2.training.steps import OptimiserConfig
from dav2.training.validation import ValidationConfig


class Discs:
    """Discs before a wall; how close one is shows in its colour."""

    def __init__(self, count, *, first=0, height=42, width=56, metres=False, pseudo=True):
        self.count, self.first = count, first
        self.height, self.width, self.metres = height, width, metres
        self.pseudo, self.reads = pseudo, []

    @property
    def sample_ids(self):
        return tuple(f"disc-{self.first + index}" for index in range(self.count))

    def read(self, index):
        self.reads.append(index)
        numbers = np.random.default_rng(self.first + index)
        rows, columns = np.mgrid[: self.height, : self.width]
        inverse = np.full((self.height, self.width), 0.1, np.float32)
        for closeness in np.sort(numbers.uniform(0.2, 1.0, 4)):
            row, column = numbers.uniform(0, self.height), numbers.uniform(0, self.width)
            inverse[(rows - row) ** 2 + (columns - column) ** 2 < 15**2] = closeness
        image = np.stack([inverse * 255, 200 - inverse * 150, np.full_like(inverse, 90)], axis=2)
        target = 1 / inverse if self.metres else inverse
        valid = np.ones(inverse.shape, bool)
        name, image = self.sample_ids[index], image.astype(np.uint8)
        return TrainingSample(name, image, target, valid, pseudo=self.pseudo)


@pytest.fixture
def discs():
    return Discs


@pytest.fixture
def augment():
    return small_augment


@pytest.fixture
def fit_config():
    return small_config


def small_augment(**changes):
    given = {"short_side_px": 42, "crops_px": ((28, 42),), "max_scale": 1.3}
    return AugmentConfig(**{**given, **changes})


def small_run(*, num_steps=6):
    """What every training states: the fields of `RunConfig`."""
    return {
        "name": "test",
        "seed": 3,
        "optimiser": OptimiserConfig(
            num_steps=num_steps,
            encoder_lr=1e-3,
            decoder_lr=2e-3,
            schedule="cosine",
            warmup_steps=2,
            clip_norm=1.0,
            average_decay=0.9,
        ),
        "augment": small_augment(
            jitter_probability=0.8,
            brightness=0.3,
            hue=0.1,
            blur_probability=0.5,
            blur_sigma_px=(0.1, 1.0),
        ),
        "batch_size": 3,
        "accumulate": 1,
        "precision": "float32",
        "device": "cpu",
        "num_threads": 1,
        "num_workers": 0,
        "memory_limit_bytes": 10**8,
        "log_every_steps": 4,
        "checkpoint_every_steps": 2,
    }


def small_config(*, num_steps=6, max_depth_m=None, **changes):
    target = "inverse_depth" if max_depth_m is None else "depth"
    given = small_run(num_steps=num_steps) | {
        "losses": LossConfig(target, gradient_weight=0.5, trim_fraction=0.1),
        "validation": ValidationConfig(
            every_steps=3,
            short_side_px=42,
            batch_size=2,
            keep_best=False,
            max_depth_m=max_depth_m,
        ),
    }
    return FitConfig(**given | changes)
