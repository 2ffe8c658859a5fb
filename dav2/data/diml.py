"""DIML/CVL RGB-D (Cho et al. 2021, arXiv:2110.11590): rooms by a Kinect, streets by stereo.

Axes: H height, W width (pixels).
Read is the sample release, on which ZoeDepth and others evaluate. Depth is a 16-bit PNG in
millimetres along the optical axis: with holes filled indoors, from stereo matching outdoors, where
a map of 8 bits tells how sure that was. Sky is not told apart. Unverified: all of this is what
public loaders agree on, not a description by the authors; that values above 65500 mean nothing is
Metric3D's reading. The full release has other folders; `dav2.data.own` reads those by templates.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dav2.data.grey8 import decode_grey8
from dav2.data.images import MAX_PIXELS
from dav2.data.option_values import check_number
from dav2.data.png16 import decode_png16
from dav2.data.reader import FileReader, check_measured, check_samples
from dav2.data.sample import DepthSample, SampleFiles
from dav2.data.storage import Storage

_SPLITS = ("indoor_train", "indoor_test", "outdoor_train", "outdoor_test")
_INDOOR = re.compile(r"(?P<scene>.+/[^/]+)/color/(?P<name>[^/]+)_c\.png")
_OUTDOOR = re.compile(r"(?P<scene>.+)/outleft/(?P<name>[^/]+)\.png")
_LARGEST = 65500
_MILLIMETRES = np.float32(1000)


@dataclass(frozen=True, slots=True)
class DimlOptions:
    """What of it is read."""

    resolution: str = "HR"
    """`HR` (756 x 1344 indoors, 1080 x 1920 outdoors) or `LR`."""
    min_confidence: int | None = None
    """Outdoors: depth of a lower confidence, out of 255, is not valid. None takes all, as ZoeDepth
    does."""

    def __post_init__(self) -> None:
        """Checks what came from a file."""
        if self.resolution not in ("HR", "LR"):
            raise ValueError(f"resolution: expected 'HR' or 'LR', got {self.resolution!r}")
        if self.min_confidence is not None:
            check_number(self.min_confidence, name="min_confidence", above=0)


class Diml(FileReader):
    """Reads `<indoor|outdoor>/<train|test>/<HR|LR>/...` of the sample release.

    Indoors `<scene>/color/X_c.png` with `<scene>/depth_filled/X_depth_filled.png`; outdoors
    `outleft/X.png` with `depthmap/X.png` and `confidencemap/X.png`. Splits: `indoor_train` (1609
    images), `indoor_test` (503), `outdoor_train` (1505), `outdoor_test` (500); the release brings
    no list, so that no count is checked.
    """

    def __init__(
        self,
        root: Path | str | Storage,
        *,
        max_pixels: int = MAX_PIXELS,
        options: DimlOptions = DimlOptions(),
    ) -> None:
        """Prepares to read; opens nothing."""
        super().__init__(root, max_pixels=max_pixels)
        self._options = options

    def list_samples(self, split: str) -> list[SampleFiles]:
        """Returns the images of a split."""
        self._check_root()
        self._refuse_split(split, *_SPLITS)
        folder = f"{split.replace('_', '/')}/{self._options.resolution}"
        pattern = _INDOOR if split.startswith("indoor") else _OUTDOOR
        samples = [
            self._sample(match)
            for file in self._storage.list_files(folder)
            if (match := pattern.fullmatch(file.path))
        ]
        return check_samples(samples, where=self._storage.where(folder), split=split)

    def read(self, files: SampleFiles) -> DepthSample:
        """Returns one image; valid is what is above zero and sure enough."""
        image = self.read_image(files)
        assert files.depth is not None
        where = self._storage.where(files.depth)
        size = (image.shape[0], image.shape[1])
        stored = decode_png16(self.read_bytes(files.depth), size=size, where=where)
        valid = (stored > 0) & (stored <= _LARGEST)
        if files.extra and self._options.min_confidence is not None:
            (path,) = files.extra
            confidence = decode_grey8(
                self.read_bytes(path), size=size, where=self._storage.where(path)
            )
            valid &= confidence >= self._options.min_confidence
        check_measured(stored, valid, None, where=where)
        return DepthSample(
            sample_id=files.sample_id,
            dataset="diml",
            scene=files.scene,
            image=image,
            depth=stored / _MILLIMETRES,
            valid=valid,
            sky=None,
            intrinsics=None,
        )

    def _sample(self, match: re.Match[str]) -> SampleFiles:
        scene, name = match["scene"], match["name"]
        extra: tuple[str, ...] = ()
        if match.re is _INDOOR:
            depth = f"{scene}/depth_filled/{name}_depth_filled.png"
        else:
            depth = f"{scene}/depthmap/{name}.png"
            if self._options.min_confidence is not None:
                extra = (f"{scene}/confidencemap/{name}.png",)
        return SampleFiles(
            sample_id=f"{scene}/{name}", scene=scene, image=match.string, depth=depth, extra=extra
        )
