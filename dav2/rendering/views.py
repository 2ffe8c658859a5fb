"""Chooses among candidate cameras those that see something worth learning from.

Axes: N probe rays.
"""

import numpy as np

from dav2.rendering.backend import LoadedScene
from dav2.rendering.frame import cast_rays, pixel_rays, planar_depth
from dav2.rendering.scene import Scene, View

PROBE_ROWS, PROBE_COLUMNS = 9, 12


def choose_views(
    loaded: LoadedScene, scene: Scene, num_views: int, *, nearest_m: float
) -> list[View]:
    """Returns views that stand free and see near and far things, best candidates first.

    Views that fail are still used, the least bad first, when too few are good: the number of
    images never depends on luck.

    Args:
        loaded: The scene to look into.
        scene: Its candidate cameras.
        num_views: How many to return, at most as many as there are candidates.
        nearest_m: Nothing may be nearer than this.
    """
    scored = []
    for order, view in enumerate(scene.views):
        faults = _faults(loaded, view, nearest_m)
        scored.append((faults, order, view))
        if sum(entry[0] == 0 for entry in scored) == num_views:
            break
    scored.sort(key=lambda entry: entry[:2])
    return [view for _, _, view in scored[:num_views]]


def _faults(loaded: LoadedScene, view: View, nearest_m: float) -> int:
    """Returns how many of the wishes for a view are not met."""
    rays = pixel_rays(PROBE_ROWS, PROBE_COLUMNS, view.fov_deg).reshape(-1, 3)
    hits = cast_rays(loaded, view, rays)
    depth = planar_depth(hits, rays)
    seen = depth[np.isfinite(depth)]
    if seen.size < 0.35 * depth.size:
        return 4
    low, middle, high = np.quantile(seen, [0.05, 0.5, 0.95])
    # A view of one wall or floor has hardly any depth; a camera inside a thing sees it everywhere.
    entities, counts = np.unique(np.array([*loaded.entities, -1])[hits.shape], return_counts=True)
    variety = len(entities) < 6 or counts.max() > 0.62 * len(rays)
    close = int(seen.min() < nearest_m) * 2 + int(middle < 1.5 * nearest_m)
    return close + int(high < 1.6 * low) + int(variety)
