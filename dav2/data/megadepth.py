"""MegaDepth v1 (Li and Snavely 2018, arXiv:1804.00607): landmarks reconstructed from photographs.

Axes: H height, W width (pixels).
Depth is an HDF5 array `depth` along the optical axis, 0 where not reconstructed, in a unit of each
reconstruction's own: `scale_known` is False. Some files hold an order of near and far under the
same name, told by values below 0 as public loaders do; they are refused one by one when read, and
may be left out by a list. Sky is not told apart from what is not reconstructed. Unverified: that
every map has the size of its image; others are refused.
"""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from dav2.data.arrays import decode_hdf5
from dav2.data.images import MAX_PIXELS
from dav2.data.lists import read_list
from dav2.data.option_values import check_text
from dav2.data.reader import FileReader, check_measured, check_samples
from dav2.data.sample import DepthSample, SampleFiles
from dav2.data.storage import Storage

_IMAGE = re.compile(r"(?P<folder>(?:.+/)?(?P<scene>\d{4})/dense\d+)/imgs/(?P<name>[^/]+)")
_SUFFIXES = (".jpg", ".jpeg", ".png")
_KEY = "depth"


@dataclass(frozen=True, slots=True)
class MegaDepthOptions:
    """What of it is read."""

    image_list: str | None = None
    """A list of the images to read, relative to the root, one a line and named as it names them:
    those whose depth is no mere order, or a split of one's own. None reads all."""

    def __post_init__(self) -> None:
        """Checks what came from a file."""
        if self.image_list is not None:
            check_text(self.image_list, name="image_list")


class MegaDepth(FileReader):
    """Reads `<scene>/dense0/imgs/*.jpg` with `<scene>/dense0/depths/*.h5`.

    There is no split of the whole that all users share: the only one is `all`, every image found,
    or those of `image_list`. No count is checked; the paper has 130K images, of which 100K with
    depth, Depth Anything V1 (arXiv:2401.10891) 128K.
    """

    def __init__(
        self,
        root: Path | str | Storage,
        *,
        max_pixels: int = MAX_PIXELS,
        options: MegaDepthOptions = MegaDepthOptions(),
    ) -> None:
        """Prepares to read; opens nothing."""
        super().__init__(root, max_pixels=max_pixels)
        self._image_list = options.image_list

    def list_samples(self, split: str) -> list[SampleFiles]:
        """Returns the images found, or those that are listed; the only split is `all`."""
        self._check_root()
        self._refuse_split(split, "all")
        found = {}
        for file in self._storage.list_files():
            match = _IMAGE.fullmatch(file.path)
            if match and PurePosixPath(file.path).suffix.lower() in _SUFFIXES:
                found[file.path] = _sample(match)
        samples = list(found.values())
        if self._image_list is not None:
            listed = {}
            for line in read_list(
                self._storage, self._image_list, columns="one image", num_names=range(1, 2)
            ):
                if line.names[0] not in found:
                    raise ValueError(
                        f"{line.where}: expected one of the {len(found)} images as "
                        f"0001/dense0/imgs/NAME.jpg, got {line.names[0]!r}"
                    )
                listed[line.names[0]] = found[line.names[0]]
            samples = list(listed.values())
        return check_samples(samples, where=self._storage.where(), split=split)

    def read(self, files: SampleFiles) -> DepthSample:
        """Returns one image; valid is where the depth is finite and above zero."""
        image = self.read_image(files)
        assert files.depth is not None
        where = self._storage.where(files.depth)
        size = (image.shape[0], image.shape[1])
        stored = decode_hdf5(
            self.read_bytes(files.depth), size=size, kinds="f", where=where, key=_KEY
        )
        depth = stored.astype(np.float32, copy=False)
        if (depth < 0).any():
            raise ValueError(
                f"{where}: expected depth, got values below 0, which mark an order of near and far"
            )
        valid = np.isfinite(depth) & (depth > 0)
        check_measured(depth, valid, None, where=where)
        return DepthSample(
            sample_id=files.sample_id,
            dataset="megadepth",
            scene=files.scene,
            image=image,
            depth=depth,
            valid=valid,
            sky=None,
            intrinsics=None,
            scale_known=False,
        )


def _sample(match: re.Match[str]) -> SampleFiles:
    # With its suffix: a.jpg and a.png would be two photographs.
    return SampleFiles(
        sample_id=f"{match['folder']}/{match['name']}",
        scene=match["scene"],
        image=match.string,
        depth=f"{match['folder']}/depths/{PurePosixPath(match['name']).stem}.h5",
    )
