"""Skies: a gradient, clouds and a sun, for each time of day and weather.

Axes: H elevation (pixels, first row straight up), W azimuth (pixels).
"""

from typing import Literal, assert_never

import numpy as np
from jaxtyping import Float64

from dav2.rendering.scene import Sky
from dav2.rendering.textures import Colour, noise

Daytime = Literal["clear", "cloudy", "overcast", "morning", "sunset", "night"]
HEIGHT_PX, WIDTH_PX = 128, 256


def make_sky(daytime: Daytime, rng: np.random.Generator) -> Sky:
    """Returns a sky of one kind, no two alike; brightness is that of a sunlit day's, about 1.

    Args:
        daytime: Which kind.
        rng: Source of randomness.
    """
    white = np.ones(3)
    match daytime:
        case "clear":
            colours = np.array([0.16, 0.34, 0.85]), np.array([0.6, 0.8, 1.05])
            return _sky(
                rng,
                colours,
                cover=0.15,
                cloud=white * 1.1,
                height=(25.0, 65.0),
                sun=np.array([3.4, 3.1, 2.7]),
            )
        case "cloudy":
            colours = np.array([0.2, 0.36, 0.75]), np.array([0.65, 0.78, 0.95])
            return _sky(
                rng,
                colours,
                cover=rng.uniform(0.4, 0.65),
                cloud=white * 1.1,
                height=(25.0, 60.0),
                sun=np.array([2.6, 2.4, 2.1]),
            )
        case "overcast":
            colours = np.array([0.55, 0.58, 0.62]), np.array([0.85, 0.87, 0.9])
            return _sky(rng, colours, cover=1.0, cloud=white * 0.62, height=None, sun=None)
        case "morning":
            colours = np.array([0.3, 0.42, 0.72]), np.array([1.05, 0.92, 0.78])
            return _sky(
                rng,
                colours,
                cover=0.3,
                cloud=np.array([1.1, 1.0, 0.9]),
                height=(10.0, 25.0),
                sun=np.array([3.0, 2.4, 1.7]),
            )
        case "sunset":
            colours = np.array([0.2, 0.22, 0.45]), np.array([1.25, 0.6, 0.28])
            return _sky(
                rng,
                colours,
                cover=0.45,
                cloud=np.array([1.0, 0.5, 0.4]),
                height=(4.0, 12.0),
                sun=np.array([2.6, 1.4, 0.6]),
            )
        case "night":
            colours = np.array([0.004, 0.008, 0.03]), np.array([0.03, 0.04, 0.08])
            return _sky(
                rng,
                colours,
                cover=0.3,
                cloud=np.array([0.03, 0.03, 0.05]),
                height=(30.0, 60.0),
                sun=np.array([0.05, 0.06, 0.1]),
            )
        case _:
            assert_never(daytime)


def horizon_colour(sky: Sky) -> Colour:
    """Returns the mean radiance just above the horizon: what mist takes on."""
    return np.asarray(sky.panorama[HEIGHT_PX // 2 - 6 : HEIGHT_PX // 2].mean(axis=(0, 1)))


def _sky(
    rng: np.random.Generator,
    colours: tuple[Colour, Colour],
    *,
    cover: float,
    cloud: Colour,
    height: tuple[float, float] | None,
    sun: Colour | None,
) -> Sky:
    zenith, horizon = colours
    elevation = np.pi / 2 - np.pi * (np.arange(HEIGHT_PX)[:, None] + 0.5) / HEIGHT_PX
    azimuth = 2 * np.pi * (np.arange(WIDTH_PX) + 0.5) / WIDTH_PX
    up = np.broadcast_to(np.sin(elevation), (HEIGHT_PX, WIDTH_PX))
    share = np.clip(up, 0, 1)[..., None] ** 0.55
    panorama = horizon + (zenith - horizon) * share
    thickness = _clouds(rng, elevation, azimuth, cover)[..., None]
    shading = 0.6 + 0.4 * _clouds(rng, elevation, azimuth, 0.9)[..., None]
    panorama = panorama * (1 - thickness) + cloud * shading * thickness
    # Below the horizon lies ground that no scene reaches; it lights from beneath.
    panorama = np.where(
        up[..., None] < 0, panorama[HEIGHT_PX // 2 - 1].mean(axis=0) * 0.4, panorama
    )
    if height is None or sun is None:
        return Sky(np.ascontiguousarray(panorama))
    high, around = np.deg2rad(rng.uniform(*height)), rng.uniform(0, 2 * np.pi)
    direction = np.array(
        [np.cos(high) * np.cos(around), np.cos(high) * np.sin(around), np.sin(high)]
    )
    return Sky(np.ascontiguousarray(panorama), direction, sun)


def _clouds(
    rng: np.random.Generator,
    elevation: Float64[np.ndarray, "H 1"],
    azimuth: Float64[np.ndarray, "W"],
    cover: float,
) -> Float64[np.ndarray, "H W"]:
    """Returns how thick clouds are, on a plane overhead seen in perspective."""
    plane = noise(rng, roughness=1.45, side=256)
    reach = np.cos(elevation) / np.maximum(np.sin(elevation), 0.04)
    row = (reach * np.sin(azimuth) * 22).astype(np.int64) % 256
    column = (reach * np.cos(azimuth) * 22).astype(np.int64) % 256
    haze = np.clip(np.sin(elevation) * 6, 0, 1)
    return np.asarray(np.clip((plane[row, column] - 1 + cover) * 4, 0, 1) * haze)
