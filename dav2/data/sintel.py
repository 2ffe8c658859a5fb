"""MPI Sintel (Butler et al., ECCV 2012): an animated film with exact depth.

Axes: H height, W width (pixels).
Depth is metres along the optical axis, of every pixel; the sky is a surface very far away (beyond
some 10 km), which no file marks. A `.dpt` file holds the float32 tag 202021.25, width and height as
int32, and float32 row by row; a `.cam` file the tag, the 3 x 3 intrinsics and the 3 x 4 pose in
float64; all are little-endian.
"""

import re
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32

from dav2.data.images import MAX_PIXELS
from dav2.data.option_values import check_number
from dav2.data.reader import FileReader, check_count, check_measured, check_samples
from dav2.data.sample import DepthSample, Intrinsics, SampleFiles
from dav2.data.storage import Storage

_FRAME = re.compile(r"training/(?P<pass>clean|final)/(?P<scene>[^/]+)/frame_(?P<number>\d{4})\.png")
_TAG = struct.pack("<f", 202021.25)
_HEADER_BYTES = 12
_CAMERA_BYTES = 4 + 8 * (9 + 12)
# Frames with depth and sequences of MPI-Sintel-depth-training.
_PUBLISHED_FRAMES = 1064
_PUBLISHED_SCENES = 23


@dataclass(frozen=True, slots=True)
class SintelOptions:
    """Which rendering is read, and what counts as sky."""

    rendering: str = "final"
    """`final` has motion blur, defocus and fog; `clean` has not."""
    sky_beyond_m: float | int | None = None
    """Deeper pixels are sky. None: nothing is known of sky, and its depth stays as it is."""

    def __post_init__(self) -> None:
        if self.rendering not in ("clean", "final"):
            raise ValueError(f"rendering: expected 'clean' or 'final', got {self.rendering!r}")
        if self.sky_beyond_m is not None:
            check_number(self.sky_beyond_m, name="sky_beyond_m", above=0)


class Sintel(FileReader):
    """Reads `training/{clean,final}/<scene>/frame_0001.png` and `training/depth/.../*.dpt`.

    Depth and cameras (`training/camdata_left/<scene>/frame_0001.cam`) come in a download of their
    own; intrinsics are known where the latter are there. The only split is `train`. Where all 23
    sequences have depth the split must have the published 1064 frames.

    Unverified: from where on depth is sky, therefore an option; that the principal point, (511.5,
    217.5) at 436 x 1024, counts from the middle of the first pixel.
    """

    def __init__(
        self,
        root: Path | str | Storage,
        *,
        max_pixels: int = MAX_PIXELS,
        options: SintelOptions = SintelOptions(),
    ) -> None:
        """Prepares to read; opens nothing."""
        super().__init__(root, max_pixels=max_pixels)
        self._options = options

    def list_samples(self, split: str) -> list[SampleFiles]:
        """Returns the frames with depth; the only split is `train`."""
        found = {file.path for file in self._storage.list_files()}
        self._refuse_split(split, "train")
        samples = []
        for path in found:
            frame = _FRAME.fullmatch(path)
            if frame is None or frame["pass"] != self._options.rendering:
                continue
            name = f"{frame['scene']}/frame_{frame['number']}"
            depth, camera = f"training/depth/{name}.dpt", f"training/camdata_left/{name}.cam"
            if depth in found:
                samples.append(
                    SampleFiles(
                        sample_id=f"{frame['scene']}/{frame['number']}",
                        scene=frame["scene"],
                        image=path,
                        depth=depth,
                        extra=(camera,) if camera in found else (),
                    )
                )
        where = self._storage.where()
        if len({files.scene for files in samples}) == _PUBLISHED_SCENES:
            check_count(samples, _PUBLISHED_FRAMES, where=where, split=split)
        return check_samples(samples, where=where, split=split)

    def read(self, files: SampleFiles) -> DepthSample:
        """Returns one frame; valid is where depth is finite and above zero."""
        image = self.read_image(files)
        assert files.depth is not None
        where = self._storage.where(files.depth)
        size = (image.shape[0], image.shape[1])
        depth = _decode_depth(self.read_bytes(files.depth), size=size, where=where)
        valid = np.isfinite(depth) & (depth > 0)
        sky: Bool[np.ndarray, "H W"] | None = None
        if self._options.sky_beyond_m is not None:
            sky = valid & (depth > self._options.sky_beyond_m)
        check_measured(depth, valid, sky, where=where)
        if sky is not None:
            depth = np.where(sky, np.float32(np.inf), depth)
        return DepthSample(
            sample_id=files.sample_id,
            dataset="sintel",
            scene=files.scene,
            image=image,
            depth=depth,
            valid=valid,
            sky=sky,
            intrinsics=self._camera(files.extra[0]) if files.extra else None,
        )

    def _camera(self, path: str) -> Intrinsics:
        data, where = self.read_bytes(path), self._storage.where(path)
        if len(data) != _CAMERA_BYTES or not data.startswith(_TAG):
            raise ValueError(
                f"{where}: expected the tag 202021.25 and {_CAMERA_BYTES} bytes in all, "
                f"got {len(data)} bytes that start with {data[:4]!r}"
            )
        matrix = np.frombuffer(data, "<f8", count=9, offset=4).reshape(3, 3)
        fx_px, fy_px = float(matrix[0, 0]), float(matrix[1, 1])
        if not (np.isfinite(matrix).all() and fx_px > 0 and fy_px > 0):
            raise ValueError(
                f"{where}: expected focal lengths above zero, got {fx_px:g} and {fy_px:g}"
            )
        return Intrinsics(fx_px, fy_px, float(matrix[0, 2]) + 0.5, float(matrix[1, 2]) + 0.5)


def _decode_depth(data: bytes, *, size: tuple[int, int], where: str) -> Float32[np.ndarray, "H W"]:
    if len(data) < _HEADER_BYTES or not data.startswith(_TAG):
        raise ValueError(
            f"{where}: expected depth with the tag 202021.25, got {len(data)} bytes that start "
            f"with {data[:4]!r}"
        )
    width, height = struct.unpack("<ii", data[4:_HEADER_BYTES])
    if (height, width) != size or len(data) != _HEADER_BYTES + 4 * width * height:
        raise ValueError(
            f"{where}: expected {size[0]} x {size[1]} float32 values, as the image has pixels, "
            f"got {height} x {width} in a file of {len(data)} bytes"
        )
    return np.frombuffer(data, "<f4", offset=_HEADER_BYTES).reshape(size).astype(np.float32)
