"""Middlebury 2014 stereo (Scharstein et al. 2014), official or as scikit-image ships one scene.

Axes: H height, W width (pixels).
Ground truth is disparity in pixels, inf where unknown. Without the calibration's baseline depth is
known up to one factor only: it is given as 1 / disparity with `scale_known` False.
"""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from dav2.data.arrays import read_npz, read_pfm
from dav2.data.images import MAX_PIXELS, decode_image
from dav2.data.sample import DepthSample, SampleFiles, check_measured, check_root, check_samples

_LEFT_SUFFIX = "_left.png"
_DISPARITY_SUFFIX = "_disp.npz"


class Middlebury:
    """Reads `<scene>/im0.png` with `disp0.pfm`, and `<name>_left.png` with `<name>_disp.npz`."""

    def __init__(self, root: Path, *, max_pixels: int = MAX_PIXELS) -> None:
        self._root = root
        self._max_pixels = max_pixels

    def list_samples(self, split: str) -> list[SampleFiles]:
        """Returns every left image with a disparity map beside it; the only split is `all`."""
        if split != "all":
            raise ValueError(f"{self._root}: expected split 'all' of Middlebury, got {split!r}")
        check_root(self._root)
        samples = []
        for path in self._root.rglob("*.png"):
            if path.name == "im0.png":
                disparity, stem = path.with_name("disp0.pfm"), path.parent
            elif path.name.endswith(_LEFT_SUFFIX):
                name = path.name.removesuffix(_LEFT_SUFFIX)
                disparity, stem = path.with_name(f"{name}{_DISPARITY_SUFFIX}"), path.with_name(name)
            else:
                continue
            if disparity.is_file():
                scene = stem.relative_to(self._root).as_posix()
                samples.append(
                    SampleFiles(
                        sample_id=scene,
                        scene=scene,
                        image=path.relative_to(self._root).as_posix(),
                        depth=disparity.relative_to(self._root).as_posix(),
                    )
                )
        return check_samples(samples, where=self._root, split=split)

    def read(self, files: SampleFiles) -> DepthSample:
        """Returns one scene; valid is where the disparity is finite and above zero."""
        image = self.read_image(files)
        assert files.depth is not None
        path = self._root / files.depth
        size = (image.shape[0], image.shape[1])
        if path.suffix == ".pfm":
            disparity = read_pfm(path, size=size)
        else:
            disparity = read_npz(path, size=size, kinds="f").astype(np.float32, copy=False)
        valid = np.isfinite(disparity) & (disparity > 0)
        depth = np.full(size, np.nan, np.float32)
        np.divide(np.float32(1), disparity, out=depth, where=valid)
        check_measured(disparity, valid, None, where=path)
        return DepthSample(
            sample_id=files.sample_id,
            dataset="middlebury",
            scene=files.scene,
            image=image,
            depth=depth,
            valid=valid,
            sky=None,
            intrinsics=None,
            scale_known=False,
        )

    def read_image(self, files: SampleFiles) -> UInt8[np.ndarray, "H W 3"]:
        """Returns the scene's left image."""
        return decode_image(self._root / files.image, max_pixels=self._max_pixels)
