"""Triangle meshes: their parts, their placing, and flat pieces.

Axes: V vertices, F faces, N pieces. Lengths in metres, z up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import SupportsFloat

import numpy as np
from jaxtyping import Float64, Int64, Num

Vector = Sequence[SupportsFloat] | Num[np.ndarray, "3"]


@dataclass(frozen=True, slots=True)
class Mesh:
    """Triangles with a normal and a texture position at every vertex."""

    vertices: Float64[np.ndarray, "V 3"]
    normals: Float64[np.ndarray, "V 3"]
    uv: Float64[np.ndarray, "V 2"]
    """Position on the surface in metres; materials say how large their texture is."""
    faces: Int64[np.ndarray, "F 3"]


def merge(meshes: Sequence[Mesh]) -> Mesh:
    """Returns all triangles as one mesh.

    Raises:
        ValueError: If there is none.
    """
    if not meshes:
        raise ValueError("merge: expected at least one mesh, got none")
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
    return Mesh(
        vertices=np.concatenate([mesh.vertices for mesh in meshes]),
        normals=np.concatenate([mesh.normals for mesh in meshes]),
        uv=np.concatenate([mesh.uv for mesh in meshes]),
        faces=np.concatenate(
            [mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)]
        ),
    )


def placed(
    mesh: Mesh,
    position: Vector = (0.0, 0.0, 0.0),
    *,
    yaw_deg: float = 0.0,
    pitch_deg: float = 0.0,
    roll_deg: float = 0.0,
    scale: float = 1.0,
) -> Mesh:
    """Returns a mesh scaled, turned about x (roll), y (pitch) and z (yaw), then moved."""
    turn = rotation(yaw_deg=yaw_deg, pitch_deg=pitch_deg, roll_deg=roll_deg)
    return Mesh(
        vertices=(mesh.vertices * scale) @ turn.T + np.asarray(position, dtype=np.float64),
        normals=mesh.normals @ turn.T,
        uv=mesh.uv * scale,
        faces=mesh.faces,
    )


def rotation(
    *, yaw_deg: float = 0.0, pitch_deg: float = 0.0, roll_deg: float = 0.0
) -> Float64[np.ndarray, "3 3"]:
    """Returns the matrix that turns about x (roll), then y (pitch), then z (yaw)."""
    a, b, c = np.deg2rad([yaw_deg, pitch_deg, roll_deg])
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(c), -np.sin(c)], [0, np.sin(c), np.cos(c)]])
    return np.asarray(about_z @ about_y @ about_x, dtype=np.float64)


def quad(corner: Vector, edge_u: Vector, edge_v: Vector) -> Mesh:
    """Returns a parallelogram that faces `edge_u` x `edge_v`."""
    return cards(
        np.array([corner], dtype=np.float64) + (np.asarray(edge_u) + np.asarray(edge_v)) / 2,
        np.array([edge_u], dtype=np.float64) / 2,
        np.array([edge_v], dtype=np.float64) / 2,
    )


def cards(
    centres: Float64[np.ndarray, "N 3"],
    half_u: Float64[np.ndarray, "N 3"],
    half_v: Float64[np.ndarray, "N 3"],
) -> Mesh:
    """Returns one parallelogram for each centre: leaves, blades, sheets.

    Args:
        centres: Middle of each.
        half_u: From the middle to the edge along the first texture axis.
        half_v: Same along the second.
    """
    num = len(centres)
    signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=np.float64)
    vertices = (
        centres[:, None]
        + signs[None, :, :1] * half_u[:, None]
        + signs[None, :, 1:] * half_v[:, None]
    )
    normal = np.cross(half_u, half_v)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)
    lengths = np.stack([np.linalg.norm(half_u, axis=-1), np.linalg.norm(half_v, axis=-1)], axis=-1)
    uv = (signs[None] + 1) * lengths[:, None]
    first = 4 * np.arange(num)[:, None, None]
    faces = first + np.array([[0, 1, 2], [0, 2, 3]])[None]
    return Mesh(
        vertices=vertices.reshape(-1, 3),
        normals=np.repeat(normal, 4, axis=0),
        uv=uv.reshape(-1, 2),
        faces=faces.reshape(-1, 3).astype(np.int64),
    )


def box(size: Vector, centre: Vector = (0.0, 0.0, 0.0)) -> Mesh:
    """Returns a box with outward faces, the middle of its base at `centre`."""
    half = np.asarray(size, dtype=np.float64) / 2
    middle = np.asarray(centre, dtype=np.float64) + np.array([0.0, 0.0, half[2]])
    x, y, z = np.diag(half)
    # (outward, u, v) with u x v = outward; walls have v upwards.
    sides = [(x, y, z), (-x, -y, z), (y, -x, z), (-y, x, z), (z, x, y), (-z, x, -y)]
    return cards(
        np.stack([middle + outward for outward, _, _ in sides]),
        np.stack([u for _, u, _ in sides]),
        np.stack([v for _, _, v in sides]),
    )
