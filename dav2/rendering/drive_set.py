"""The set `drive`: streets in Virtual KITTI 2's layout."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from dav2.rendering.drive import SKIES, Weather, build_street
from dav2.rendering.effects import Medium, through_medium, tone_mapped
from dav2.rendering.layouts import vkitti_paths, write_vkitti_frame
from dav2.rendering.scene import Sky
from dav2.rendering.shooting import Job, Quality, random_state, render_shots
from dav2.rendering.sky import horizon_colour

_CANDIDATES = 20
_NEAREST_M = 0.8


def plan_drive(
    splits: dict[str, int],
    *,
    seed: int,
    weathers_per_street: int,
    frames_per_weather: int,
    quality: Quality,
) -> list[Job]:
    """Returns a job for each street and weather; a street is in one split only.

    Args:
        splits: Number of streets of each split.
        seed: Of the whole set.
        weathers_per_street: Each street is shown under so many; all weathers take turns.
        frames_per_weather: Images of each.
        quality: How finely.
    """
    names = [split for split, count in splits.items() for _ in range(count)]
    weathers = list(SKIES)
    return [
        Job(
            number,
            split,
            seed,
            frames_per_weather,
            quality,
            weathers[(number * weathers_per_street + turn) % len(weathers)],
        )
        for number, split in enumerate(names)
        for turn in range(weathers_per_street)
    ]


def render_drive(job: Job, folder: Path) -> dict[str, Any]:
    """Writes the frames of a street under one weather and returns their names and split."""
    weather = cast(Weather, job.style)
    rng = random_state(job, "drive")
    street = build_street(rng, weather, num_views=_CANDIDATES)
    assert street.sky is not None
    medium = _medium(rng, weather, street.sky)
    scene = f"Scene{job.number + 1:02d}"
    # Each weather numbers its frames on from the one before: no two show the same place.
    first = list(SKIES).index(weather) * job.num_views
    lines = []
    seed = int(rng.integers(1 << 30))
    for index, frame in enumerate(render_shots(job, street, nearest_m=_NEAREST_M, seed=seed)):
        light = through_medium(frame.colour, frame.distance, medium, rng)
        write_vkitti_frame(
            folder,
            scene=scene,
            weather=weather,
            frame=first + index,
            image=tone_mapped(light, bright=0.75),
            depth=frame.depth,
        )
        lines.append(" ".join(vkitti_paths(scene, weather, first + index)))
    return {"split": job.split, "lines": lines}


def finish_drive(folder: Path, records: Sequence[dict[str, Any]]) -> None:
    """Writes the lists of images and depth maps of each split."""
    (folder / "splits").mkdir()
    splits: dict[str, list[str]] = {}
    for record in records:
        splits.setdefault(record["split"], []).extend(record["lines"])
    for split, lines in splits.items():
        (folder / "splits" / f"{split}.txt").write_text("\n".join(sorted(lines)) + "\n")


def _medium(rng: np.random.Generator, weather: Weather, sky: Sky) -> Medium:
    mist = horizon_colour(sky)
    match weather:
        case "fog":
            return Medium(mist, rng.uniform(0.012, 0.035))
        case "rain":
            return Medium(mist * 0.9, rng.uniform(0.004, 0.012), streaks=rng.uniform(0.3, 0.8))
        case "morning" | "sunset":
            return Medium(mist, rng.uniform(0.001, 0.004))
        case _:
            return Medium(mist, rng.uniform(0.0, 0.001))
