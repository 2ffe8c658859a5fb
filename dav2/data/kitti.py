"""KITTI (Geiger et al., CVPR 2012) with the depth of Uhrig et al. 2017 (arXiv:1708.06500).

Axes: H height, W width (pixels).
Depth is a 16-bit PNG of 1/256 metre along the optical axis, accumulated from laser scans; 0 is not
measured, which most pixels and all of the sky are. The split is that of Eigen et al. 2014
(arXiv:1406.2283) in the lists of BTS (arXiv:1907.10326), which ZoeDepth and Marigold use as well.
Unverified: the list's drives are looked for in the folders of the archive, `train` and `val`, or
without them; other arrangements are refused.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dav2.data.images import MAX_PIXELS
from dav2.data.lists import ListLine, below_root, check_published, read_list
from dav2.data.option_values import check_text
from dav2.data.png16 import decode_png16
from dav2.data.reader import FileReader, check_measured, check_samples, decode_text
from dav2.data.sample import DepthSample, Intrinsics, SampleFiles
from dav2.data.storage import Storage

_IMAGE = re.compile(
    r"(?:.+/)?(?P<date>\d{4}_\d\d_\d\d)/(?P<drive>\d{4}_\d\d_\d\d_drive_\d{4}_sync)/"
    r"(?P<camera>image_0[23])/data/(?P<frame>\d{10})\.png"
)
_DEPTH = re.compile(
    r"(?P<above>.+/)?(?P<drive>\d{4}_\d\d_\d\d_drive_\d{4}_sync)/"
    r"(?P<file>proj_depth/groundtruth/image_0[23]/\d{10}\.png)"
)
_NO_DEPTH = "None"
_CALIBRATION = "calib_cam_to_cam.txt"
_PUBLISHED_LISTS = {
    "kitti_eigen_train_files_with_gt.txt": 23_158,
    "kitti_eigen_test_files_with_gt.txt": 697,
}
_MEASURED_TEST_IMAGES = 652  # of the 697; the others have no improved ground truth
_STEPS_PER_METRE = np.float32(256)


@dataclass(frozen=True, slots=True)
class KittiOptions:
    """Where the parts of the dataset lie below the root."""

    train_list: str = "kitti_eigen_train_files_with_gt.txt"
    test_list: str = "kitti_eigen_test_files_with_gt.txt"
    """Under their published names the lists must be whole; one's own go under others."""
    images: str = "."
    """Folder of the raw recordings, which holds `2011_09_26` and so on."""
    depth: str = "."
    """Folder of the annotated depth, which holds the drives or `train` and `val`."""

    def __post_init__(self) -> None:
        """Checks what came from a file."""
        check_text(self.train_list, name="train_list")
        check_text(self.test_list, name="test_list")
        for name in ("images", "depth"):
            check_text(getattr(self, name), name=name)
            below_root(getattr(self, name), where=name)


class Kitti(FileReader):
    """Reads `<date>/<drive>/image_02/data/*.png` and `<drive>/proj_depth/groundtruth/image_02/*`.

    Splits are `train` (23,158 lines) and `test` (697 lines, of which the 652 are read that have
    ground truth; the others say `None`), counted where a list has its published name. The scene is
    the drive. Intrinsics come from `<date>/calib_cam_to_cam.txt` where there is one.
    """

    def __init__(
        self,
        root: Path | str | Storage,
        *,
        max_pixels: int = MAX_PIXELS,
        options: KittiOptions = KittiOptions(),
    ) -> None:
        """Prepares to read; opens nothing."""
        super().__init__(root, max_pixels=max_pixels)
        self._lists = {"train": options.train_list, "test": options.test_list}
        self._images = _prefix(options.images)
        self._depth = _prefix(options.depth)

    def list_samples(self, split: str) -> list[SampleFiles]:
        """Returns the images of a split that have ground truth."""
        self._check_root()
        self._refuse_split(split, *self._lists)
        path = self._lists[split]
        where = self._storage.where(path)
        lines = read_list(
            self._storage,
            path,
            columns="an image, its depth map or None, and a focal length",
            num_names=range(2, 4),
        )
        measured = [line for line in lines if line.names[1] != _NO_DEPTH]
        if path in _PUBLISHED_LISTS:
            check_published(len(lines), (_PUBLISHED_LISTS[path],), what="lines", where=where)
            if split == "test":
                check_published(
                    len(measured), (_MEASURED_TEST_IMAGES,), what="lines with depth", where=where
                )
        drives = self._find_drives()
        calibrations: dict[str, tuple[str, ...]] = {}
        samples = [self._sample(line, drives, calibrations) for line in measured]
        return check_samples(samples, where=where, split=split)

    def read(self, files: SampleFiles) -> DepthSample:
        """Returns one image with its sparse depth; 0 is not valid."""
        image = self.read_image(files)
        assert files.depth is not None
        where = self._storage.where(files.depth)
        size = (image.shape[0], image.shape[1])
        stored = decode_png16(self.read_bytes(files.depth), size=size, where=where)
        valid = stored > 0
        check_measured(stored, valid, None, where=where)
        return DepthSample(
            sample_id=files.sample_id,
            dataset="kitti",
            scene=files.scene,
            image=image,
            depth=stored / _STEPS_PER_METRE,
            valid=valid,
            sky=None,
            intrinsics=self._intrinsics(files, size) if files.extra else None,
        )

    def _find_drives(self) -> dict[str, str]:
        """Returns the folder of every drive that has annotated depth, in one pass over it."""
        drives: dict[str, str] = {}
        for file in self._storage.list_files(self._depth.rstrip("/")):
            if match := _DEPTH.fullmatch(file.path):
                folder = f"{match['above'] or ''}{match['drive']}"
                if drives.setdefault(match["drive"], folder) != folder:
                    raise ValueError(
                        f"{self._storage.where(folder)}: expected every drive once, got it also in "
                        f"{self._storage.where(drives[match['drive']])}"
                    )
        return drives

    def _sample(
        self, line: ListLine, drives: dict[str, str], calibrations: dict[str, tuple[str, ...]]
    ) -> SampleFiles:
        image, depth = (
            pattern.fullmatch(name)
            for pattern, name in zip((_IMAGE, _DEPTH), line.names[:2], strict=True)
        )
        if image is None or depth is None or image["drive"] != depth["drive"]:
            raise ValueError(
                f"{line.where}: expected <date>/<drive>/image_02/data/N.png and <drive>/proj_depth/"
                f"groundtruth/image_02/N.png of one drive, got {' '.join(line.names[:2])}"
            )
        date, drive, camera = image["date"], image["drive"], image["camera"]
        if drive not in drives:
            raise ValueError(
                f"{line.where}: expected depth of {drive} in "
                f"{self._storage.where(self._depth)}, got none; there are {len(drives)} drives"
            )
        if date not in calibrations:
            path = f"{self._images}{date}/{_CALIBRATION}"
            calibrations[date] = (path,) if self._storage.status(path) else ()
        return SampleFiles(
            sample_id=f"{drive}/{camera}/{image['frame']}",
            scene=drive,
            image=f"{self._images}{date}/{drive}/{camera}/data/{image['frame']}.png",
            depth=f"{drives[drive]}/{depth['file']}",
            extra=calibrations[date],
        )

    def _intrinsics(self, files: SampleFiles, size: tuple[int, int]) -> Intrinsics | None:
        """Returns the rectified camera, or None for images of another size than it is for."""
        where = self._storage.where(files.extra[0])
        text = decode_text(self.read_bytes(files.extra[0]), where=where)
        number = files.image.split("/image_")[1][:2]
        width, height = _numbers(text, f"S_rect_{number}", count=2, where=where)
        matrix = _numbers(text, f"P_rect_{number}", count=12, where=where)
        if height != size[0] or width != size[1]:
            return None
        if min(matrix[0], matrix[5]) <= 0:
            raise ValueError(
                f"{where}: expected focal lengths above 0 in P_rect_{number}, "
                f"got {matrix[0]:g} and {matrix[5]:g}"
            )
        # KITTI counts from the middle of the first pixel.
        return Intrinsics(
            fx_px=matrix[0], fy_px=matrix[5], cx_px=matrix[2] + 0.5, cy_px=matrix[6] + 0.5
        )


def _prefix(folder: str) -> str:
    plain = below_root(folder, where="folder")
    return "" if plain == "." else f"{plain}/"


def _numbers(text: str, name: str, *, count: int, where: str) -> list[float]:
    found = re.search(rf"^{name}:(.*)$", text, re.MULTILINE)
    try:
        numbers = [float(word) for word in found[1].split()] if found else []
    except ValueError:
        numbers = []
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise ValueError(f"{where}: expected a line {name}: of {count} numbers, got none")
    return numbers
