"""Dense depth measures of one image, under a protocol that is data.

Axes: H height, W width (pixels).
"""

from dataclasses import dataclass, replace
from typing import Literal, assert_never

import numpy as np
from jaxtyping import Bool, Float

from dav2.metrics.alignment import align_least_squares, align_median

Alignment = Literal["inverse_depth", "median", "none"]
Crop = Literal["none", "garg", "eigen_kitti", "eigen_nyu"]


@dataclass(frozen=True, slots=True)
class Protocol:
    """How a prediction is held against the truth. Means are per image, then over images.

    Attributes:
        alignment: `inverse_depth`: prediction is relative depth, scale and shift by least squares
            in inverse depth. `median`: prediction is depth, scaled by the ratio of the medians.
            `none`: prediction is depth in metres, as it stands.
        crop: Part of the image that counts.
        min_depth_m: Nearer pixels do not count; predictions are raised to it.
        max_depth_m: Farther pixels do not count; predictions are lowered to it, so that 1 /
            max_depth_m is the floor of inverse depth. None: the largest depth evaluated in the
            image.
    """

    alignment: Alignment
    crop: Crop
    min_depth_m: float
    max_depth_m: float | None

    def without_unit(self) -> "Protocol":
        """Returns the protocol for samples whose unit is unknown: no limits in metres.

        There inverse depth is disparity up to a factor, and so is everything aligned to it.
        """
        return replace(self, min_depth_m=0.0, max_depth_m=None)


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


def evaluated_pixels(
    depth: Float[np.ndarray, "H W"],
    valid: Bool[np.ndarray, "H W"],
    *,
    sky: Bool[np.ndarray, "H W"] | None,
    protocol: Protocol,
) -> Bool[np.ndarray, "H W"]:
    """Returns True where the protocol compares: valid, no sky, within limits and crop.

    Args:
        depth: Reference depth, metres.
        valid: True where `depth` was measured.
        sky: True on sky; None where the source does not say.
        protocol: Limits and crop.
    """
    with np.errstate(invalid="ignore"):
        pixels = np.logical_and.reduce(
            [valid, np.isfinite(depth), depth > 0, depth >= protocol.min_depth_m]
        )
        if protocol.max_depth_m is not None:
            pixels &= depth <= protocol.max_depth_m
    if sky is not None:
        pixels &= ~sky
    top, bottom, left, right = _crop_box(protocol.crop, *depth.shape)
    evaluated = np.zeros(depth.shape, dtype=bool)
    evaluated[top:bottom, left:right] = pixels[top:bottom, left:right]
    return evaluated


def align(
    pred: Float[np.ndarray, "H W"],
    depth: Float[np.ndarray, "H W"],
    *,
    pixels: Bool[np.ndarray, "H W"],
    protocol: Protocol,
) -> AlignedDepth:
    """Returns the prediction as depth, aligned on the evaluated pixels and limited.

    Args:
        pred: Relative depth for the alignment `inverse_depth`, else depth.
        depth: Reference depth, metres.
        pixels: Result of `evaluated_pixels`.
        protocol: Alignment and limits.

    Raises:
        ValueError: If the alignment finds no evaluated pixel, or a prediction not finite there.
    """
    farthest = protocol.max_depth_m
    if farthest is None:
        farthest = float(depth.max(where=pixels, initial=0.0))
    pred = pred.astype(np.float64)
    match protocol.alignment:
        case "inverse_depth":
            inverse = np.divide(1.0, depth, out=np.zeros(depth.shape), where=pixels)
            scale, shift = align_least_squares(pred, inverse, valid=pixels)
            nearest = protocol.min_depth_m
            ceiling = 1.0 / nearest if nearest > 0 else np.inf
            aligned = 1.0 / np.clip(scale * pred + shift, 1.0 / farthest, ceiling)
            return AlignedDepth(depth=aligned, scale=scale, shift=shift)
        case "median":
            scale = align_median(pred, depth, valid=pixels)
        case "none":
            scale = 1.0
        case _:
            assert_never(protocol.alignment)
    smallest = max(protocol.min_depth_m, np.finfo(np.float64).tiny)
    return AlignedDepth(depth=np.clip(scale * pred, smallest, farthest), scale=scale, shift=0.0)


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
    - `rmse`: root of the mean of (z' - z)^2, metres.
    - `log10`: |log10 z' - log10 z|.
    - `silog`: 100 times the standard deviation of e: root of mean(e^2) - mean(e)^2, the convention
      of KITTI and ZoeDepth. Depth Anything V2's metric code halves mean(e)^2 and has no 100.

    Args:
        pred: Predicted depth, positive on the evaluated pixels.
        depth: Reference depth, metres.
        pixels: True on the pixels evaluated.

    Raises:
        ValueError: If no pixel is evaluated, or a depth there is not positive and finite.
    """
    if not pixels.any():
        raise ValueError("depth errors: expected at least one evaluated pixel, got none")
    predicted, true = pred[pixels].astype(np.float64), depth[pixels].astype(np.float64)
    for name, values in (("prediction", predicted), ("target", true)):
        if not (np.isfinite(values) & (values > 0)).all():
            raise ValueError(
                f"depth errors: expected a positive finite {name}, got values from"
                f" {values.min()} to {values.max()}"
            )
    ratio = np.maximum(predicted / true, true / predicted)
    difference = predicted - true
    log_error = np.log(predicted) - np.log(true)
    return {
        "delta1": float((ratio < 1.25).mean()),
        "delta2": float((ratio < 1.25**2).mean()),
        "delta3": float((ratio < 1.25**3).mean()),
        "abs_rel": float((np.abs(difference) / true).mean()),
        "abs_rel_inverse": float((np.abs(difference) / predicted).mean()),
        "rmse": float(np.sqrt((difference**2).mean())),
        "log10": float(np.abs(log_error).mean() / np.log(10.0)),
        "silog": float(100.0 * log_error.std()),
    }


def _crop_box(crop: Crop, height: int, width: int) -> tuple[int, int, int, int]:
    """Returns top, bottom, left, right of the part that counts, as fractions rounded down.

    Garg and Eigen for KITTI as in every later evaluation; Eigen for NYU is [45:471, 41:601] of
    480 x 640.
    """
    match crop:
        case "none":
            return 0, height, 0, width
        case "garg":
            rows, columns = (0.40810811, 0.99189189), (0.03594771, 0.96405229)
        case "eigen_kitti":
            rows, columns = (0.3324324, 0.91351351), (0.0359477, 0.96405229)
        case "eigen_nyu":
            rows, columns = (45 / 480, 471 / 480), (41 / 640, 601 / 640)
        case _:
            assert_never(crop)
    return (
        int(rows[0] * height),
        int(rows[1] * height),
        int(columns[0] * width),
        int(columns[1] * width),
    )
