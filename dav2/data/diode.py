"""DIODE (Vasiljevic et al. 2019, arXiv:1908.00463): laser scans of rooms and streets.

Axes: H height, W width (pixels).
Depth is metres in float32 with a mask of what the laser measured. Whether it is meant along the ray
or along the optical axis is stated nowhere; like all public users we take the latter.
"""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from dav2.data.arrays import read_npy
from dav2.data.images import MAX_PIXELS, decode_image
from dav2.data.sample import (
    DepthSample,
    Intrinsics,
    SampleFiles,
    check_measured,
    check_root,
    check_samples,
)

_DEPTH_SUFFIX = "_depth.npy"
_MASK_SUFFIX = "_depth_mask.npy"
# intrinsics.txt of the development kit, for the published size.
_PUBLISHED_SIZE = (768, 1024)
_PUBLISHED_CAMERA = Intrinsics(fx_px=886.81, fy_px=927.06, cx_px=512.0, cy_px=384.0)


class Diode:
    """Reads `<split>/<indoors|outdoor>/scene_NNNNN/scan_NNNNN/*.png` with depth and mask beside.

    Those are `*_depth.npy` and `*_depth_mask.npy`. A split is a folder of the root: `train`, `val`.
    """

    def __init__(self, root: Path, *, max_pixels: int = MAX_PIXELS) -> None:
        self._root = root
        self._max_pixels = max_pixels

    def list_samples(self, split: str) -> list[SampleFiles]:
        """Returns the views of a split that have a depth map beside the image."""
        check_root(self._root)
        if split not in ("train", "val") or not (self._root / split).is_dir():
            raise ValueError(
                f"{self._root}: expected a split 'train' or 'val' with a folder of its name, "
                f"got {split!r}"
            )
        samples = []
        for path in self._root.glob(f"{split}/*/scene_*/scan_*/*.png"):
            stem = path.relative_to(self._root).with_suffix("").as_posix()
            samples.append(
                SampleFiles(
                    sample_id=stem,
                    scene="/".join(stem.split("/")[1:3]),
                    image=f"{stem}.png",
                    depth=f"{stem}{_DEPTH_SUFFIX}",
                    extra=(f"{stem}{_MASK_SUFFIX}",),
                )
            )
        return check_samples(samples, where=self._root, split=split)

    def read(self, files: SampleFiles) -> DepthSample:
        """Returns one view; valid is where the mask is 1 and the depth finite and above zero."""
        image = self.read_image(files)
        assert files.depth is not None
        path = self._root / files.depth
        size = (image.shape[0], image.shape[1])
        depth = read_npy(path, size=size, kinds="f").astype(np.float32, copy=False)
        mask = read_npy(self._root / files.extra[0], size=size, kinds="fiub")
        valid = (mask == 1) & np.isfinite(depth) & (depth > 0)
        check_measured(depth, valid, None, where=path)
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

    def read_image(self, files: SampleFiles) -> UInt8[np.ndarray, "H W 3"]:
        """Returns the view's image."""
        return decode_image(self._root / files.image, max_pixels=self._max_pixels)
