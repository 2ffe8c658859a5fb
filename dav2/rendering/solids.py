"""Curved solids: turned profiles, tubes along paths, rounded blocks, rocks and terrain.

Axes: V vertices, K points of a profile or path, A around, R rows, C columns. Metres, z up.
"""

from collections.abc import Sequence
from typing import SupportsFloat

import numpy as np
from jaxtyping import Float64

from dav2.rendering.mesh import Mesh

Points = Sequence[Sequence[SupportsFloat]] | Float64[np.ndarray, "K axes"]


def lathe(profile: Points, *, segments: int = 16) -> Mesh:
    """Returns a profile turned about z.

    Args:
        profile: Radius and height of each point, from the bottom to the top; a point given twice
            makes a sharp edge.
        segments: Number of sides.
    """
    points = np.asarray(profile, dtype=np.float64)
    angle = np.linspace(0, 2 * np.pi, segments + 1)
    radius, height = points[:, :1], points[:, 1:]
    grid = np.stack(
        np.broadcast_arrays(radius * np.cos(angle), radius * np.sin(angle), height), axis=-1
    )
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    uv = np.stack(np.broadcast_arrays(angle * max(radius.mean(), 1e-3), along[:, None]), axis=-1)
    return _grid(grid, uv)


def ball(radius: float, *, segments: int = 16) -> Mesh:
    """Returns a sphere about the origin."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, segments // 2 + 1)
    profile = np.stack([np.maximum(np.cos(angle), 0) * radius, np.sin(angle) * radius], axis=-1)
    return lathe(profile.tolist(), segments=segments)


def cylinder(radius: float, height: float, *, top: float | None = None, segments: int = 14) -> Mesh:
    """Returns a closed cylinder on the ground, or a cone where `top` is another radius."""
    end = radius if top is None else top
    profile = [(0, 0), (radius, 0), (radius, 0), (end, height), (end, height), (0, height)]
    return lathe(profile, segments=segments)


def tube(
    path: Points, radius: float, *, segments: int = 6, end_radius: float | None = None
) -> Mesh:
    """Returns an open tube along a path: a rod, a cable, a rail, a branch, a ring.

    Args:
        path: Points of the middle line; the same first and last point make a ring.
        radius: Of the tube at its start.
        segments: Number of sides.
        end_radius: Of the tube at its end; as at the start by default.
    """
    points = np.asarray(path, dtype=np.float64)
    tangent = np.gradient(points, axis=0)
    if np.allclose(points[0], points[-1]):
        tangent[0] = tangent[-1] = points[1] - points[-2]
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-9)
    # One reference direction for the whole path keeps the sides from twisting.
    spread = np.abs(tangent).mean(axis=0)
    reference = np.eye(3)[int(np.argmin(spread))]
    side = np.cross(tangent, reference)
    side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-9)
    other = np.cross(tangent, side)
    angle = np.linspace(0, 2 * np.pi, segments + 1)
    radii = np.linspace(radius, radius if end_radius is None else end_radius, len(points))
    grid = points[:, None] + radii[:, None, None] * (
        side[:, None] * np.cos(angle)[:, None] - other[:, None] * np.sin(angle)[:, None]
    )
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    return _grid(grid, np.stack(np.broadcast_arrays(angle * radius, along[:, None]), axis=-1))


def rounded(size: Sequence[SupportsFloat], *, squareness: float = 0.5, segments: int = 16) -> Mesh:
    """Returns a superellipsoid on the ground.

    Args:
        size: Full lengths along x, y and z.
        squareness: 1 is a ball, towards 0 a box with round edges, 2 an octahedron.
        segments: Number of sides.
    """
    around = np.linspace(-np.pi, np.pi, segments + 1)
    up = np.linspace(-np.pi / 2, np.pi / 2, segments // 2 + 1)[:, None]
    half = np.asarray(size, dtype=np.float64) / 2
    x = _power(np.cos(up), squareness) * _power(np.cos(around), squareness)
    y = _power(np.cos(up), squareness) * _power(np.sin(around), squareness)
    z = np.broadcast_to(_power(np.sin(up), squareness), x.shape)
    grid = np.stack([x * half[0], y * half[1], (z + 1) * half[2]], axis=-1)
    uv = np.stack(np.broadcast_arrays(around * half[0], up * half[2] * 1.5), axis=-1)
    return _grid(grid, uv)


def rock(size: float, rng: np.random.Generator, *, segments: int = 14) -> Mesh:
    """Returns an irregular boulder about `size` wide, sunk a little into the ground."""
    around = np.linspace(0, 2 * np.pi, segments + 1)
    up = np.linspace(-np.pi / 2, np.pi / 2, segments // 2 + 1)[:, None]
    direction = np.stack(
        np.broadcast_arrays(np.cos(up) * np.cos(around), np.cos(up) * np.sin(around), np.sin(up)),
        axis=-1,
    )
    bumps = np.ones(direction.shape[:2])
    for strength in (0.22, 0.14, 0.08):
        wave = rng.normal(size=3) * 0.4 / strength
        bumps += strength * np.sin(direction @ wave + rng.uniform(0, 6.3))
    stretch = rng.uniform((0.8, 0.6, 0.45), (1.2, 1.0, 0.9)) * size / 2
    grid = direction * bumps[..., None] * stretch
    grid[..., 2] += stretch[2] * 0.7
    uv = np.stack(np.broadcast_arrays(around * size / 2, up * size / 2), axis=-1)
    return _grid(grid, uv)


def terrain(heights: Float64[np.ndarray, "R C"], extent_m: float) -> Mesh:
    """Returns ground of the given heights over a square of `extent_m` about the origin."""
    rows, columns = heights.shape
    y = np.linspace(-extent_m / 2, extent_m / 2, rows)[:, None]
    x = np.linspace(-extent_m / 2, extent_m / 2, columns)
    flat = np.broadcast_arrays(x, y)
    return _grid(np.stack([*flat, heights], axis=-1), np.stack(flat, axis=-1))


def _power(values: Float64[np.ndarray, "..."], exponent: float) -> Float64[np.ndarray, "..."]:
    return np.asarray(np.sign(values) * np.abs(values) ** exponent, dtype=np.float64)


def _grid(points: Float64[np.ndarray, "R C 3"], uv: Float64[np.ndarray, "R C 2"]) -> Mesh:
    rows, columns = points.shape[:2]
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    faces = np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)]).reshape(-1, 3)
    flat = np.ascontiguousarray(points, dtype=np.float64).reshape(-1, 3)
    cross = np.cross(flat[faces[:, 1]] - flat[faces[:, 0]], flat[faces[:, 2]] - flat[faces[:, 0]])
    faces = faces[np.linalg.norm(cross, axis=1) > 1e-10]
    return Mesh(
        vertices=flat,
        normals=_smooth_normals(points),
        uv=np.ascontiguousarray(uv, dtype=np.float64).reshape(-1, 2),
        faces=faces.astype(np.int64),
    )


def _smooth_normals(points: Float64[np.ndarray, "R C 3"]) -> Float64[np.ndarray, "V 3"]:
    rows, columns = points.shape[:2]
    right = np.diff(points, axis=1)
    up = np.diff(points, axis=0)
    cell = np.cross(right[:-1] + right[1:], up[:, :-1] + up[:, 1:])
    size = np.linalg.norm(cell, axis=-1, keepdims=True)
    cell = np.where(size > 1e-14, cell / np.maximum(size, 1e-14), 0)
    total = np.zeros((rows, columns, 3))
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        total[row : rows - 1 + row, column : columns - 1 + column] += cell
    if np.allclose(points[:, 0], points[:, -1]):
        total[:, 0] = total[:, -1] = total[:, 0] + total[:, -1]
    size = np.linalg.norm(total, axis=-1, keepdims=True)
    total = np.where(size > 1e-9, total / np.maximum(size, 1e-9), np.array([0.0, 0.0, 1.0]))
    return np.ascontiguousarray(total.reshape(-1, 3))
