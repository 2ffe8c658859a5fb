"""Booster (Zama Ramirez et al. 2022, arXiv:2206.04671): indoor stereo with glass and mirrors.

Axes: H height, W width (pixels).
Ground truth is disparity in pixels, 0 where unknown; glass and mirrors have the depth of their
surface, not of what is seen through or in them. Depth is focal length x baseline / disparity: the
calibration, an OpenCV XML file, has the rectified camera `proj_matL` in pixels and `baselineLR` in
millimetres.
"""

import re
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Bool

from dav2.data.arrays import decode_npy
from dav2.data.grey8 import decode_grey8
from dav2.data.reader import FileReader, check_count, check_measured, check_samples
from dav2.data.sample import DepthSample, Intrinsics, SampleFiles

_VIEW = re.compile(r"(?P<folder>train/balanced/(?P<scene>[^/]+))/camera_00/(?P<name>[^/]+)\.png")
_CALIBRATION = "calib_00-02.xml"
_MAX_CALIBRATION_BYTES = 1 << 20
_MASKS = ("mask_00.png", "mask_cat.png")
_GLASS_AND_MIRRORS = (2, 3)
"""Classes of `mask_cat.png`."""
_MILLIMETRES = 1000.0
# The release with ground truth (amsacta.unibo.it/6876): six lightings of each scene.
_PUBLISHED_SCENES = 38
_PUBLISHED_IMAGES = 228


class Booster(FileReader):
    """Reads `train/balanced/<scene>/camera_00/*.png` with the scene's `disp_00.npy`.

    All images of a scene share its disparity and `calib_00-02.xml`. The masks of occlusion
    (`mask_00.png`) and material (`mask_cat.png`) are named among a sample's further files where
    they are there, and not applied: valid is all that has disparity; `glass_and_mirrors` reads the
    latter. The only split is `train`, as
    the ground truth of `test` is withheld; where all 38 scenes are there it must have the
    published 228 images. The left camera alone is read.

    Unverified: which value of `mask_00.png` means occluded; that classes 2 and 3 of `mask_cat.png`
    are the transparent and mirroring ones, as public code takes them.
    """

    def list_samples(self, split: str) -> list[SampleFiles]:
        """Returns the left images of scenes with disparity; the only split is `train`."""
        found = {file.path for file in self._storage.list_files()}
        self._refuse_split(split, "train")
        samples = []
        for path in found:
            view = _VIEW.fullmatch(path)
            if view is None or f"{view['folder']}/disp_00.npy" not in found:
                continue
            masks = (f"{view['folder']}/{name}" for name in _MASKS)
            samples.append(
                SampleFiles(
                    sample_id=f"{view['scene']}/{view['name']}",
                    scene=view["scene"],
                    image=path,
                    depth=f"{view['folder']}/disp_00.npy",
                    extra=(
                        f"{view['folder']}/{_CALIBRATION}",
                        *(mask for mask in masks if mask in found),
                    ),
                )
            )
        where = self._storage.where()
        if len({files.scene for files in samples}) == _PUBLISHED_SCENES:
            check_count(samples, _PUBLISHED_IMAGES, where=where, split=split)
        return check_samples(samples, where=where, split=split)

    def read(self, files: SampleFiles) -> DepthSample:
        """Returns one image; valid is where the disparity is finite and above zero."""
        image = self.read_image(files)
        assert files.depth is not None
        where = self._storage.where(files.depth)
        size = (image.shape[0], image.shape[1])
        disparity = decode_npy(self.read_bytes(files.depth), size=size, kinds="f", where=where)
        disparity = disparity.astype(np.float32, copy=False)
        camera, baseline_m = self._calibration(files.extra[0], size)
        valid = np.isfinite(disparity) & (disparity > 0)
        depth = np.full(size, np.nan, np.float32)
        with np.errstate(over="ignore"):  # a disparity next to nothing is not measured
            np.divide(np.float32(camera.fx_px * baseline_m), disparity, out=depth, where=valid)
        valid &= np.isfinite(depth)
        check_measured(disparity, valid, None, where=where)
        return DepthSample(
            sample_id=files.sample_id,
            dataset="booster",
            scene=files.scene,
            image=image,
            depth=depth,
            valid=valid,
            sky=None,
            intrinsics=camera,
        )

    def glass_and_mirrors(
        self, files: SampleFiles, *, size: tuple[int, int]
    ) -> Bool[np.ndarray, "H W"] | None:
        """Returns where transparent and mirroring surfaces are; None without `mask_cat.png`.

        Args:
            files: A listed sample.
            size: Height and width of the image.

        Raises:
            ValueError: If the mask is no 8-bit picture of this size.
        """
        masks = [name for name in files.extra if name.endswith("/mask_cat.png")]
        if not masks:
            return None
        data = self.read_bytes(masks[0])
        classes = decode_grey8(data, size=size, where=self._storage.where(masks[0]))
        return np.isin(classes, _GLASS_AND_MIRRORS)

    def _calibration(self, path: str, size: tuple[int, int]) -> tuple[Intrinsics, float]:
        """Returns the left camera and the baseline in metres."""
        where = self._storage.where(path)
        data = self._storage.read(path, max_bytes=_MAX_CALIBRATION_BYTES)
        try:
            if b"<!" in data:
                raise ValueError("declarations, which OpenCV does not write")
            root = ElementTree.fromstring(data)
            numbers = [float(text) for text in root.findtext("proj_matL/data", "").split()]
            baseline_m = float(root.findtext("baselineLR", "")) / _MILLIMETRES
            matrix = np.array(numbers).reshape(3, 4)
        except (SyntaxError, LookupError, ValueError):
            raise ValueError(
                f"{where}: expected OpenCV's XML with proj_matL of 3 x 4 and baselineLR, got "
                "something else"
            ) from None
        # OpenCV counts from the middle of the first pixel.
        camera = Intrinsics(
            fx_px=float(matrix[0, 0]),
            fy_px=float(matrix[1, 1]),
            cx_px=float(matrix[0, 2]) + 0.5,
            cy_px=float(matrix[1, 2]) + 0.5,
        )
        inside = 0 < camera.cx_px < size[1] and 0 < camera.cy_px < size[0]
        positive = all(0 < value < np.inf for value in (camera.fx_px, camera.fy_px, baseline_m))
        if not (inside and positive):
            raise ValueError(
                f"{where}: expected a camera of {size[0]} x {size[1]} pixels and a baseline above "
                f"zero, got {camera} and {baseline_m:g} m"
            )
        return camera, baseline_m
