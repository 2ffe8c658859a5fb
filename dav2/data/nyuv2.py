"""NYU Depth v2 (Silberman et al., ECCV 2012): rooms seen by a Kinect.

Axes: H height, W width (pixels).
Two forms are read. The labelled file holds 1449 images with depth in metres, once as measured
(`rawDepths`, 0 where the sensor saw nothing) and once in-painted (`depths`); evaluation takes the
former. The folders that the code of BTS (Lee et al. 2019, arXiv:1907.10326) writes from that file
hold millimetres in 16 bits, cut off rather than rounded, beside JPEGs whose frame is painted black.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from dav2.data.images import MAX_PIXELS
from dav2.data.nyuv2_labelled import (
    LABELLED_FILE,
    SPLIT_FILE,
    read_array,
    read_scenes,
    read_split,
)
from dav2.data.png16 import decode_png16
from dav2.data.reader import FileReader, check_count, check_measured, check_samples
from dav2.data.sample import DepthSample, Intrinsics, SampleFiles
from dav2.data.storage import Storage, split_part

_SPLIT_KEYS = {"train": "trainNdxs", "test": "testNdxs"}
# splits.mat of the authors' toolbox; together the 1449 images of the labelled file.
_PUBLISHED_COUNTS = {"train": 795, "test": 654}
_DEPTH_KEYS = {"measured": "rawDepths", "filled": "depths"}
_VIEW = re.compile(
    r"(?P<folder>official_splits/(?P<split>[^/]+)/(?P<scene>[^/]+))/rgb_(?P<number>\d+)\.jpg"
)
_MILLIMETRES = np.float32(1000)
_PUBLISHED_SIZE = (480, 640)
# camera_params.m of the toolbox, whose code counts the centre (325.58245, 253.73617) from 1.
_PUBLISHED_CAMERA = Intrinsics(
    fx_px=518.85790, fy_px=519.46961, cx_px=325.58245 - 0.5, cy_px=253.73617 - 0.5
)


@dataclass(frozen=True, slots=True)
class Nyuv2Options:
    """Which depth is read."""

    depth: str = "measured"
    """`measured` is what the sensor saw; `filled` has holes in-painted (labelled file only)."""

    def __post_init__(self) -> None:
        if self.depth not in ("measured", "filled"):
            raise ValueError(f"depth: expected 'measured' or 'filled', got {self.depth!r}")


class Nyuv2(FileReader):
    """Reads `nyu_depth_v2_labeled.mat` with `splits.mat`, or `official_splits/<split>/<scene>/*`.

    The labelled file (MATLAB v7.3, which is HDF5) is read where the root has it, else the folders'
    `rgb_00045.jpg` and `sync_depth_00045.png`. Splits are `train` and `test`. A part of the
    labelled file is named `nyu_depth_v2_labeled.mat#images/46`, counted from 1 as `splits.mat`
    (MATLAB v5) does; `rgb_00045.jpg` is the same image, counted from 0, and its folder the kind of
    room rather than the room.

    With all 1449 images in the labelled file the splits must be the published 795 and 654. The
    folders bring no list, so that their number is not checked.

    Unverified: whether the published camera centre counts pixels from 1, as the toolbox's code
    does, or from 0, as calibration tools do; the difference is one pixel.
    """

    def __init__(
        self,
        root: Path | str | Storage,
        *,
        max_pixels: int = MAX_PIXELS,
        options: Nyuv2Options = Nyuv2Options(),
    ) -> None:
        """Prepares to read; opens nothing."""
        super().__init__(root, max_pixels=max_pixels)
        self._depth = options.depth

    def list_samples(self, split: str) -> list[SampleFiles]:
        """Returns the images of split `train` or `test`."""
        found = {file.path for file in self._storage.list_files()}
        self._refuse_split(split, *_SPLIT_KEYS)
        if LABELLED_FILE in found:
            return self._list_labelled(split)
        if self._depth == "filled":
            raise ValueError(
                f"{self._storage.where()}: expected {LABELLED_FILE} for in-painted depth, got none"
            )
        samples = [
            SampleFiles(
                sample_id=f"{view['scene']}/{view['number']}",
                scene=view["scene"],
                image=view[0],
                depth=f"{view['folder']}/sync_depth_{view['number']}.png",
            )
            for view in map(_VIEW.fullmatch, found)
            if view and view["split"] == split
        ]
        return check_samples(samples, where=self._storage.where(), split=split)

    def read(self, files: SampleFiles) -> DepthSample:
        """Returns one image; zero is not valid."""
        image = self.read_image(files)
        assert files.depth is not None
        where = self._storage.where(files.depth)
        size = (image.shape[0], image.shape[1])
        depth: Float32[np.ndarray, "H W"]
        if split_part(files.depth)[1] is None:
            depth = decode_png16(self.read_bytes(files.depth), size=size, where=where)
            depth = depth / _MILLIMETRES
        else:
            depth = read_array(self._storage, files.depth, max_pixels=self._max_pixels)
            depth = depth.astype(np.float32, copy=False)
        if depth.shape != size:
            raise ValueError(
                f"{where}: expected {size[0]} x {size[1]} values, as the image has pixels, "
                f"got {' x '.join(map(str, depth.shape))}"
            )
        valid = np.isfinite(depth) & (depth > 0)
        check_measured(depth, valid, None, where=where)
        return DepthSample(
            sample_id=files.sample_id,
            dataset="nyuv2",
            scene=files.scene,
            image=image,
            depth=depth,
            valid=valid,
            sky=None,
            intrinsics=_PUBLISHED_CAMERA if size == _PUBLISHED_SIZE else None,
        )

    def read_image(self, files: SampleFiles) -> UInt8[np.ndarray, "H W 3"]:
        """Returns the sample's image alone, upright RGB."""
        if split_part(files.image)[1] is None:
            return super().read_image(files)
        return read_array(self._storage, files.image, max_pixels=self._max_pixels)

    def read_bytes(self, path: str) -> bytes:
        """Returns a file's bytes, or those of one array of the labelled file, row by row."""
        if split_part(path)[1] is None:
            return super().read_bytes(path)
        return read_array(self._storage, path, max_pixels=self._max_pixels).tobytes()

    def _list_labelled(self, split: str) -> list[SampleFiles]:
        scenes = read_scenes(self._storage)
        where = self._storage.where(SPLIT_FILE)
        samples = []
        for number in read_split(self._storage, _SPLIT_KEYS[split]):
            if not 1 <= number <= len(scenes):
                raise ValueError(
                    f"{where}: expected numbers of images from 1 to {len(scenes)}, got {number}"
                )
            samples.append(
                SampleFiles(
                    sample_id=f"{number:04d}",
                    scene=scenes[number - 1],
                    image=f"{LABELLED_FILE}#images/{number}",
                    depth=f"{LABELLED_FILE}#{_DEPTH_KEYS[self._depth]}/{number}",
                )
            )
        if len(scenes) == sum(_PUBLISHED_COUNTS.values()):
            check_count(samples, _PUBLISHED_COUNTS[split], where=where, split=split)
        return check_samples(samples, where=where, split=split)
