"""Middlebury 2014 and 2021 stereo (Scharstein et al., GCPR 2014), or as scikit-image ships a scene.

Axes: H height, W width (pixels).
Ground truth is disparity in pixels, inf where unknown. With the calibration beside it depth is
metres along the optical axis: baseline x focal length / (disparity + doffs), where `doffs` is the
distance of the two principal points and the baseline is in millimetres. Without one, depth is known
up to one factor only: it is given as 1 / disparity with `scale_known` False.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from jaxtyping import Float32

from dav2.data.arrays import decode_npz, decode_pfm
from dav2.data.reader import FileReader, check_measured, check_samples, decode_text
from dav2.data.sample import DepthSample, Intrinsics, SampleFiles

_LEFT_SUFFIX = "_left.png"
_DISPARITY_SUFFIX = "_disp.npz"
_CALIBRATION = "calib.txt"
_MAX_CALIBRATION_BYTES = 1 << 16
_MILLIMETRES = 1000.0


@dataclass(frozen=True, slots=True)
class _Calibration:
    """What `calib.txt` tells of the left camera."""

    camera: Intrinsics
    baseline_m: float
    offset_px: float


class Middlebury(FileReader):
    """Reads `<scene>/im0.png` with `disp0.pfm`, and `<name>_left.png` with `<name>_disp.npz`.

    A scene with `calib.txt`, as all official ones have, is metric and has intrinsics. Images of
    other lightings (`im0e1.png`, `ambient/`) and the right camera are left out. The official
    releases bring no list, so that the number of scenes is not checked.

    Unverified: that the principal point counts from the middle of the first pixel.
    """

    def list_samples(self, split: str) -> list[SampleFiles]:
        """Returns every left image with a disparity map beside it; the only split is `all`."""
        self._refuse_split(split, "all")
        found = {file.path for file in self._storage.list_files()}
        samples = []
        for image in found:
            path = PurePosixPath(image)
            calibration = str(path.with_name(_CALIBRATION))
            if path.name == "im0.png":
                scene, disparity = path.parent, path.with_name("disp0.pfm")
            elif path.name.endswith(_LEFT_SUFFIX):
                scene = path.with_name(path.name.removesuffix(_LEFT_SUFFIX))
                disparity = path.with_name(f"{scene.name}{_DISPARITY_SUFFIX}")
                calibration = ""  # of one scene, and here a folder may hold many
            else:
                continue
            if str(disparity) in found:
                samples.append(
                    SampleFiles(
                        sample_id=str(scene),
                        scene=str(scene),
                        image=image,
                        depth=str(disparity),
                        extra=(calibration,) if calibration in found else (),
                    )
                )
        return check_samples(samples, where=self._storage.where(), split=split)

    def read(self, files: SampleFiles) -> DepthSample:
        """Returns one scene; valid is where the disparity is finite and above zero."""
        image = self.read_image(files)
        assert files.depth is not None
        data, where = self.read_bytes(files.depth), self._storage.where(files.depth)
        size = (image.shape[0], image.shape[1])
        disparity: Float32[np.ndarray, "H W"]
        if files.depth.endswith(".pfm"):
            disparity = decode_pfm(data, size=size, where=where)
        else:
            disparity = decode_npz(data, size=size, kinds="f", where=where)
            disparity = disparity.astype(np.float32, copy=False)
        calibration = self._calibration(files.extra[0], size) if files.extra else None
        valid = np.isfinite(disparity) & (disparity > 0)
        factor, offset = np.float32(1), np.float32(0)
        depth = np.full(size, np.nan, np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is not measured
            if calibration is not None:
                factor = np.float32(calibration.camera.fx_px * calibration.baseline_m)
                offset = np.float32(calibration.offset_px)
                valid &= disparity + offset > 0
            np.divide(factor, disparity + offset, out=depth, where=valid)
            valid &= np.isfinite(depth) & (depth > 0)
        check_measured(disparity, valid, None, where=where)
        return DepthSample(
            sample_id=files.sample_id,
            dataset="middlebury",
            scene=files.scene,
            image=image,
            depth=depth,
            valid=valid,
            sky=None,
            intrinsics=None if calibration is None else calibration.camera,
            scale_known=calibration is not None,
        )

    def _calibration(self, path: str, size: tuple[int, int]) -> _Calibration:
        """Returns what `calib.txt` says: lines as `doffs=124.3`, the camera as `[f 0 cx; ...]`."""
        where = self._storage.where(path)
        text = decode_text(self._storage.read(path, max_bytes=_MAX_CALIBRATION_BYTES), where=where)
        lines = (line.partition("=") for line in text.splitlines())
        values = {name.strip(): value.strip() for name, _, value in lines}
        try:
            calibration = _parsed(values)
            stated = (int(values["height"]), int(values["width"]))
        except (KeyError, ValueError):
            raise ValueError(
                f"{where}: expected cam0 of 3 x 3, doffs, baseline, width and height, "
                f"got {', '.join(sorted(values))[:80] or 'none'} or other values"
            ) from None
        positive = (calibration.camera.fx_px, calibration.camera.fy_px, calibration.baseline_m)
        if not all(0 < value < np.inf for value in positive) or stated != size:
            raise ValueError(
                f"{where}: expected a camera of {size[0]} x {size[1]} pixels and a baseline above "
                f"zero, got {stated[0]} x {stated[1]}, focal length "
                f"{calibration.camera.fx_px:g} px and {calibration.baseline_m:g} m"
            )
        return calibration


def _parsed(values: Mapping[str, str]) -> _Calibration:
    rows = [row.split() for row in values["cam0"].strip("[]").split(";")]
    matrix = np.array(rows, np.float64).reshape(3, 3)
    camera = Intrinsics(
        fx_px=float(matrix[0, 0]),
        fy_px=float(matrix[1, 1]),
        cx_px=float(matrix[0, 2]) + 0.5,
        cy_px=float(matrix[1, 2]) + 0.5,
    )
    offset_px = float(values["doffs"])
    if not (np.isfinite(matrix).all() and np.isfinite(offset_px)):
        raise ValueError("not finite")
    return _Calibration(camera, float(values["baseline"]) / _MILLIMETRES, offset_px)
