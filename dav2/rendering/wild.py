"""The wild domain: which kind of scene, under which light, seen how.

Metres, z up.
"""

from dataclasses import dataclass
from typing import Literal, assert_never, get_args

import numpy as np

from dav2.rendering import landscapes, still_life
from dav2.rendering.effects import Medium
from dav2.rendering.scene import Scene
from dav2.rendering.sky import Daytime, horizon_colour, make_sky

Kind = Literal[
    "tabletop",
    "hall",
    "glasshouse",
    "garden",
    "valley",
    "yard",
    "aerial",
    "lattice",
    "storm",
    "seabed",
    "drawing",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
SCENARIOS: dict[Kind, str] = {
    "tabletop": "object",
    "hall": "indoor",
    "glasshouse": "transparent_reflective",
    "garden": "outdoor",
    "valley": "outdoor",
    "yard": "outdoor",
    "aerial": "aerial",
    "lattice": "thin_structures",
    "storm": "adverse_style",
    "seabed": "underwater",
    "drawing": "non_real",
}
"""Folder names of DA-2K; `thin_structures` is ours."""


@dataclass(frozen=True, slots=True, eq=False)
class WildScene:
    """A scene and what the air or water before it does to the picture."""

    scene: Scene
    kind: Kind
    indoors: bool
    medium: Medium
    drawn: bool = False
    """Shown in flat inks instead of path-traced light."""
    exposure: float = 1.0


def build_wild(rng: np.random.Generator, kind: Kind, *, num_views: int) -> WildScene:
    """Returns a scene of one kind.

    Args:
        rng: Decides everything.
        kind: Which family.
        num_views: Number of candidate cameras.
    """
    day: tuple[Daytime, ...] = ("clear", "cloudy", "cloudy", "morning", "sunset", "overcast")
    sky = make_sky(day[rng.integers(len(day))], rng)
    clear = Medium()
    match kind:
        case "tabletop":
            return WildScene(still_life.tabletop(rng, num_views=num_views), kind, True, clear)
        case "hall":
            return WildScene(still_life.hall(rng, num_views=num_views), kind, True, clear)
        case "glasshouse":
            scene = still_life.glasshouse(rng, sky, num_views=num_views)
            return WildScene(scene, kind, scene.sky is None, clear)
        case "lattice":
            scene = still_life.lattice(rng, sky, num_views=num_views)
            return WildScene(scene, kind, scene.sky is None, clear)
        case "garden":
            haze = Medium(horizon_colour(sky), rng.uniform(0, 0.004))
            return WildScene(landscapes.garden(rng, sky, num_views=num_views), kind, False, haze)
        case "valley":
            haze = Medium(horizon_colour(sky), rng.uniform(0.0005, 0.004))
            return WildScene(landscapes.valley(rng, sky, num_views=num_views), kind, False, haze)
        case "yard":
            return WildScene(landscapes.yard(rng, sky, num_views=num_views), kind, False, clear)
        case "aerial":
            haze = Medium(horizon_colour(sky), rng.uniform(0, 0.002))
            return WildScene(landscapes.aerial(rng, sky, num_views=num_views), kind, False, haze)
        case "storm":
            return _storm(rng, num_views)
        case "seabed":
            water = np.array([0.04, 0.3, 0.4]) * rng.uniform((0.3, 0.5, 0.4), (1.2, 1.2, 1.4))
            medium = Medium(water, rng.uniform(0.03, 0.08), specks=rng.uniform(0, 0.5))
            scene = landscapes.seabed(rng, water, num_views=num_views)
            return WildScene(scene, kind, False, medium, exposure=0.5)
        case "drawing":
            maker = (landscapes.garden, landscapes.yard, landscapes.aerial)[rng.integers(3)]
            return WildScene(maker(rng, sky, num_views=num_views), kind, False, clear, drawn=True)
        case _:
            assert_never(kind)


def _storm(rng: np.random.Generator, num_views: int) -> WildScene:
    """Returns a landscape in fog, rain, snow or at night."""
    maker = (landscapes.garden, landscapes.yard, landscapes.valley)[rng.integers(3)]
    weather = int(rng.integers(4))
    sky = make_sky("night" if weather == 3 else "overcast", rng)
    scene = maker(rng, sky, num_views=num_views)
    mist = horizon_colour(sky)
    match weather:
        case 0:
            medium = Medium(mist, rng.uniform(0.02, 0.06))
        case 1:
            medium = Medium(mist * 0.8, rng.uniform(0.005, 0.02), streaks=rng.uniform(0.4, 1.0))
        case 2:
            medium = Medium(mist, rng.uniform(0.01, 0.03), specks=rng.uniform(0.5, 1.0))
        case _:
            medium = Medium(mist, rng.uniform(0.0, 0.01))
            scene = landscapes.with_lanterns(rng, scene)
    return WildScene(scene, "storm", False, medium)
