"""Paints maps.

Axes: H height, W width (pixels).
"""

import numpy as np
from jaxtyping import Float32, UInt8

# Matplotlib's inferno (CC0) at 33 even steps: perceptually uniform, dark to bright.
_COLOURS = """
000004 040312 0b0724 150b37 210c4a 2f0a5b 3d0965 4a0c6b 57106e 64156e 71196e 7d1e6d 8a226a 972766
a32c61 b0315b bc3754 c73e4c d24644 db503b e45a31 eb6628 f1731d f68013 f98e09 fb9d07 fcac11 fbbc21
f9cb35 f5db4c f2ea69 f3f68a fcffa4
"""
_NEAREST_M = np.float32(1e-3)  # a metric model may say 0, whose inverse is no number


def colour_map(
    closeness: Float32[np.ndarray, "H W"], limits: tuple[float, float] | None = None
) -> UInt8[np.ndarray, "H W 3"]:
    """Paints a map from dark (its lowest value: far) to bright (its highest: close).

    Args:
        closeness: Finite; a constant map comes out dark.
        limits: Values of the darkest and the brightest colour; None for the map's own.
    """
    anchors = np.array([list(bytes.fromhex(colour)) for colour in _COLOURS.split()], np.float64)
    steps = np.linspace(0, 1, len(anchors))
    table = np.stack([np.interp(np.linspace(0, 1, 256), steps, column) for column in anchors.T], 1)
    coloured: np.ndarray = np.rint(table).astype(np.uint8)[to_8_bits(closeness, limits)]
    return coloured


def to_8_bits(
    closeness: Float32[np.ndarray, "H W"], limits: tuple[float, float] | None = None
) -> UInt8[np.ndarray, "H W"]:
    """Returns a map in 256 even steps, 0 at its lowest value; a constant map is 0.

    Args:
        closeness: Finite.
        limits: Values of 0 and of 255, what lies outside is cut off; None for the map's own.
    """
    low, high = limits or (float(closeness.min()), float(closeness.max()))
    scaled = (closeness - low) / (high - low if high > low else 1.0)
    return np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8)


def to_closeness(
    values: Float32[np.ndarray, "H W"], *, is_metric: bool
) -> Float32[np.ndarray, "H W"]:
    """Returns what is higher where it is closer: relative depth as it is, metres inverted.

    Args:
        values: Relative depth, or metres.
        is_metric: Which of the two.
    """
    return 1 / np.maximum(values, _NEAREST_M) if is_metric else values
