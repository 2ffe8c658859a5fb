"""Predicts videos: a folder of maps and a coloured video of each, in bounded memory.

Axes: H height, W width (pixels, upright).
"""

import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from dav2.data.files import written_whole
from dav2.labeling.codec import decode_label, encode_label
from dav2.prediction.ahead import read_ahead
from dav2.prediction.colours import colour_map, to_closeness
from dav2.prediction.formats import Prediction, write
from dav2.prediction.options import Format
from dav2.prediction.points import Focal
from dav2.prediction.video_files import EndedEarlyError, Frame, Frames, encode_video

COLOUR_NAME = "colour.mp4"

_CODES = "codes"  # what the coloured video is made of: removed when it is done
_OURS = re.compile(r"\d{6,}_\w+\.(png|npy|exr|ply)|colour\.mp4")


@dataclass(frozen=True, slots=True)
class VideoOptions:
    """How the frames of a video are predicted and written."""

    predict: Callable[[Sequence[Frame]], list[Float32[np.ndarray, "_H _W"]]]
    formats: tuple[Format, ...]
    is_metric: bool
    batch_size: int
    focal_of: Callable[[tuple[int, int]], Focal]
    """From height and width, pixels."""
    size_of: Callable[[tuple[int, int]], Mapping[str, Any]]
    """From height and width: what predictions.json says of the size that the model saw."""


def predict_video(
    path: Path, folder: Path, options: VideoOptions, *, advance: Callable[[], None]
) -> tuple[dict[str, Any], str | None]:
    """Writes the prediction of each frame to a folder, whole or not at all.

    Args:
        path: The video.
        folder: One to make, or of an earlier prediction, which it replaces: `000000_depth.png` and
            so on, and with `color` one video of the source's average rate, painted between the
            lowest and the highest value of all frames.
        options: How.
        advance: Called after each frame.

    Returns:
        Its entry in predictions.json, and what is wrong if it ended early: the frames before are
        written.

    Raises:
        ValueError: No frame can be read, `folder` holds other things, or a value is not finite.
    """
    _check_replaceable(folder)
    frames = Frames(path)
    per_frame: tuple[Format, ...] = tuple(kind for kind in options.formats if kind != "color")
    entries: list[dict[str, Any]] = []
    problem = None
    with written_whole(folder) as written:
        (written / _CODES).mkdir(parents=True)
        try:
            for batch in read_ahead(_batches(frames, options.batch_size)):
                for image, values in zip(batch, options.predict(batch), strict=True):
                    output = written / f"{len(entries):06d}"
                    focal = options.focal_of(values.shape)
                    prediction = Prediction(image, values, options.is_metric, focal)
                    try:
                        entries.append(write(prediction, output, per_frame))
                    except ValueError as error:
                        raise ValueError(f"frame {len(entries)}: {error}") from None
                    if "color" in options.formats:
                        codes = written / _CODES / f"{output.name}.png"
                        codes.write_bytes(encode_label(values).data)
                    advance()
        except EndedEarlyError as error:
            problem = str(error)
            if not entries:
                raise ValueError(problem) from None
        if "color" in options.formats:
            _paint(written, entries, frames.rate, is_metric=options.is_metric)
        shutil.rmtree(written / _CODES)
    entry = _summary(entries, options.formats, frames.rate) | dict(options.size_of(values.shape))
    return (entry | {"ended_early": True} if problem else entry), problem


def _check_replaceable(folder: Path) -> None:
    entries = folder.iterdir() if folder.is_dir() else ()
    strange = [entry.name for entry in entries if not _OURS.fullmatch(entry.name)]
    if strange:
        raise ValueError(
            f"{folder}: expected no folder, or one of an earlier prediction, "
            f"got one that holds {min(strange)}"
        )


def _paint(
    folder: Path, entries: Sequence[dict[str, Any]], rate: Fraction, *, is_metric: bool
) -> None:
    """Writes the coloured video, from the 16-bit codes of its frames."""
    extremes = np.array(
        [[min(e["minimum"] for e in entries), max(e["maximum"] for e in entries)]], np.float32
    )
    ends = to_closeness(extremes, is_metric=is_metric)
    limits = (float(ends.min()), float(ends.max()))

    def painted() -> Iterator[Frame]:
        for index, entry in enumerate(entries):
            data = (folder / _CODES / f"{index:06d}.png").read_bytes()
            values = decode_label(data, minimum=entry["minimum"], maximum=entry["maximum"])
            yield colour_map(to_closeness(values, is_metric=is_metric), limits)

    encode_video(painted(), folder / COLOUR_NAME, rate)


def _batches(frames: Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    batch: list[Frame] = []
    size_px: tuple[int, ...] | None = None
    try:
        for frame in frames:
            size_px = size_px or frame.shape
            if frame.shape != size_px:
                raise EndedEarlyError(
                    f"expected frames of {size_px[1]} x {size_px[0]}, "
                    f"got one of {frame.shape[1]} x {frame.shape[0]}"
                )
            batch.append(frame)
            if len(batch) == size:
                yield batch
                batch = []
    except EndedEarlyError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def _summary(
    entries: Sequence[dict[str, Any]], formats: Sequence[Format], rate: Fraction
) -> dict[str, Any]:
    minima, maxima = [e["minimum"] for e in entries], [e["maximum"] for e in entries]
    return entries[0] | {
        "formats": sorted(formats),
        "frames": len(entries),
        "frames_per_second": float(rate),
        "minimum": min(minima),
        "maximum": max(maxima),
        "frame_minimum": minima,
        "frame_maximum": maxima,
    }
