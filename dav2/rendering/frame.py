"""One frame of a scene: path-traced colour, and depth cast through every pixel's centre.

Axes: H height, W width (pixels), N pixels.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64

from dav2.rendering.backend import LoadedScene, load_sensor, mitsuba
from dav2.rendering.scene import Material, View


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """What one camera sees."""

    colour: Float32[np.ndarray, "H W 3"]
    """Linear radiance, denoised."""
    depth: Float32[np.ndarray, "H W"]
    """Planar depth, metres; inf where nothing is hit. Glass and mirrors have their own."""
    distance: Float32[np.ndarray, "H W"]
    """Along the ray, metres; inf where nothing is hit."""
    entity: Int32[np.ndarray, "H W"]
    """Number of the object; -1 where nothing is hit."""


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """What single rays hit first."""

    distance: Float64[np.ndarray, "N"]
    """Along the ray, metres; inf where nothing is hit."""
    shape: Int64[np.ndarray, "N"]
    """Place among the scene's shapes; -1 where nothing is hit."""
    face: Int64[np.ndarray, "N"]
    """Place among the shape's faces."""


def render_frame(
    loaded: LoadedScene,
    view: View,
    *,
    height: int,
    width: int,
    samples: int,
    max_bounces: int,
    seed: int,
    behind_panes: LoadedScene | None = None,
) -> Frame:
    """Returns colour and exact depth of one view.

    Args:
        loaded: The scene.
        view: The camera.
        height: Pixels.
        width: Pixels.
        samples: Paths for each pixel; a square number suits the sampler.
        max_bounces: Longest path, in segments.
        seed: Of the paths.
        behind_panes: The scene without its sheets of glass: what denoising should keep sharp.
    """
    mi = mitsuba()
    from mitsuba_oidn import denoise

    rays = pixel_rays(height, width, view.fov_deg).reshape(-1, 3)
    hits = cast_rays(loaded, view, rays)
    guide = hits if behind_panes is None else cast_rays(behind_panes, view, rays)
    albedo, normal = surface_look(behind_panes or loaded, view, rays, guide)
    sensor = load_sensor(view, height=height, width=width, samples=samples)
    integrator = mi.load_dict({"type": "path", "max_depth": max_bounces})
    noisy = np.array(mi.render(loaded.handle, sensor=sensor, integrator=integrator, seed=seed))
    # A lone path that found a small light through glass would survive denoising as a blot.
    noisy = np.minimum(np.nan_to_num(noisy, posinf=0.0), 12.0 * float(np.mean(noisy)) + 1e-3)
    colour = denoise(
        np.ascontiguousarray(noisy, dtype=np.float32),
        albedo.reshape(height, width, 3),
        normal.reshape(height, width, 3),
        hdr=True,
    )
    entities = np.array([*loaded.entities, -1], dtype=np.int32)
    return Frame(
        colour=np.asarray(colour, dtype=np.float32),
        depth=planar_depth(hits, rays).reshape(height, width),
        distance=hits.distance.reshape(height, width).astype(np.float32),
        entity=entities[hits.shape].reshape(height, width),
    )


def cast_rays(loaded: LoadedScene, view: View, rays: Float64[np.ndarray, "N 3"]) -> Hits:
    """Returns what rays from a camera's eye hit first.

    A loop over rays: the `aov` integrator searches all shapes at every hit and takes longer.

    Args:
        loaded: The scene.
        view: The camera.
        rays: Directions in its own axes (right, up, forward), any length.
    """
    mi = mitsuba()
    origin = mi.Point3f(*(float(value) for value in view.eye))
    distance = np.full(len(rays), np.inf)
    shape = np.full(len(rays), -1, dtype=np.int64)
    face = np.zeros(len(rays), dtype=np.int64)
    # Mitsuba returns the very objects that the loaded scene holds.
    place = {id(entry): index for index, entry in enumerate(loaded.shapes)}
    intersect, make_ray = loaded.handle.ray_intersect_preliminary, mi.Ray3f
    for index, direction in enumerate((_unit(rays) @ view.axes()).tolist()):
        hit = intersect(make_ray(origin, direction))
        if hit.is_valid():
            distance[index] = hit.t
            shape[index] = place[id(hit.shape)]
            face[index] = hit.prim_index
    return Hits(distance, shape, face)


def planar_depth(hits: Hits, rays: Float64[np.ndarray, "N 3"]) -> Float32[np.ndarray, "N"]:
    """Returns depth along the optical axis, metres; inf where nothing is hit."""
    cosine = _unit(rays)[:, 2]
    return np.where(np.isinf(hits.distance), np.inf, hits.distance * cosine).astype(np.float32)


def surface_look(
    loaded: LoadedScene, view: View, rays: Float64[np.ndarray, "N 3"], hits: Hits
) -> tuple[Float32[np.ndarray, "N 3"], Float32[np.ndarray, "N 3"]]:
    """Returns reflectance and shading normal of what rays hit, as the denoiser wants them.

    Args:
        loaded: The scene.
        view: The camera.
        rays: Directions in its own axes.
        hits: What they hit.
    """
    albedo = np.zeros((len(rays), 3), dtype=np.float32)
    normal = np.zeros((len(rays), 3), dtype=np.float32)
    world = _unit(rays) @ view.axes()
    order = np.argsort(hits.shape, kind="stable")
    shapes, starts = np.unique(hits.shape[order], return_index=True)
    for shape, chosen in zip(shapes, np.split(order, starts[1:]), strict=True):
        if shape < 0:
            continue
        part = loaded.sources[shape]
        if part is None:
            albedo[chosen] = 1
            continue
        corners = part.mesh.faces[hits.face[chosen]]
        point = view.eye + hits.distance[chosen, None] * world[chosen]
        weights = _barycentric(part.mesh.vertices[corners], point)
        smooth = (part.mesh.normals[corners] * weights[..., None]).sum(axis=1)
        away = (smooth * world[chosen]).sum(axis=1, keepdims=True) > 0
        normal[chosen] = np.where(away, -smooth, smooth)
        uv = (part.mesh.uv[corners] * weights[..., None]).sum(axis=1)
        albedo[chosen] = _reflectance(part.material, uv)
    return albedo, normal


def pixel_rays(height: int, width: int, fov_deg: float) -> Float64[np.ndarray, "H W 3"]:
    """Returns the direction through each pixel's centre in camera axes; its depth is 1."""
    half = np.tan(np.deg2rad(fov_deg) / 2)
    x = (2 * (np.arange(width) + 0.5) / width - 1) * half
    y = (1 - 2 * (np.arange(height) + 0.5) / height) * half * height / width
    grid = np.broadcast_arrays(x, y[:, None], 1.0)
    return np.ascontiguousarray(np.stack(grid, axis=-1), dtype=np.float64)


def _unit(directions: Float64[np.ndarray, "N 3"]) -> Float64[np.ndarray, "N 3"]:
    return np.asarray(directions / np.linalg.norm(directions, axis=-1, keepdims=True))


def _barycentric(
    corners: Float64[np.ndarray, "N 3 3"], point: Float64[np.ndarray, "N 3"]
) -> Float64[np.ndarray, "N 3"]:
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    offset = point - corners[:, 0]
    a, b, c = (first * first).sum(-1), (first * second).sum(-1), (second * second).sum(-1)
    d, e = (offset * first).sum(-1), (offset * second).sum(-1)
    size = np.maximum(a * c - b * b, 1e-30)
    v, w = (c * d - b * e) / size, (a * e - b * d) / size
    return np.asarray(np.clip(np.stack([1 - v - w, v, w], axis=-1), 0, 1), dtype=np.float64)


def _reflectance(
    material: Material, uv: Float64[np.ndarray, "N 2"]
) -> Float64[np.ndarray, "N 3"] | Float64[np.ndarray, "3"]:
    if material.finish in ("glass", "pane", "mirror"):
        return np.ones(3)
    if material.colour.ndim == 1:
        return np.asarray(np.clip(material.colour, 0, 1), dtype=np.float64)
    side = material.colour.shape[0]
    column = np.floor(uv[:, 0] / material.tile_m % 1.0 * side).astype(np.int64) % side
    row = np.floor(-uv[:, 1] / material.tile_m % 1.0 * side).astype(np.int64) % side
    return np.asarray(np.clip(material.colour[row, column], 0, 1), dtype=np.float64)
