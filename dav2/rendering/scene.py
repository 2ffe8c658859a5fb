"""What a scene is made of, before any renderer sees it.

Axes: V vertices, F faces, H height, W width, S texture side. Metres, z up, linear radiance.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float64

from dav2.rendering.mesh import Mesh, Vector, placed

Finish = Literal["matte", "plastic", "satin", "metal", "mirror", "glass", "pane"]


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """How a surface looks."""

    colour: Float64[np.ndarray, "3"] | Float64[np.ndarray, "S S 3"]
    """Linear reflectance of all of it, or of one texture tile."""
    finish: Finish = "matte"
    """`glass` is a solid body, `pane` a sheet."""
    roughness: float = 0.2
    tile_m: float = 1.0
    """Side of one texture tile."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A mesh of one material."""

    mesh: Mesh
    material: Material


@dataclass(frozen=True, slots=True, eq=False)
class Light:
    """A mesh that lights the scene."""

    mesh: Mesh
    radiance: Float64[np.ndarray, "3"]


@dataclass(frozen=True, slots=True, eq=False)
class Sky:
    """Light from everywhere, and from the sun."""

    panorama: Float64[np.ndarray, "H W 3"]
    """Radiance over elevation (first row straight up) and azimuth."""
    sun_direction: Float64[np.ndarray, "3"] | None = None
    """Towards the sun, length 1."""
    sun_irradiance: Float64[np.ndarray, "3"] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A pinhole camera."""

    eye: Float64[np.ndarray, "3"]
    target: Float64[np.ndarray, "3"]
    roll_deg: float = 0.0
    fov_deg: float = 60.0
    """Full angle across the image's width."""

    def axes(self) -> Float64[np.ndarray, "3 3"]:
        """Returns the directions right, up and forward as rows."""
        forward = self.target - self.eye
        forward = forward / np.linalg.norm(forward)
        level = np.array([0.0, 0.0, 1.0])
        if abs(forward[2]) > 0.999:
            level = np.array([0.0, 1.0, 0.0])
        right = np.cross(forward, level)
        right /= np.linalg.norm(right)
        up = np.cross(right, forward)
        turn = np.deg2rad(self.roll_deg)
        return np.stack(
            [
                right * np.cos(turn) + up * np.sin(turn),
                up * np.cos(turn) - right * np.sin(turn),
                forward,
            ]
        )


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Everything that is rendered, and from where."""

    objects: list[list[Part]] = field(default_factory=list)
    """Each object's parts; its place in the list is its entity number."""
    lights: list[Light] = field(default_factory=list)
    sky: Sky | None = None
    views: list[View] = field(default_factory=list)
    """Candidate cameras, best first."""


def moved(
    parts: Sequence[Part],
    position: Vector = (0.0, 0.0, 0.0),
    *,
    yaw_deg: float = 0.0,
    pitch_deg: float = 0.0,
    roll_deg: float = 0.0,
    scale: float = 1.0,
) -> list[Part]:
    """Returns an object scaled, turned and moved."""
    return [
        Part(
            placed(
                part.mesh,
                position,
                yaw_deg=yaw_deg,
                pitch_deg=pitch_deg,
                roll_deg=roll_deg,
                scale=scale,
            ),
            part.material,
        )
        for part in parts
    ]
