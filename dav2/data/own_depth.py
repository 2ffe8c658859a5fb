"""From what the depth files of one's own folder hold to metres along the optical axis.

Axes: H height, W width (pixels).
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float32, Float64, Real

from dav2.data.arrays import decode_npy, decode_npz, decode_pfm
from dav2.data.exr import decode_exr
from dav2.data.own_options import OwnOptions
from dav2.data.png16 import decode_png16
from dav2.data.sample import Intrinsics


def decode_stored(
    data: bytes, *, suffix: str, size: tuple[int, int], options: OwnOptions, where: str
) -> Real[np.ndarray, "H W"]:
    """Returns the values of a depth file as they are, half floats as float32.

    Args:
        data: The file's bytes.
        suffix: Of its name, which tells the format.
        size: Expected height and width.
        options: What the file holds.
        where: Name of the file, for messages.

    Raises:
        ValueError: If it is no such file, of another size or kind of number, or damaged.
    """
    stored: npt.NDArray[Any]
    match suffix.lower():
        case ".png":
            stored = decode_png16(data, size=size, where=where)
        case ".npy":
            stored = decode_npy(data, size=size, kinds="fiu", where=where)
        case ".npz":
            stored = decode_npz(data, size=size, kinds="fiu", where=where)
        case ".pfm":
            stored = decode_pfm(data, size=size, where=where)
        case _:
            stored = decode_exr(data, size=size, where=where, channel=options.exr_channel)
    return stored.astype(np.float32) if stored.dtype == np.float16 else stored


def to_depth(
    stored: Real[np.ndarray, "H W"], options: OwnOptions
) -> tuple[Float32[np.ndarray, "H W"], Bool[np.ndarray, "H W"], Bool[np.ndarray, "H W"] | None]:
    """Returns depth, where it is valid, and where there is sky if the options tell.

    Args:
        stored: What the file holds.
        options: What that means; complete.

    Returns:
        Metres along the optical axis, or up to one factor where the scale is not known: infinite on
        sky, NaN where nothing was measured.
    """
    unusable = np.zeros(stored.shape, bool)
    for value in options.invalid:
        unusable |= stored == value
    sky = _sky(stored, options)
    valid = np.isfinite(stored) & (stored > 0) & ~unusable
    depth = np.full(stored.shape, np.nan, np.float32)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        depth[valid] = _metres(stored, options)[valid]
    measured = np.isfinite(depth) & (depth > 0)
    depth[~measured] = np.nan
    if sky is None:
        return depth, measured, None
    sky &= ~unusable
    depth[sky] = np.inf
    return depth, measured | sky, sky


def camera(options: OwnOptions) -> Intrinsics | None:
    """Returns the camera that the options state, if any."""
    if options.intrinsics is None:
        return None
    fx_px, fy_px, cx_px, cy_px = (float(value) for value in options.intrinsics)
    return Intrinsics(fx_px=fx_px, fy_px=fy_px, cx_px=cx_px, cy_px=cy_px)


def _sky(stored: Real[np.ndarray, "H W"], options: OwnOptions) -> Bool[np.ndarray, "H W"] | None:
    sky: Bool[np.ndarray, "H W"] | None = None
    if options.sky_value is not None:
        sky = np.equal(stored, options.sky_value)
    elif options.sky_from is not None and options.kind in ("depth", "distance"):
        sky = np.greater_equal(stored, options.sky_from)
    elif options.sky_from is not None:
        sky = np.less_equal(stored, options.sky_from)
    return sky


def _metres(stored: Real[np.ndarray, "H W"], options: OwnOptions) -> Float64[np.ndarray, "H W"]:
    assert options.scale is not None
    scaled: Float64[np.ndarray, "H W"] = stored.astype(np.float64) * options.scale
    lens = camera(options)
    if options.kind == "distance":
        assert lens is not None
        scaled *= _depth_over_distance(lens, stored.shape)
    elif options.kind == "disparity" and options.scale_known:
        assert lens is not None
        assert options.baseline_m is not None
        scaled = lens.fx_px * options.baseline_m / scaled
    elif options.kind != "depth":
        scaled = 1 / scaled
    return scaled


def _depth_over_distance(lens: Intrinsics, size: tuple[int, ...]) -> Float64[np.ndarray, "H W"]:
    """Returns what a ray's distance is multiplied by to give depth, for each pixel."""
    x = (np.arange(size[1]) + 0.5 - lens.cx_px) / lens.fx_px
    y = (np.arange(size[0]) + 0.5 - lens.cy_px) / lens.fy_px
    factor: Float64[np.ndarray, "H W"] = 1 / np.sqrt(1 + x[None] ** 2 + y[:, None] ** 2)
    return factor
