"""The measures of one prediction: rows of `per_image.parquet` and of `pairs.parquet`.

Axes: H height, W width (pixels).
"""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Bool, Float32

from dav2.data.booster import Booster
from dav2.data.da2k import Da2k
from dav2.data.diw import Diw
from dav2.data.manifest import extra_files
from dav2.data.sample import DepthSample, SampleFiles
from dav2.metrics.boundary import boundary_scores, boundary_sharpness
from dav2.metrics.depth import AlignedDepth, Protocol, align, depth_errors
from dav2.metrics.pairs import PointPairs, correct_pairs, sample_depth_pairs, sample_sky_pairs
from dav2.metrics.pixels import evaluated_pixels, reference_depth
from dav2.metrics.surfaces import normal_errors, planarity_error
from stages.evaluation_summary import DENSE_METRICS, WITH_UNIT

PER_IMAGE = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("protocol", pa.string(), nullable=False),  # relative or metric
        pa.field("num_pixels", pa.int64(), nullable=False),  # evaluated; 0: no measure
        *(pa.field(name, pa.float64()) for name in DENSE_METRICS),
    ]
)
PAIRS = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("dataset", pa.string(), nullable=False),  # da2k or diw
        pa.field("scenario", pa.string(), nullable=False),
        pa.field("closer_row", pa.int64(), nullable=False),
        pa.field("closer_column", pa.int64(), nullable=False),
        pa.field("farther_row", pa.int64(), nullable=False),
        pa.field("farther_column", pa.int64(), nullable=False),
        pa.field("upper_is_closer", pa.int64(), nullable=False),  # 1, -1; 0: points are level
        pa.field("correct", pa.bool_(), nullable=False),
    ]
)


def measure_depth(
    sample: DepthSample, prediction: Float32[np.ndarray, "H W"], *, protocol: Protocol
) -> tuple[dict[str, Any], AlignedDepth | None, Bool[np.ndarray, "H W"]]:
    """Returns the measures against a depth map, the aligned prediction and the pixels evaluated.

    Where no pixel is within the protocol there are no measures and nothing is aligned.

    Args:
        sample: With depth.
        prediction: Relative depth or metres, as the protocol takes it.
        protocol: How they are held against each other.
    """
    assert sample.depth is not None
    assert sample.valid is not None
    protocol = protocol if sample.scale_known else protocol.without_unit()
    depth = reference_depth(sample.depth, sample.sky, protocol=protocol)
    pixels = evaluated_pixels(depth, sample.valid, sky=sample.sky, protocol=protocol)
    row: dict[str, Any] = {"num_pixels": int(pixels.sum())}
    if not pixels.any():
        return row, None, pixels
    aligned = align(prediction, depth, pixels=pixels, protocol=protocol)
    row |= depth_errors(aligned.depth, depth, pixels=pixels)
    if not sample.scale_known:
        for name in WITH_UNIT:
            del row[name]
    row |= boundary_scores(aligned.depth, depth, pixels=pixels)
    row["boundary_sharpness"] = boundary_sharpness(aligned.depth, depth, pixels=pixels)
    if sample.intrinsics is not None and sample.scale_known:
        row |= normal_errors(aligned.depth, depth, pixels=pixels, camera=sample.intrinsics)
        row["planarity"] = planarity_error(aligned.depth, depth, pixels=pixels)
    return row, aligned, pixels


def measure_region(
    sample: DepthSample,
    aligned: AlignedDepth,
    *,
    pixels: Bool[np.ndarray, "H W"],
    region: Bool[np.ndarray, "H W"],
) -> dict[str, float]:
    """Returns measures inside and outside of glass and mirrors, aligned on the whole image.

    Args:
        sample: With depth.
        aligned: Result of `measure_depth`.
        pixels: Likewise.
        region: True on transparent and mirroring surfaces.

    Returns:
        `delta1_tom`, `abs_rel_tom`, `delta1_other` and `abs_rel_other`, as far as there are pixels.
    """
    assert sample.depth is not None
    row: dict[str, float] = {}
    for name, inside in (("tom", pixels & region), ("other", pixels & ~region)):
        if inside.any():
            errors = depth_errors(aligned.depth, sample.depth, pixels=inside)
            row |= {f"{key}_{name}": errors[key] for key in ("delta1", "abs_rel")}
    return row


def measure_order(
    sample: DepthSample,
    prediction: Float32[np.ndarray, "H W"],
    *,
    pixels: Bool[np.ndarray, "H W"],
    num_pairs: int,
    min_pair_ratio: float,
) -> dict[str, float]:
    """Returns the accuracy on pairs drawn from the truth, and on sky against the rest.

    Args:
        sample: With depth.
        prediction: Relative depth, higher is closer.
        pixels: Pixels evaluated.
        num_pairs: Most pairs.
        min_pair_ratio: Smallest ratio of their depths.
    """
    assert sample.depth is not None
    pixels = pixels if sample.sky is None else pixels & ~sample.sky
    drawn = {
        "pair_accuracy": sample_depth_pairs(
            sample.depth,
            pixels=pixels,
            min_ratio=min_pair_ratio,
            num_pairs=num_pairs,
            seed=sample.sample_id,
        )
    }
    if sample.sky is not None:
        drawn["sky_order"] = sample_sky_pairs(
            sample.sky, pixels=pixels, num_pairs=num_pairs, seed=sample.sample_id
        )
    return {
        name: float(correct_pairs(prediction, pairs).mean())
        for name, pairs in drawn.items()
        if len(pairs.closer)
    }


def measure_annotated(
    row: pd.Series, prediction: Float32[np.ndarray, "H W"], *, reader: Da2k | Diw
) -> list[dict[str, Any]]:
    """Returns a row for each pair that people, or a renderer, annotated.

    Args:
        row: Of the manifest.
        prediction: Relative depth, higher is closer.
        reader: Of the source.
    """
    height, width = prediction.shape
    listed = reader.pairs(_files(row), size=(height, width))
    pairs = PointPairs(
        closer=np.array([pair.closer for pair in listed]),
        farther=np.array([pair.farther for pair in listed]),
    )
    columns = zip(listed, correct_pairs(prediction, pairs), pairs.upper_is_closer(), strict=True)
    return [
        {
            "sample_id": row["sample_id"],
            "source": row["source"],
            "dataset": "diw" if isinstance(reader, Diw) else "da2k",
            "scenario": row["scene"],
            "closer_row": pair.closer[0],
            "closer_column": pair.closer[1],
            "farther_row": pair.farther[0],
            "farther_column": pair.farther[1],
            "upper_is_closer": int(upper),
            "correct": bool(correct),
        }
        for pair, correct, upper in columns
    ]


def glass_and_mirrors(
    row: pd.Series, size: tuple[int, int], *, reader: Booster
) -> Bool[np.ndarray, "H W"] | None:
    """Returns where a sample shows glass and mirrors; None where its files do not say.

    Args:
        row: Of the manifest.
        size: Height and width of the image.
        reader: Of the source.
    """
    return reader.glass_and_mirrors(_files(row), size=size)


def _files(row: pd.Series) -> SampleFiles:
    return SampleFiles(
        sample_id=row["sample_id"],
        scene=row["scene"],
        image=row["image"],
        extra=extra_files(row["extra"]),
    )
