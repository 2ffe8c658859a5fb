"""TartanAir v1 (Wang et al. 2020, arXiv:2003.14338): flights through 18 rendered environments.

Axes: H height, W width (pixels).
Depth is metres along the optical axis (tartanair_tools, issue 67). The sky is a dome at some
10,000 m, so that whatever lies beyond `sky_from_m` counts as sky. data_type.md of the dataset
speaks of 16-bit arrays, the files are known to hold float32: integers are refused. Unverified:
in the environment `amusement` the dome's depth is said to be damaged (tartanair_tools, issue 46);
it can be left out by option.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dav2.data.arrays import decode_npy
from dav2.data.images import MAX_PIXELS
from dav2.data.option_values import check_number, check_texts
from dav2.data.reader import FileReader, check_measured, check_samples
from dav2.data.sample import DepthSample, Intrinsics, SampleFiles
from dav2.data.storage import Storage

# The archives repeat the environment's folder when they are unpacked beside each other.
_IMAGE = re.compile(
    r"(?P<folder>(?:.+/)?(?P<environment>[^/]+)/(?:Easy|Hard)/P\d+)/image_left/"
    r"(?P<frame>\d+)_left\.png"
)
# data_type.md; half the width and height, hence counted from the corner as ours.
_PUBLISHED_SIZE = (480, 640)
_PUBLISHED_CAMERA = Intrinsics(fx_px=320.0, fy_px=320.0, cx_px=320.0, cy_px=240.0)


@dataclass(frozen=True, slots=True)
class TartanAirOptions:
    """What of it is read."""

    exclude_environments: Sequence[str] = ()
    """Environments to leave out, as `amusement`."""
    sky_from_m: int | float = 1000.0
    """Depth from which on a pixel shows the dome; the value of public code (CUT3R)."""

    def __post_init__(self) -> None:
        """Checks what came from a file."""
        check_texts(self.exclude_environments, name="exclude_environments")
        check_number(self.sky_from_m, name="sky_from_m", above=0)


class TartanAir(FileReader):
    """Reads `<environment>/<Easy|Hard>/P000/image_left/000000_left.png` of the left camera.

    Depth is `depth_left/000000_left_depth.npy` beside. There is no official split, and so no count
    to check: `all` is every left image found (306,637 in the release, by the paper's 306K).
    """

    def __init__(
        self,
        root: Path | str | Storage,
        *,
        max_pixels: int = MAX_PIXELS,
        options: TartanAirOptions = TartanAirOptions(),
    ) -> None:
        """Prepares to read; opens nothing."""
        super().__init__(root, max_pixels=max_pixels)
        self._options = options

    def list_samples(self, split: str) -> list[SampleFiles]:
        """Returns every left image outside the excluded environments; the only split is `all`."""
        self._check_root()
        self._refuse_split(split, "all")
        excluded = set(self._options.exclude_environments)
        samples = []
        environments = set()
        for file in self._storage.list_files():
            if match := _IMAGE.fullmatch(file.path):
                environments.add(match["environment"])
                if match["environment"] not in excluded:
                    samples.append(_sample(file.path, match))
        if unknown := sorted(excluded - environments):
            raise ValueError(
                f"{self._storage.where()}: expected environments to exclude to be there, "
                f"got no {unknown[0]!r}"
            )
        return check_samples(samples, where=self._storage.where(), split=split)

    def read(self, files: SampleFiles) -> DepthSample:
        """Returns one image; zero, negative and NaN are not valid."""
        image = self.read_image(files)
        assert files.depth is not None
        where = self._storage.where(files.depth)
        size = (image.shape[0], image.shape[1])
        stored = decode_npy(self.read_bytes(files.depth), size=size, kinds="f", where=where)
        stored = stored.astype(np.float32, copy=False)
        sky = stored >= self._options.sky_from_m  # NaN is not
        valid = stored > 0
        depth = np.where(sky, np.float32(np.inf), stored)
        check_measured(stored, valid, sky, where=where)
        return DepthSample(
            sample_id=files.sample_id,
            dataset="tartanair",
            scene=files.scene,
            image=image,
            depth=depth,
            valid=valid,
            sky=sky,
            intrinsics=_PUBLISHED_CAMERA if size == _PUBLISHED_SIZE else None,
        )


def _sample(image: str, match: re.Match[str]) -> SampleFiles:
    folder, frame = match["folder"], match["frame"]
    return SampleFiles(
        sample_id=f"{folder}/{frame}",
        scene=match["environment"],
        image=image,
        depth=f"{folder}/depth_left/{frame}_left_depth.npy",
    )
