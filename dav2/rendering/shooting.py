"""From a scene to frames: what all sets share."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dav2.rendering.backend import LoadedScene, has_panes, load_scene
from dav2.rendering.frame import Frame, render_frame
from dav2.rendering.scene import Scene, View
from dav2.rendering.views import choose_views


@dataclass(frozen=True, slots=True)
class Quality:
    """How finely a set is rendered."""

    height_px: int
    width_px: int
    samples: int
    """Paths for each pixel."""
    max_bounces: int
    """Longest path, in segments."""


@dataclass(frozen=True, slots=True)
class Job:
    """One scene of a set."""

    number: int
    split: str
    seed: int
    num_views: int
    quality: Quality
    style: str = ""
    """Weather or kind of scene."""


def random_state(job: Job, purpose: str) -> np.random.Generator:
    """Returns the generator of a job that no other set, scene or purpose shares."""
    return np.random.default_rng([job.seed, zlib.crc32(purpose.encode()), job.number])


def shots(
    scene: Scene, num_views: int, *, nearest_m: float
) -> Iterator[tuple[View, LoadedScene, LoadedScene | None]]:
    """Yields the best views of a scene with the scene, with and without its sheets of glass."""
    loaded = load_scene(scene)
    behind = load_scene(scene, without_panes=True) if has_panes(scene) else None
    for view in choose_views(loaded, scene, num_views, nearest_m=nearest_m):
        yield view, loaded, behind


def render_shots(job: Job, scene: Scene, *, nearest_m: float, seed: int) -> Iterator[Frame]:
    """Yields the frames of a scene's best views."""
    views = shots(scene, job.num_views, nearest_m=nearest_m)
    for index, (view, loaded, behind) in enumerate(views):
        yield render_frame(
            loaded,
            view,
            height=job.quality.height_px,
            width=job.quality.width_px,
            samples=job.quality.samples,
            max_bounces=job.quality.max_bounces,
            seed=seed + index,
            behind_panes=behind,
        )
