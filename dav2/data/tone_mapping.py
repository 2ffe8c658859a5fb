"""Hypersim's own tone mapping: linear colour to what a screen shows.

Axes: H height, W width (pixels).
"""

import numpy as np
from jaxtyping import Bool, Float32, UInt8

# scene_generate_images_tonemap.py of the authors' toolkit (apple/ml-hypersim).
_GAMMA = 1 / 2.2
_PERCENTILE = 90
_WANTED = 0.8  # brightness of that percentile, on the screen
_DARK = 1e-4  # a percentile below this would be scaled without end
_LUMA = np.array([0.3, 0.59, 0.11], np.float32)


def tone_map(
    colour: Float32[np.ndarray, "H W 3"], geometry: Bool[np.ndarray, "H W"]
) -> UInt8[np.ndarray, "H W 3"]:
    """Returns an image whose 90th percentile of brightness is 0.8 after a gamma of 1 / 2.2.

    As the authors of Hypersim recommend, in place of the previews that come with it. A pixel that
    is not finite is black; without geometry nothing is scaled.

    Args:
        colour: Linear RGB, any scale.
        geometry: True where a ray met something; the percentile is taken there.
    """
    finite = np.where(np.isfinite(colour), colour, np.float32(0))
    scale = 1.0
    if geometry.any():
        brightness = float(np.percentile((finite @ _LUMA)[geometry], _PERCENTILE))
        scale = 0.0 if brightness < _DARK else _WANTED ** (1 / _GAMMA) / brightness
    shown = np.clip(finite * np.float32(scale), 0, None) ** np.float32(_GAMMA)
    levels: UInt8[np.ndarray, "H W 3"] = np.rint(np.clip(shown, 0, 1) * 255).astype(np.uint8)
    return levels
