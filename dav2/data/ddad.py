"""DDAD (Guizilini et al. 2020, arXiv:1905.02693): driving scenes with long-range laser depth.

Axes: H height, W width (pixels).
The release (one tar in the DGP format, with point clouds instead of depth maps) can be read by its
own library alone. What is read here is an export of it, a layout of this project:

    <split>/<scene>/rgb/<frame>.png       or .jpg; published: 1216 x 1936
    <split>/<scene>/depth/<frame>.npz     or .npy; one array H x W of float, metres along the
                                          optical axis, 0 where no laser point fell
    <split>/<scene>/intrinsics.json       {"fx": ..., "fy": ..., "cx": ..., "cy": ...} in pixels

It is written with `dgp.datasets.SynchronizedSceneDataset(path, split=..., datum_names=("lidar",
"CAMERA_01"), generate_depth_from_datum="lidar")`, whose items hold `rgb`, `depth` and `intrinsics`;
`numpy.savez_compressed(file, depth=depth)` writes a map.
"""

import json
import re
from typing import Any

import numpy as np
import numpy.typing as npt

from dav2.data.arrays import decode_npy, decode_npz
from dav2.data.reader import FileReader, check_count, check_measured, check_samples
from dav2.data.sample import DepthSample, Intrinsics, SampleFiles

_FRAME = re.compile(r"(?P<folder>[^/]+/(?P<scene>[^/]+))/rgb/(?P<name>[^/]+)\.(?:png|jpg)")
_MAX_CAMERA_BYTES = 1 << 16
# Scenes and frames of the front camera, by the README of the release.
_PUBLISHED = {"train": (150, 12_650), "val": (50, 3_950)}


class Ddad(FileReader):
    """Reads an export of the front camera's frames; splits are `train` and `val`.

    Every image must have a depth map. A split of as many scenes as the published one (150, 50) must
    have its 12,650 or 3,950 frames.

    Unverified: whether DGP's principal point counts from the corner of the first pixel, as it is
    taken here, or from its middle.
    """

    def list_samples(self, split: str) -> list[SampleFiles]:
        """Returns the frames of a split."""
        next(self._storage.list_files())  # a missing root is told before a missing folder of it
        self._refuse_split(split, *_PUBLISHED)
        found = {file.path for file in self._storage.list_files(split)}
        samples = []
        for path in found:
            frame = _FRAME.fullmatch(path)
            if frame is None:
                continue
            depth = f"{frame['folder']}/depth/{frame['name']}"
            maps = [f"{depth}{suffix}" for suffix in (".npz", ".npy")]
            there = [name for name in maps if name in found]
            if len(there) != 1:
                raise ValueError(
                    f"{self._storage.where(path)}: expected one depth map {depth}.npz or .npy, "
                    f"got {'both' if there else 'none'}"
                )
            samples.append(
                SampleFiles(
                    sample_id=f"{frame['scene']}/{frame['name']}",
                    scene=frame["scene"],
                    image=path,
                    depth=there[0],
                    extra=(f"{frame['folder']}/intrinsics.json",),
                )
            )
        where = self._storage.where(split)
        num_scenes, num_frames = _PUBLISHED[split]
        if len({files.scene for files in samples}) == num_scenes:
            check_count(samples, num_frames, where=where, split=split)
        return check_samples(samples, where=where, split=split)

    def read(self, files: SampleFiles) -> DepthSample:
        """Returns one frame; valid is where a laser point fell."""
        image = self.read_image(files)
        assert files.depth is not None
        where = self._storage.where(files.depth)
        size = (image.shape[0], image.shape[1])
        data = self.read_bytes(files.depth)
        stored: npt.NDArray[Any]
        if files.depth.endswith(".npz"):
            stored = decode_npz(data, size=size, kinds="f", where=where)
        else:
            stored = decode_npy(data, size=size, kinds="f", where=where)
        depth = stored.astype(np.float32, copy=False)
        valid = np.isfinite(depth) & (depth > 0)
        check_measured(depth, valid, None, where=where)
        return DepthSample(
            sample_id=files.sample_id,
            dataset="ddad",
            scene=files.scene,
            image=image,
            depth=depth,
            valid=valid,
            sky=None,
            intrinsics=self._camera(files.extra[0], size),
        )

    def _camera(self, path: str, size: tuple[int, int]) -> Intrinsics:
        where = self._storage.where(path)
        data = self._storage.read(path, max_bytes=_MAX_CAMERA_BYTES)
        try:
            content = json.loads(data)
            fx_px, fy_px, cx_px, cy_px = (float(content[key]) for key in ("fx", "fy", "cx", "cy"))
        except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
            raise ValueError(
                f"{where}: expected a JSON object of the numbers fx, fy, cx and cy, "
                "got something else"
            ) from None
        focal = 0 < fx_px < np.inf and 0 < fy_px < np.inf
        if not (focal and 0 < cx_px < size[1] and 0 < cy_px < size[0]):
            raise ValueError(
                f"{where}: expected a camera of {size[0]} x {size[1]} pixels, "
                f"got fx {fx_px:g}, fy {fy_px:g}, cx {cx_px:g}, cy {cy_px:g}"
            )
        return Intrinsics(fx_px, fy_px, cx_px, cy_px)
