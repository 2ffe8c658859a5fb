"""IRS (Wang et al. 2019, arXiv:1912.09678): rendered stereo pairs of rooms, shops and offices.

Axes: H height, W width (pixels).
Ground truth is disparity in pixels as OpenEXR of one channel, whatever its name. Depth is baseline
times focal length over disparity, 0.1 m and 480 px by the authors, who say so of most of the data
(issue 2 of their repository): which part has another baseline is stated nowhere, so `scale_known`
is False. Both hold for the published size, others are refused. Unverified: the principal point,
taken as the middle of the image. Disparity of the sky, seen through some windows, is not told
apart: it is small, or not above 0 and so not valid.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dav2.data.exr import decode_exr
from dav2.data.images import MAX_PIXELS
from dav2.data.lists import below_root, check_published, read_list
from dav2.data.option_values import check_text
from dav2.data.reader import FileReader, check_measured, check_samples
from dav2.data.sample import DepthSample, Intrinsics, SampleFiles
from dav2.data.storage import Storage

_IMAGE = re.compile(
    r"(?P<scene>(?:Home|Office|Restaurant|Store)/(?:.+/)?[^/]+)/l_(?P<frame>\d+)\.png"
)
_TEST_LIST = "irs_test.list"
_TEST_IMAGES = 14_762  # lines of lists/irs_test.list in the authors' repository
_SIZE = (540, 960)
_BASELINE_M = 0.1
_CAMERA = Intrinsics(fx_px=480.0, fy_px=480.0, cx_px=480.0, cy_px=270.0)


@dataclass(frozen=True, slots=True)
class IrsOptions:
    """How it is split."""

    test_list: str = _TEST_LIST
    """The list of the test split, relative to the root. Under its published name it must have the
    published 14,762 lines; a shorter one of one's own goes under another."""

    def __post_init__(self) -> None:
        """Checks what came from a file."""
        check_text(self.test_list, name="test_list")


class Irs(FileReader):
    """Reads `<Home|Office|Restaurant|Store>/<scene>/l_00001.png` with `d_00001.exr` beside.

    Splits: `all` is every left image found (103,316 in the release), `test` the lines of the
    authors' `irs_test.list` (left, right, disparity, normals), `train` all others: the authors
    published no train list of the whole.
    """

    def __init__(
        self,
        root: Path | str | Storage,
        *,
        max_pixels: int = MAX_PIXELS,
        options: IrsOptions = IrsOptions(),
    ) -> None:
        """Prepares to read; opens nothing."""
        super().__init__(root, max_pixels=max_pixels)
        self._test_list = options.test_list

    def list_samples(self, split: str) -> list[SampleFiles]:
        """Returns the left images of `all`, `train` or `test`."""
        self._check_root()
        self._refuse_split(split, "all", "train", "test")
        where = self._storage.where()
        if split == "test":
            return check_samples(self._test_samples(), where=where, split=split)
        left_out = {files.image for files in self._test_samples()} if split == "train" else set()
        samples = [
            _sample(file.path, match)
            for file in self._storage.list_files()
            if (match := _IMAGE.fullmatch(file.path)) and file.path not in left_out
        ]
        return check_samples(samples, where=where, split=split)

    def read(self, files: SampleFiles) -> DepthSample:
        """Returns one left image; valid is where the disparity is finite and above zero."""
        image = self.read_image(files)
        assert files.depth is not None
        where = self._storage.where(files.depth)
        size = (image.shape[0], image.shape[1])
        if size != _SIZE:
            raise ValueError(
                f"{self._storage.where(files.image)}: expected {_SIZE[0]} x {_SIZE[1]} "
                f"(height x width), for which the focal length is known, got {size[0]} x {size[1]}"
            )
        disparity = decode_exr(self.read_bytes(files.depth), size=size, where=where)
        valid = np.isfinite(disparity) & (disparity > 0)
        depth = np.full(size, np.nan, np.float32)
        with np.errstate(over="ignore"):
            np.divide(np.float32(_BASELINE_M * _CAMERA.fx_px), disparity, out=depth, where=valid)
        valid &= np.isfinite(depth)
        check_measured(disparity, valid, None, where=where)
        return DepthSample(
            sample_id=files.sample_id,
            dataset="irs",
            scene=files.scene,
            image=image,
            depth=depth,
            valid=valid,
            sky=None,
            intrinsics=_CAMERA,
            scale_known=False,
        )

    def _test_samples(self) -> list[SampleFiles]:
        lines = read_list(
            self._storage,
            self._test_list,
            columns="left and right image, disparity and normals",
            num_names=range(3, 5),
        )
        if self._test_list == _TEST_LIST:
            check_published(
                len(lines), (_TEST_IMAGES,), what="lines", where=self._storage.where(_TEST_LIST)
            )
        samples = []
        for line in lines:
            image = below_root(line.names[0], where=line.where)
            match = _IMAGE.fullmatch(image)
            if match is None:
                raise ValueError(
                    f"{line.where}: expected <Home|Office|Restaurant|Store>/<scene>/l_NNNNN.png, "
                    f"got {image!r}"
                )
            samples.append(_sample(image, match))
        return samples


def _sample(image: str, match: re.Match[str]) -> SampleFiles:
    scene, frame = match["scene"], match["frame"]
    return SampleFiles(
        sample_id=f"{scene}/{frame}", scene=scene, image=image, depth=f"{scene}/d_{frame}.exr"
    )
