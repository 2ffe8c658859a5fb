"""The sets `wild` (photographs only) and `wild_eval` (held-out scenes of it, with depth).

Axes: H height, W width (pixels).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Float32, UInt8

from dav2.data.files import write_json
from dav2.rendering.backend import LoadedScene
from dav2.rendering.camera_marks import (
    Marks,
    bent_rays,
    draw_marks,
    photographed,
    resampled,
    wide_camera,
)
from dav2.rendering.effects import drawn, through_medium
from dav2.rendering.frame import cast_rays, pixel_rays, planar_depth, render_frame, surface_look
from dav2.rendering.layouts import write_diode_view, write_jpeg
from dav2.rendering.pairs import balanced_annotations, draw_pairs
from dav2.rendering.scene import View
from dav2.rendering.shooting import Job, Quality, random_state, shots
from dav2.rendering.textures import hsv
from dav2.rendering.wild import KINDS, SCENARIOS, Kind, WildScene, build_wild

_CANDIDATES = 16
_NEAREST_M = 0.15


@dataclass(frozen=True, slots=True, eq=False)
class Photograph:
    """A picture with its truth."""

    image: UInt8[np.ndarray, "H W 3"]
    """Upright."""
    depth: Float32[np.ndarray, "H W"]
    """Planar metres along the very rays of the picture; inf for the sky."""
    marks: Marks


def plan_wild(num_scenes: int, *, seed: int, views_per_scene: int, quality: Quality) -> list[Job]:
    """Returns a job for each scene; the kinds take turns.

    Args:
        num_scenes: How many.
        seed: Of the whole set.
        views_per_scene: Photographs of each.
        quality: How finely; the cameras decide the size themselves.
    """
    return [
        Job(number, "all", seed, views_per_scene, quality, KINDS[number % len(KINDS)])
        for number in range(num_scenes)
    ]


def render_wild(job: Job, folder: Path) -> dict[str, Any]:
    """Writes a scene's photographs as JPEG files, some stored turned."""
    for index, (_, photograph) in enumerate(_photographs(job, "wild")):
        name = f"IMG_{job.number * job.num_views + index:05d}.jpg"
        marks = photograph.marks
        write_jpeg(
            folder / name,
            photograph.image,
            quality=marks.quality,
            orientation=marks.orientation,
        )
    return {}


def render_wild_eval(job: Job, folder: Path) -> dict[str, Any]:
    """Writes a held-out scene's photographs with depth and for point pairs; returns candidates."""
    candidates = {}
    for index, (wild, photograph) in enumerate(_photographs(job, "wild_eval")):
        place = "indoors" if wild.indoors else "outdoor"
        scan = f"scene_{job.number:05d}/scan_{index:05d}"
        stem = f"val/{place}/{scan}/{job.number:05d}_{index:05d}_{place}_000_000"
        # Farther than 3.5 lengths of its mist, nothing can be told: as if not measured.
        limit_m = 3.5 / max(wild.medium.density, 0.01)
        seen = np.isfinite(photograph.depth) & (photograph.depth < limit_m)
        write_diode_view(folder, stem, image=photograph.image, depth=photograph.depth, valid=seen)
        scenario = SCENARIOS[wild.kind]
        path = f"images/{scenario}/{wild.kind}_{job.number:03d}_{index}.jpg"
        write_jpeg(folder / "DA-2K" / path, photograph.image, quality=photograph.marks.quality)
        candidates[path] = draw_pairs(
            photograph.depth,
            seen,
            random_state(job, f"pairs {index}"),
            thin=wild.kind == "lattice",
        )
    return {"candidates": candidates}


def finish_wild_eval(
    folder: Path, records: Sequence[dict[str, Any]], *, pairs_per_image: int
) -> None:
    """Writes the balanced annotations; removes the copies of images that got no pair."""
    candidates = {path: found for record in records for path, found in record["candidates"].items()}
    annotations = balanced_annotations(candidates, pairs_per_image=pairs_per_image)
    for path in candidates.keys() - annotations.keys():
        (folder / "DA-2K" / path).unlink()
    write_json(annotations, folder / "DA-2K" / "annotations.json")


def _photographs(job: Job, purpose: str) -> Iterator[tuple[WildScene, Photograph]]:
    rng = random_state(job, purpose)
    wild = build_wild(rng, cast(Kind, job.style), num_views=_CANDIDATES)
    for view, loaded, behind in shots(wild.scene, job.num_views, nearest_m=_NEAREST_M):
        marks = draw_marks(rng, job.quality.height_px * job.quality.width_px)
        rays = bent_rays(marks, view.fov_deg)
        if wild.drawn:
            radiance = _draw(rng, loaded, view, marks)
        else:
            radiance = _light(rng, wild, (view, loaded, behind), job.quality, marks)
            marks = replace(marks, exposure=marks.exposure * wild.exposure)
        flat = rays.reshape(-1, 3)
        depth = planar_depth(cast_rays(loaded, view, flat), flat).reshape(marks.shape_px)
        yield wild, Photograph(photographed(radiance, marks, rng), depth, marks)


def _light(
    rng: np.random.Generator,
    wild: WildScene,
    shot: tuple[View, LoadedScene, LoadedScene | None],
    quality: Quality,
    marks: Marks,
) -> Float32[np.ndarray, "H W 3"]:
    """Returns the path-traced light behind the lens."""
    view, loaded, behind = shot
    rays = bent_rays(marks, view.fov_deg)
    height, width, fov_deg = wide_camera(rays, view.fov_deg)
    if marks.bend == 0:
        height, width, fov_deg = *marks.shape_px, view.fov_deg
    frame = render_frame(
        loaded,
        View(view.eye, view.target, view.roll_deg, fov_deg),
        height=height,
        width=width,
        samples=quality.samples,
        max_bounces=quality.max_bounces,
        seed=int(rng.integers(1 << 30)),
        behind_panes=behind,
    )
    light = through_medium(frame.colour, frame.distance, wild.medium, rng)
    return light if marks.bend == 0 else resampled(light, rays, fov_deg)


def _draw(
    rng: np.random.Generator, loaded: LoadedScene, view: View, marks: Marks
) -> Float32[np.ndarray, "H W 3"]:
    """Returns the scene in flat inks, drawn at twice the size and averaged."""
    height, width = marks.shape_px
    fine = (2 * height, 2 * width)
    rays = pixel_rays(*fine, view.fov_deg)
    half = np.tan(np.deg2rad(view.fov_deg) / 2)
    rays[..., :2] *= 1 + marks.bend * (rays[..., :2] ** 2).sum(axis=-1, keepdims=True) / half**2
    flat = rays.reshape(-1, 3)
    hits = cast_rays(loaded, view, flat)
    albedo, normal = surface_look(loaded, view, flat, hits)
    light = np.array([0.4, 0.3, 0.85])
    picture = drawn(
        albedo.reshape(*fine, 3),
        normal.reshape(*fine, 3),
        planar_depth(hits, flat).reshape(fine),
        light=light / np.linalg.norm(light),
        paper=hsv(rng.random(), rng.uniform(0.05, 0.4), 0.95),
    )
    mean = picture.reshape(height, 2, width, 2, 3).mean(axis=(1, 3))
    return np.asarray(mean, dtype=np.float32)
