"""DIODE (Vasiljevic et al. 2019, arXiv:1908.00463): laser scans of rooms and streets.

Axes: H height, W width (pixels).
Depth is metres in float32 with a mask of what the laser measured. Whether it is meant along the ray
or along the optical axis is stated nowhere; like all public users we take the latter.
"""

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from dav2.data.arrays import decode_npy
from dav2.data.reader import FileReader, check_measured, check_samples
from dav2.data.sample import DepthSample, Intrinsics, SampleFiles

_VIEW = re.compile(r"(?P<stem>[^/]+/(?P<scene>[^/]+/scene_[^/]+)/scan_[^/]+/[^/]+)\.png")
_DEPTH_SUFFIX = "_depth.npy"
_MASK_SUFFIX = "_depth_mask.npy"
# intrinsics.txt of the development kit, for the published size.
_PUBLISHED_SIZE = (768, 1024)
_PUBLISHED_CAMERA = Intrinsics(fx_px=886.81, fy_px=927.06, cx_px=512.0, cy_px=384.0)


class Diode(FileReader):
    """Reads `<split>/<indoors|outdoor>/scene_NNNNN/scan_NNNNN/*.png` with depth and mask beside.

    Those are `*_depth.npy` and `*_depth_mask.npy`. A split is a folder of the root: `train`, `val`.
    """

    def list_samples(self, split: str) -> list[SampleFiles]:
        """Returns the views of a split that have a depth map beside the image."""
        self._check_root()
        self._refuse_split(split, "train", "val")
        samples = []
        for file in self._storage.list_files(split):
            if view := _VIEW.fullmatch(file.path):
                samples.append(
                    SampleFiles(
                        sample_id=view["stem"],
                        scene=view["scene"],
                        image=file.path,
                        depth=f"{view['stem']}{_DEPTH_SUFFIX}",
                        extra=(f"{view['stem']}{_MASK_SUFFIX}",),
                    )
                )
        return check_samples(samples, where=self._storage.where(), split=split)

    def read(self, files: SampleFiles) -> DepthSample:
        """Returns one view; valid is where the mask is 1 and the depth finite and above zero."""
        image = self.read_image(files)
        assert files.depth is not None
        size = (image.shape[0], image.shape[1])
        depth = self._array(files.depth, size, "f").astype(np.float32, copy=False)
        mask = self._array(files.extra[0], size, "fiub")
        valid = (mask == 1) & np.isfinite(depth) & (depth > 0)
        check_measured(depth, valid, None, where=self._storage.where(files.depth))
        return DepthSample(
            sample_id=files.sample_id,
            dataset="diode",
            scene=files.scene,
            image=image,
            depth=depth,
            valid=valid,
            sky=None,
            intrinsics=_PUBLISHED_CAMERA if size == _PUBLISHED_SIZE else None,
        )

    def _array(self, path: str, size: tuple[int, int], kinds: str) -> npt.NDArray[Any]:
        where = self._storage.where(path)
        return decode_npy(self.read_bytes(path), size=size, kinds=kinds, where=where)
