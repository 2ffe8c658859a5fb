"""The set `studio`: rooms in Hypersim's layout."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dav2.rendering.effects import tone_mapped
from dav2.rendering.layouts import write_hypersim_frame, write_hypersim_tables
from dav2.rendering.shooting import Job, Quality, random_state, render_shots
from dav2.rendering.studio import FOV_DEG, build_room

_CANDIDATES = 20
_NEAREST_M = 0.3


def plan_studio(
    splits: dict[str, int], *, seed: int, views_per_scene: int, quality: Quality
) -> list[Job]:
    """Returns one job for each room.

    Args:
        splits: Number of rooms of each split.
        seed: Of the whole set.
        views_per_scene: Images of each room.
        quality: How finely.
    """
    names = [split for split, count in splits.items() for _ in range(count)]
    return [
        Job(number, split, seed, views_per_scene, quality) for number, split in enumerate(names)
    ]


def render_studio(job: Job, folder: Path) -> dict[str, Any]:
    """Writes a room's frames and returns their names and split."""
    rng = random_state(job, "studio")
    room = build_room(rng, num_views=_CANDIDATES)
    scene = f"ai_{job.number // 10 + 1:03d}_{job.number % 10 + 1:03d}"
    seed = int(rng.integers(1 << 30))
    frames = []
    for index, frame in enumerate(render_shots(job, room, nearest_m=_NEAREST_M, seed=seed)):
        write_hypersim_frame(
            folder,
            scene=scene,
            frame=index,
            image=tone_mapped(frame.colour, exposure=1.15),
            distance=frame.distance,
            entity=frame.entity,
        )
        frames.append([scene, index, job.split])
    return {"frames": frames}


def finish_studio(folder: Path, records: Sequence[dict[str, Any]], quality: Quality) -> None:
    """Writes the tables of splits and cameras."""
    frames = [(row[0], row[1], row[2]) for record in records for row in record["frames"]]
    write_hypersim_tables(
        folder,
        frames,
        fov_deg=FOV_DEG,
        height=quality.height_px,
        width=quality.width_px,
    )
