"""BDD100K (Yu et al. 2020, arXiv:1805.04687): drives filmed through windscreens.

Axes: H height, W width (pixels).
100,000 videos (70,000 train, 10,000 val, 20,000 test) of 40 s, 1280 x 720 pixels at 30 frames a
second: `videos/{train,val,test}/<id>.mov`. The authors of Depth Anything took one frame in ten of
the training videos (8.2 million). `images/100k/{train,val,test}/<id>.jpg` is one frame a video.
"""

import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from dav2.data.images import MAX_PIXELS
from dav2.data.option_values import check_text
from dav2.data.photographs import PhotographReader
from dav2.data.reader import stream_samples
from dav2.data.sample import SampleFiles
from dav2.data.storage import Storage, StoredFile, split_part
from dav2.data.video_frames import VideoFrames, count_frames

_VIDEO = re.compile(r"videos/(?P<split>train|val|test)/(?P<id>[^/]+)\.mov")
_FRAME = re.compile(r"\d{1,9}")
_KINDS = ("videos", "images")


@dataclass(frozen=True, slots=True)
class Bdd100kOptions:
    """What is read."""

    kind: str = "videos"
    """`videos`: frames of them; `images`: the published ones, `images/100k`."""
    frame_step: int = 10
    """Of videos one frame in so many is read, from the first on."""

    def __post_init__(self) -> None:
        """Checks what came from a file."""
        check_text(self.kind, name="kind")
        if self.kind not in _KINDS:
            raise ValueError(f"kind: expected {' or '.join(_KINDS)}, got {self.kind!r}")
        if type(self.frame_step) is not int or self.frame_step < 1:
            raise ValueError(f"frame_step: expected 1 or more, got {self.frame_step!r}")


class Bdd100k(PhotographReader):
    """Reads frames of videos, or the published images; the video is a sample's scene.

    A frame's path is `<video>#<number>`, counted from 0 in the order of showing. Listing reads each
    video's header, which tells its number of frames. A video without a readable one is listed with
    its first frame, so that reading says what is wrong. Any part of the release will do: numbers of
    videos are not checked, as no list comes with them.
    """

    _dataset = "bdd100k"
    _layout = "images/100k/{train,val,test}/<id>.jpg, in folders or tars"
    _pattern = re.compile(
        r"images/100k/(?:[^/]+/)*(?P<split>train|val|test)/(?P<id>(?P<scene>[^/]+))\.jpg"
    )

    def __init__(
        self,
        root: Path | str | Storage,
        *,
        max_pixels: int = MAX_PIXELS,
        options: Bdd100kOptions = Bdd100kOptions(),
    ) -> None:
        """Prepares to read; opens nothing."""
        super().__init__(root, max_pixels=max_pixels)
        self._options = options
        self._reading = threading.Lock()
        self._opened: tuple[str, VideoFrames] | None = None

    def list_samples(self, split: str) -> Iterator[SampleFiles]:
        """Yields frames, video by video, or images: split `train`, `val` or `test`."""
        self._refuse_split(split, "train", "val", "test")
        if self._options.kind == "images":
            return self._stream(split, folder="images/100k")
        where = self._storage.where(f"videos/{split}")
        return stream_samples(self._frames(split), where=where, split=split)

    def read_image(self, files: SampleFiles) -> UInt8[np.ndarray, "H W 3"]:
        """Returns the sample's image, upright RGB."""
        video, number = self._frame_of(files.image)
        if number is None:
            return super().read_image(files)
        with self._reading:
            return self._video(video).image(number)

    def read_bytes(self, path: str) -> bytes:
        """Returns the bytes of an image file; of a frame, its pixels as the codec defines them."""
        video, number = self._frame_of(path)
        if number is None:
            return super().read_bytes(path)
        with self._reading:
            return self._video(video).contents(number)

    def _frames(self, split: str) -> Iterator[SampleFiles]:
        self._check_root()
        for file in self._storage.list_files(f"videos/{split}"):
            match = _VIDEO.fullmatch(file.path)
            if match is None or match["id"].startswith("."):
                continue
            for number in range(0, self._count(file), self._options.frame_step):
                yield SampleFiles(
                    sample_id=f"{match['id']}/{number:06d}",
                    scene=match["id"],
                    image=f"{file.path}#{number}",
                )

    def _count(self, video: StoredFile) -> int:
        try:
            with self._storage.open(video.path) as stream:
                count = count_frames(stream, where=video.path)
        except ValueError:
            return 1
        return count if count <= video.bytes else 1  # else a damaged header

    def _frame_of(self, path: str) -> tuple[str, int | None]:
        """Returns the file of a path, and the number of the frame if it is one."""
        file, part = split_part(path)
        if not file.endswith(".mov"):
            return path, None
        if part is None or not _FRAME.fullmatch(part):
            raise ValueError(f"{self._storage.where(path)}: expected <video>#<number of a frame>")
        return file, int(part)

    def _video(self, path: str) -> VideoFrames:
        """Returns a video, kept open until another is asked for; a forked process has its own."""
        key = f"{os.getpid()} {path}"
        if self._opened is None or self._opened[0] != key:
            if self._opened is not None:
                self._opened[1].close()
                self._opened = None
            frames = VideoFrames(
                self._storage.read(path),
                max_pixels=self._max_pixels,
                where=self._storage.where(path),
            )
            self._opened = key, frames
        return self._opened[1]
