"""Single frames of a video by number, in the order in which they are shown.

Axes: H height, W width (pixels, upright).
"""

import errno
import io
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import IO, TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


def count_frames(stream: IO[bytes] | io.IOBase, *, where: str) -> int:
    """Returns how many frames a video's header tells of, reading no further.

    Args:
        stream: The video.
        where: Name of the file, for messages.

    Raises:
        ValueError: If it is no video, or its header does not tell.
    """
    container, video = _open_video(stream, where=where)
    with container:
        if not video.frames:
            raise ValueError(f"{where}: expected a header with the number of frames, got none")
        return video.frames


class VideoFrames:
    """The frames of one video; those asked for in order are decoded once each.

    The decoder stays where it is, or starts from a key frame where that is nearer. What it finds
    damaged is an error: by default FFmpeg paints over it. Not for several threads at once.
    """

    def __init__(self, data: bytes, *, max_pixels: int, where: str) -> None:
        """Finds the positions of all frames and decodes none.

        Args:
            data: The file's bytes.
            max_pixels: Larger frames are refused by the header.
            where: Name of the file, for messages.

        Raises:
            ValueError: If it is no video, damaged, or its frames are too large.
        """
        self._where = where
        self._container, self._video = _open_video(io.BytesIO(data), where=where)
        codec = self._video.codec_context
        if not 0 < codec.width * codec.height <= max_pixels:
            raise ValueError(
                f"{where}: expected frames of 1 to {max_pixels} pixels, "
                f"got {codec.width} x {codec.height}"
            )
        # Of a stream that grows beyond its header; twice, as the decoder counts padding.
        codec.options = {"err_detect": "explode", "max_pixels": str(2 * max_pixels)}
        codec.thread_count = 1  # who reads many videos has a process for each core
        with _told_as_damage(where):
            shown = sorted(
                (packet.pts, packet.is_keyframe)
                for packet in self._container.demux(self._video)
                if packet.pts is not None and not packet.is_discard
            )
        self._times = [time for time, _ in shown]
        self._key_frames = [number for number, (_, is_key) in enumerate(shown) if is_key]
        if any(time == following for time, following in pairwise(self._times)):
            raise ValueError(f"{where}: expected frames one after the other, got two at a time")
        self._last: tuple[int, VideoFrame] | None = None
        self._coming: Iterator[VideoFrame] = iter(())
        self._next: int | None = None  # number of the frame that is coming

    def __len__(self) -> int:
        return len(self._times)

    def image(self, number: int) -> UInt8[np.ndarray, "H W 3"]:
        """Returns a frame as upright RGB.

        Raises:
            ValueError: If the video ends before the frame, or is damaged there.
        """
        frame = self._frame(number)
        with _told_as_damage(self._where):
            image = frame.to_ndarray(format="rgb24")
        # `rotation` is that of the display matrix, in degrees counter-clockwise.
        return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))

    def contents(self, number: int) -> bytes:
        """Returns a frame as its codec defines it: without a conversion that versions may change.

        Raises:
            ValueError: As `image`, or if its form of pixels is none that PyAV lays out.
        """
        frame = self._frame(number)
        form = f"{frame.format.name} {frame.width} x {frame.height}, {frame.rotation} degrees"
        try:
            return f"{form}\n".encode() + frame.to_ndarray().tobytes()
        except (ValueError, AssertionError):
            raise ValueError(
                f"{self._where}: expected frames of even sides in a usual form, got {form}"
            ) from None

    def close(self) -> None:
        """Frees the decoder."""
        self._container.close()

    def _frame(self, number: int) -> "VideoFrame":
        if self._last is None or self._last[0] != number:
            if not 0 <= number < len(self):
                raise ValueError(
                    f"{self._where}: expected a video with frame {number}, got {len(self)} frames"
                )
            self._last = number, self._decode(number)
        return self._last[1]

    def _decode(self, number: int) -> "VideoFrame":
        place = bisect_right(self._key_frames, number)
        start = self._key_frames[place - 1] if place else 0
        if self._next is not None and start <= self._next <= number:
            return self._advance(number)
        try:
            return self._advance(number, start)
        except ValueError:
            if start == 0:
                raise
            # A key frame may be followed by frames that need those before it.
            return self._advance(number, 0)

    def _advance(self, number: int, start: int | None = None) -> "VideoFrame":
        """Decodes up to a frame, from `start` or from where the decoder is."""
        self._next = None  # unless this succeeds
        with _told_as_damage(self._where):
            if start is not None:
                self._container.seek(self._times[start], stream=self._video, backward=True)
                self._coming = self._container.decode(self._video)
            for frame in self._coming:
                if frame.pts is not None and frame.pts >= self._times[number]:
                    if frame.pts != self._times[number] or frame.is_corrupt:
                        break
                    self._next = number + 1
                    return frame
        raise ValueError(
            f"{self._where}: expected frame {number} whole, got a video that is damaged there"
        )


def _open_video(
    stream: IO[bytes] | io.IOBase, *, where: str
) -> "tuple[InputContainer, VideoStream]":
    import av

    with _told_as_damage(where):
        container = av.open(stream, "r", metadata_errors="replace")
    video = container.streams.video[0] if container.streams.video else None
    # None also where FFmpeg knows no decoder.
    if video is None or getattr(video, "codec_context", None) is None:
        container.close()
        raise ValueError(f"{where}: expected a video, got a file without readable pictures")
    return container, video


@contextmanager
def _told_as_damage(where: str) -> Iterator[None]:
    import av

    try:
        yield
    except (av.error.FFmpegError, OSError, ValueError) as error:
        # A damaged header makes FFmpeg seek to where no stream can; others are those of a disk.
        is_told = isinstance(error, av.error.FFmpegError | ValueError)
        if not is_told and getattr(error, "errno", None) != errno.EINVAL:
            raise
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"{where}: expected a whole video, got one that is damaged, truncated or something "
            f"else ({reason})"
        ) from None
