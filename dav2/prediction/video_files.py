"""Video files by FFmpeg: frames read one by one, and written.

Axes: H, h height, W, w width (pixels).
"""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from jaxtyping import UInt8

Frame = UInt8[np.ndarray, "H W 3"]

_USUAL_RATE = Fraction(25)


class EndedEarlyError(ValueError):
    """No more frames can be read."""


class Frames:
    """The upright frames of a video, decoded one by one."""

    def __init__(self, path: Path) -> None:
        """Opens nothing yet.

        Args:
            path: Any container and codec that FFmpeg reads.
        """
        self._path = path
        self.rate = _USUAL_RATE
        """Frames a second, on average; known once the first frame was read."""

    def __iter__(self) -> Iterator[Frame]:
        """Yields the frames that can be read.

        Raises:
            ValueError: After them, if the video is damaged, or ends before its header says.
        """
        if not self._path.is_file():
            raise EndedEarlyError("expected a video, got no file")
        num_frames = 0
        try:
            with av.open(str(self._path)) as container:
                if not container.streams.video:
                    raise EndedEarlyError("expected a video, got a file without pictures")
                stream = container.streams.video[0]
                stream.thread_type = "AUTO"
                self.rate = stream.average_rate or _USUAL_RATE
                end_s = 0.0
                for frame in container.decode(stream):
                    duration_s = float(frame.duration * (frame.time_base or 0) or 1 / self.rate)
                    end_s = float(frame.time or 0.0) + duration_s
                    yield _upright(frame.to_ndarray(format="rgb24"), frame.rotation)
                    num_frames += 1
                _check_complete(container, stream, num_frames, end_s)
        except (av.error.FFmpegError, OSError) as error:
            # The numbers that FFmpeg gives its errors say nothing.
            reason = error.strerror or "an error"
            raise EndedEarlyError(
                f"expected a readable video, got {num_frames} frames, then: {reason}"
            ) from None


def encode_video(frames: Iterable[Frame], path: Path, rate: Fraction) -> None:
    """Writes frames of one size as an .mp4 that players know (H.264, else MPEG-4).

    An odd side is one pixel longer in it, its last row or column repeated: chroma is halved.

    Args:
        frames: At least one.
        path: File to write.
        rate: Frames a second.
    """
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        # MPEG-4 holds numbers up to 65535.
        stream = cast("VideoStream", container.add_stream(codec, rate=rate.limit_denominator(1001)))
        stream.pix_fmt = "yuv420p"
        if codec == "libx264":
            stream.options = {"crf": "18", "preset": "veryfast"}
        else:
            stream.options = {"qscale": "3"}
        for frame in frames:
            height, width = frame.shape[:2]
            even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            if not stream.codec_context.is_open:
                stream.height, stream.width = even.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        container.mux(stream.encode())


def _check_complete(
    container: InputContainer, stream: VideoStream, num_frames: int, end_s: float
) -> None:
    """Raises if the header promised more: FFmpeg ends a truncated file without an error."""
    if num_frames == 0:
        raise EndedEarlyError("expected a video, got one without frames")
    if stream.duration and stream.time_base:
        start = stream.start_time or 0
        promised_s = float((start + stream.duration) * stream.time_base)
        missing_s = promised_s - end_s - float(2 / (stream.average_rate or _USUAL_RATE))
    else:
        # Of the whole file, whose sound may last a little longer than its pictures.
        start_s = max(container.start_time or 0, 0) / av.time_base
        promised_s = start_s + (container.duration or 0) / av.time_base
        missing_s = promised_s - end_s - 1
    if missing_s > 0:
        raise EndedEarlyError(
            f"expected a video of {promised_s:.1f} s, got one that ends after {end_s:.1f} s"
        )


def _upright(image: Frame, rotation: int) -> UInt8[np.ndarray, "h w 3"]:
    """Turns a frame by its display matrix, in degrees counter-clockwise."""
    return np.ascontiguousarray(np.rot90(image, round(rotation / 90)))
