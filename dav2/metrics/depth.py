"""Dense depth measures of one image, under a protocol that is data.

Axes: H height, W width (pixels).
"""

from dataclasses import dataclass, replace
from typing import Literal, assert_never

import numpy as np
from jaxtyping import Bool, Float

from dav2.metrics.alignment import (
    align_geometric_mean,
    align_least_absolute,
    align_least_squares,
    align_median,
)

Alignment = Literal[
    "inverse_depth", "inverse_depth_l1", "depth", "depth_l1", "log_depth", "median", "none"
]
Crop = Literal["none", "garg", "eigen_kitti", "eigen_nyu"]
ImageCrop = Literal["none", "kitti_benchmark"]
SkyRule = Literal["exclude", "farthest"]

_SMALLEST_DEPTH = 1e-6
"""What a depth below 0 becomes, which an affine fit of depth gives; as in Marigold's code."""
_CHUNK = 1 << 20
"""Pixels measured at once: the memory of one image does not grow with the number of measures."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """How a prediction is held against the truth.

    Attributes:
        alignment: Of relative depth, scale and shift in inverse depth, by least squares
            (`inverse_depth`, MiDaS) or least absolute deviations (`inverse_depth_l1`). Of depth,
            scale and shift in depth, likewise (`depth`, `depth_l1`), or one factor: the mean ratio
            in logarithms (`log_depth`), the ratio of the medians (`median`); `none`: as it stands.
        crop: Part of the image that counts, of what `image_crop` leaves.
        min_depth_m: Nearer pixels do not count; predictions are raised to it.
        max_depth_m: Farther pixels do not count; predictions are lowered to it. None: the largest
            depth evaluated in the image.
        image_crop: What the model sees; nothing else counts. `kitti_benchmark`: 352 x 1216 pixels
            at the bottom, centred.
        sky: `exclude`: sky does not count. `farthest`: it counts, at `max_depth_m`.
        erode_px: Pixels nearer than this to an unmeasured one do not count.
        max_spread: Depths above this many times the image's first percentile do not count.
        floor_inverse_depth: 1/m to which aligned inverse depth is raised. None: 1 / `max_depth_m`.
        is_clipped: Whether predictions are brought within the limits, the floor aside.
    """

    alignment: Alignment
    crop: Crop
    min_depth_m: float
    max_depth_m: float | None
    image_crop: ImageCrop = "none"
    sky: SkyRule = "exclude"
    erode_px: int = 0
    max_spread: float | None = None
    floor_inverse_depth: float | None = None
    is_clipped: bool = True

    def __post_init__(self) -> None:
        if self.sky == "farthest" and self.max_depth_m is None:
            raise ValueError("protocol: expected max_depth_m where sky is 'farthest', got none")

    @property
    def is_relative(self) -> bool:
        """Whether the alignment takes relative depth rather than depth."""
        return self.alignment in ("inverse_depth", "inverse_depth_l1")

    def without_unit(self) -> "Protocol":
        """Returns the protocol for samples whose unit is unknown: no limits in metres.

        There inverse depth is disparity up to a factor, and so is everything aligned to it.
        """
        return replace(
            self, min_depth_m=0.0, max_depth_m=None, sky="exclude", floor_inverse_depth=None
        )


@dataclass(frozen=True, slots=True)
class AlignedDepth:
    """A prediction in the unit of its target.

    Attributes:
        depth: Predicted depth within the protocol's limits, float64, positive everywhere.
        scale: Factor applied to the prediction.
        shift: Term added to the scaled prediction.
    """

    depth: Float[np.ndarray, "H W"]
    scale: float
    shift: float


def align(
    pred: Float[np.ndarray, "H W"],
    depth: Float[np.ndarray, "H W"],
    *,
    pixels: Bool[np.ndarray, "H W"],
    protocol: Protocol,
) -> AlignedDepth:
    """Returns the prediction as depth, aligned on the evaluated pixels and limited.

    Args:
        pred: Relative depth where `protocol.is_relative`, else depth.
        depth: Reference depth, metres.
        pixels: Result of `dav2.metrics.pixels.evaluated_pixels`.
        protocol: Alignment and limits.

    Raises:
        ValueError: If the alignment finds no evaluated pixel, or a prediction not finite there (in
            logarithms: not positive).
    """
    farthest = protocol.max_depth_m
    if farthest is None:
        farthest = float(depth.max(where=pixels, initial=0.0))
    pred = pred.astype(np.float64)
    target = depth
    if protocol.is_relative:
        target = np.divide(1.0, depth, out=np.zeros(depth.shape), where=pixels)
    scale, shift = _scale_and_shift(pred, target, pixels, protocol.alignment)
    del target
    pred *= scale
    pred += shift
    nearest = protocol.min_depth_m if protocol.is_clipped else 0.0
    if protocol.is_relative:
        floor = protocol.floor_inverse_depth
        lowest = 1.0 / farthest if floor is None else floor
        if floor is not None and protocol.is_clipped:
            lowest = max(lowest, 1.0 / farthest)
        ceiling = 1.0 / nearest if nearest > 0 else np.inf
        np.clip(pred, lowest, ceiling, out=pred)
        np.divide(1.0, pred, out=pred)
    else:
        smallest = max(nearest, _SMALLEST_DEPTH)
        np.clip(pred, smallest, farthest if protocol.is_clipped else np.inf, out=pred)
    return AlignedDepth(depth=pred, scale=scale, shift=shift)


def depth_errors(
    pred: Float[np.ndarray, "H W"],
    depth: Float[np.ndarray, "H W"],
    *,
    pixels: Bool[np.ndarray, "H W"],
) -> dict[str, float]:
    """Returns the measures of one image, each a mean over its evaluated pixels.

    With z the depth, z' the predicted one and e = ln z' - ln z:

    - `delta1`, `delta2`, `delta3`: share of pixels with max(z'/z, z/z') below 1.25, its square and
      its cube (Eigen et al. 2014, arXiv:1406.2283, section 4.2).
    - `abs_rel`: |z' - z| / z.
    - `abs_rel_inverse`: |1/z' - 1/z| z, the same in inverse depth; Depth Anything's authors state
      that they evaluate there. Blind to the unit, hence also AbsRel in disparity.
    - `sq_rel`: (z' - z)^2 / z, metres, as Eigen et al. have it; KITTI's server divides by z^2.
    - `rmse`: root of the mean of (z' - z)^2, metres.
    - `rmse_log`: root of the mean of e^2.
    - `rmse_inverse`: root of the mean of (1/z' - 1/z)^2, 1/km as KITTI has it.
    - `log10`: |log10 z' - log10 z|.
    - `silog`: 100 times the standard deviation of e: root of mean(e^2) - mean(e)^2, the convention
      of KITTI and ZoeDepth. Depth Anything V2's metric code halves mean(e)^2 and has no 100.
    - `log_bias`: e itself: above 0 where the prediction is too far.

    Args:
        pred: Predicted depth, positive on the evaluated pixels.
        depth: Reference depth, metres.
        pixels: True on the pixels evaluated.

    Raises:
        ValueError: If no pixel is evaluated, or a depth there is not positive and finite.
    """
    if not pixels.any():
        raise ValueError("depth errors: expected at least one evaluated pixel, got none")
    predicted, true = pred[pixels], depth[pixels]
    for name, values in (("prediction", predicted), ("target", true)):
        if not (np.isfinite(values) & (values > 0)).all():
            raise ValueError(
                f"depth errors: expected a positive finite {name}, got values from"
                f" {values.min()} to {values.max()}"
            )
    sums: dict[str, float] = {}
    count, mean, deviation = 0, 0.0, 0.0  # of e: number, mean, sum of squared deviations
    for first in range(0, predicted.size, _CHUNK):
        part = slice(first, first + _CHUNK)
        z, zt = predicted[part].astype(np.float64), true[part].astype(np.float64)
        log_error = np.log(z) - np.log(zt)
        for name, total in _sums(z, zt, log_error).items():
            sums[name] = sums.get(name, 0.0) + total
        part_mean = float(log_error.mean())
        part_deviation = float(((log_error - part_mean) ** 2).sum())
        added = count + z.size
        apart = (part_mean - mean) ** 2 * (count * z.size / added)  # Chan et al. 1979
        deviation += part_deviation + apart
        mean += (part_mean - mean) * (z.size / added)
        count = added
    errors = {name: total / count for name, total in sums.items()}
    for name in ("rmse", "rmse_log"):
        errors[name] = float(np.sqrt(errors[name]))
    errors["rmse_inverse"] = 1000.0 * float(np.sqrt(errors["rmse_inverse"]))
    return {
        **errors,
        "silog": 100.0 * float(np.sqrt(deviation / count)),
        "log_bias": mean,
    }


def _sums(
    pred: Float[np.ndarray, " N"],
    depth: Float[np.ndarray, " N"],
    log_error: Float[np.ndarray, " N"],
) -> dict[str, float]:
    """Returns the sums over pixels of what `depth_errors` takes means of."""
    ratio = np.maximum(pred / depth, depth / pred)
    difference = pred - depth
    absolute, squared = np.abs(difference), difference**2
    return {
        "delta1": float((ratio < 1.25).sum()),
        "delta2": float((ratio < 1.25**2).sum()),
        "delta3": float((ratio < 1.25**3).sum()),
        "abs_rel": float((absolute / depth).sum()),
        "abs_rel_inverse": float((absolute / pred).sum()),
        "sq_rel": float((squared / depth).sum()),
        "rmse": float(squared.sum()),
        "rmse_log": float((log_error**2).sum()),
        "rmse_inverse": float(((difference / (pred * depth)) ** 2).sum()),
        "log10": float(np.abs(log_error).sum() / np.log(10.0)),
    }


def _scale_and_shift(
    pred: Float[np.ndarray, "H W"],
    target: Float[np.ndarray, "H W"],
    pixels: Bool[np.ndarray, "H W"],
    alignment: Alignment,
) -> tuple[float, float]:
    """Returns the scale and shift of the prediction in the space of alignment."""
    match alignment:
        case "inverse_depth" | "depth":
            return align_least_squares(pred, target, valid=pixels)
        case "inverse_depth_l1" | "depth_l1":
            return align_least_absolute(pred, target, valid=pixels)
        case "log_depth":
            return align_geometric_mean(pred, target, valid=pixels), 0.0
        case "median":
            return align_median(pred, target, valid=pixels), 0.0
        case "none":
            return 1.0, 0.0
        case _:
            assert_never(alignment)
