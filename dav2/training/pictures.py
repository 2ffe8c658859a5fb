"""Pictures of what a model says of its validation samples.

Axes: H height, W width (pixels), 3 colours.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from dav2.metrics.depth import AlignedDepth, align
from dav2.models.depth_anything import DepthAnything
from dav2.training.samples import spread
from dav2.training.validation import FrozenSample, ValidationConfig, predict_frozen

_GAP_PX = 2


def draw_validation(
    model: DepthAnything,
    samples: list[FrozenSample],
    config: ValidationConfig,
    *,
    num_rows: int = 6,
) -> UInt8[np.ndarray, "H W 3"]:
    """Returns rows of image, target and prediction; brighter is closer, black does not count.

    Target and aligned prediction share their greys: white is the closest target of the row.

    Args:
        model: In evaluation mode.
        samples: From `dav2.training.validation.freeze`; some, spread evenly, are drawn.
        config: As given to `freeze`.
        num_rows: Most samples to draw.
    """
    chosen = [samples[index] for index in spread(len(samples), num_chosen=num_rows)]
    predictions = predict_frozen(model, chosen, config)
    return draw_predictions(predictions, chosen, config, num_rows=num_rows)


def draw_predictions(
    predictions: Sequence[Float[np.ndarray, "..."]],
    samples: list[FrozenSample],
    config: ValidationConfig,
    *,
    num_rows: int = 6,
) -> UInt8[np.ndarray, "H W 3"]:
    """Returns what `draw_validation` does of a model that has predicted already.

    Args:
        predictions: From `dav2.training.validation.predict_frozen`.
        samples: What was predicted of; some, spread evenly, are drawn.
        config: As given to `freeze`.
        num_rows: Most samples to draw.
    """
    rows = []
    for index in spread(len(samples), num_chosen=num_rows):
        sample, pred = samples[index], predictions[index]
        aligned = align(pred, sample.depth, pixels=sample.pixels, protocol=config.protocol())
        rows.append([sample.image, _target(sample), _prediction(sample, aligned)])
    return sheet(rows)


def sheet(rows: Sequence[Sequence[UInt8[np.ndarray, "..."]]]) -> UInt8[np.ndarray, "H W 3"]:
    """Returns pictures in rows on white; those of one row are of one size.

    Args:
        rows: As many pictures, `H W 3`, in each.
    """
    height = max(row[0].shape[0] for row in rows) + _GAP_PX
    width = max(row[0].shape[1] for row in rows) + _GAP_PX
    sheet = np.full((height * len(rows), len(rows[0]) * width, 3), 255, np.uint8)
    for top, row in enumerate(rows):
        for left, picture in enumerate(row):
            place = sheet[top * height :, left * width :]
            place[: picture.shape[0], : picture.shape[1]] = picture
    return sheet[:-_GAP_PX, :-_GAP_PX]


def _target(sample: FrozenSample) -> UInt8[np.ndarray, "H W 3"]:
    grey = _grey(1.0 / sample.depth.astype(np.float64), sample)
    grey[~sample.pixels] = 0
    return grey


def _prediction(sample: FrozenSample, aligned: AlignedDepth) -> UInt8[np.ndarray, "H W 3"]:
    return _grey(1.0 / aligned.depth, sample)


def _grey(
    inverse_depth: Float[np.ndarray, "H W"], sample: FrozenSample
) -> UInt8[np.ndarray, "H W 3"]:
    closest = 1.0 / float(sample.depth.min(where=sample.pixels, initial=np.inf))
    levels = np.rint(255 * np.clip(inverse_depth / closest, 0, 1)).astype(np.uint8)
    return np.repeat(levels[..., None], 3, axis=2)
