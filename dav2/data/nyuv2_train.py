"""NYU Depth v2's training frames as BTS (Lee et al. 2019, arXiv:1907.10326) synchronised them.

Axes: H height, W width (pixels).
ZoeDepth and with it the metric models of Depth Anything train on this copy. Depth is a 16-bit PNG
in millimetres along the optical axis, registered to the image; 0 is not measured. Unverified: that
10 m, where the toolbox of the dataset cuts depth off, is measured and not a limit; it is kept.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from dav2.data.images import MAX_PIXELS
from dav2.data.lists import ListLine, below_root, check_published, read_list
from dav2.data.option_values import check_text
from dav2.data.png16 import decode_png16
from dav2.data.reader import FileReader, check_measured, check_samples
from dav2.data.sample import DepthSample, Intrinsics, SampleFiles
from dav2.data.storage import Storage

_LIST = "nyudepthv2_train_files_with_gt.txt"
# BTS's list and ZoeDepth's, of the same name.
_LINES = (24_231, 24_232)
_MILLIMETRES = np.float32(1000)
_PUBLISHED_SIZE = (480, 640)
# camera_params.m of the toolbox, whose code counts the centre (325.58245, 253.73617) from 1.
_PUBLISHED_CAMERA = Intrinsics(
    fx_px=518.85790, fy_px=519.46961, cx_px=325.58245 - 0.5, cy_px=253.73617 - 0.5
)


@dataclass(frozen=True, slots=True)
class Nyuv2TrainOptions:
    """Where the list lies and what its paths start at."""

    train_list: str = _LIST
    """Relative to the root. Under its published name it must have the published number of lines;
    a shorter one of one's own goes under another."""
    folder: str = "."
    """Folder below the root that holds the scenes: `sync` as BTS unpacks the archive."""

    def __post_init__(self) -> None:
        """Checks what came from a file."""
        check_text(self.train_list, name="train_list")
        check_text(self.folder, name="folder")
        below_root(self.folder, where="folder")


class Nyuv2Train(FileReader):
    """Reads `<scene>/rgb_00045.jpg` and `<scene>/sync_depth_00045.png` of BTS's list.

    The only split is `train`: lines of an image, its depth map and a focal length, which is not
    used; the paths begin with `/` and count from `folder`. The scene is the image's folder. A list
    under its published name must have the published 24,231 lines (BTS) or 24,232 (ZoeDepth).

    Unverified: whether the published camera centre counts pixels from 1, as the toolbox's code
    does, or from 0; the difference is one pixel.
    """

    def __init__(
        self,
        root: Path | str | Storage,
        *,
        max_pixels: int = MAX_PIXELS,
        options: Nyuv2TrainOptions = Nyuv2TrainOptions(),
    ) -> None:
        """Prepares to read; opens nothing."""
        super().__init__(root, max_pixels=max_pixels)
        self._options = options

    def list_samples(self, split: str) -> list[SampleFiles]:
        """Returns the frames of the list; the only split is `train`."""
        self._check_root()
        self._refuse_split(split, "train")
        path = self._options.train_list
        lines = read_list(
            self._storage,
            path,
            columns="an image, its depth map and a focal length",
            num_names=range(2, 4),
        )
        if path == _LIST:
            check_published(len(lines), _LINES, what="lines", where=self._storage.where(path))
        samples = [self._sample(line) for line in lines]
        return check_samples(samples, where=self._storage.where(path), split=split)

    def read(self, files: SampleFiles) -> DepthSample:
        """Returns one frame; zero millimetres are not valid."""
        image = self.read_image(files)
        assert files.depth is not None
        where = self._storage.where(files.depth)
        size = (image.shape[0], image.shape[1])
        stored = decode_png16(self.read_bytes(files.depth), size=size, where=where)
        valid = stored > 0
        check_measured(stored, valid, None, where=where)
        return DepthSample(
            sample_id=files.sample_id,
            dataset="nyuv2_train",
            scene=files.scene,
            image=image,
            depth=stored / _MILLIMETRES,
            valid=valid,
            sky=None,
            intrinsics=_PUBLISHED_CAMERA if size == _PUBLISHED_SIZE else None,
        )

    def _sample(self, line: ListLine) -> SampleFiles:
        image, depth = (
            PurePosixPath(below_root(name.removeprefix("/"), where=line.where))
            for name in line.names[:2]
        )
        if image.suffix != ".jpg" or depth.suffix != ".png" or len(image.parts) < 2:
            raise ValueError(
                f"{line.where}: expected /<scene>/rgb_NNNNN.jpg /<scene>/sync_depth_NNNNN.png, "
                f"got {' '.join(line.names[:2])}"
            )
        folder = PurePosixPath(self._options.folder)
        return SampleFiles(
            sample_id=str(image.with_suffix("")),
            scene=str(image.parent),
            image=str(folder / image),
            depth=str(folder / depth),
        )
