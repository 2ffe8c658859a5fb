"""DA-2K (Yang et al. 2024, arXiv:2406.09414): pairs of points, one known to be closer.

Axes: H height, W width (pixels).
"""

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from dav2.data.images import MAX_PIXELS
from dav2.data.reader import FileReader, check_samples, unlabelled
from dav2.data.sample import DepthSample, SampleFiles
from dav2.data.storage import Storage

_ANNOTATIONS = "annotations.json"


@dataclass(frozen=True, slots=True)
class PointPair:
    """Two pixels of one image; `closer` is nearer to the camera than `farther`."""

    closer: tuple[int, int]
    """Row and column of the pixel: height first, as the release has it."""
    farther: tuple[int, int]
    first_is_closer: bool
    """True where the annotation lists the closer point first; the release always does."""


class Da2k(FileReader):
    """Reads `annotations.json` and `images/<scenario>/*`; the scenario is a sample's scene."""

    def __init__(self, root: Path | str | Storage, *, max_pixels: int = MAX_PIXELS) -> None:
        """Prepares to read; opens nothing."""
        super().__init__(root, max_pixels=max_pixels)
        self._annotations: dict[str, Any] | None = None  # by image, not yet checked

    def list_samples(self, split: str) -> list[SampleFiles]:
        """Returns the annotated images; the only split is `test`."""
        self._refuse_split(split, "test")
        self._check_root()
        samples = [
            SampleFiles(
                sample_id=image,
                scene=PurePosixPath(image).parent.name,
                image=image,
                extra=(_ANNOTATIONS,),
            )
            for image in self._load()
        ]
        return check_samples(samples, where=self._storage.where(), split=split)

    def read(self, files: SampleFiles) -> DepthSample:
        """Returns the image; it has no depth map. Checks that its pairs lie inside it."""
        image = self.read_image(files)
        self.pairs(files, size=(image.shape[0], image.shape[1]))
        return unlabelled(files, image, dataset="da2k")

    def pairs(self, files: SampleFiles, *, size: tuple[int, int]) -> list[PointPair]:
        """Returns the pairs of one image.

        Args:
            files: A listed sample.
            size: Height and width of the upright image.

        Raises:
            ValueError: If the image has no pairs, or a point of one lies outside it.
        """
        where = f"{self._storage.where(_ANNOTATIONS)}: {files.image}"
        pairs = _pairs(self._load().get(files.image, []), where=where)
        if not pairs:
            raise ValueError(f"{where}: expected at least one pair, got none")
        for pair in pairs:
            for row, column in (pair.closer, pair.farther):
                if not (0 <= row < size[0] and 0 <= column < size[1]):
                    raise ValueError(
                        f"{where}: expected points inside {size[0]} x {size[1]} "
                        f"(height x width), got [{row}, {column}]"
                    )
        return pairs

    def _load(self) -> dict[str, Any]:
        if self._annotations is None:
            where = self._storage.where(_ANNOTATIONS)
            try:
                content = json.loads(self.read_bytes(_ANNOTATIONS))
            except ValueError:
                raise ValueError(f"{where}: expected JSON, got something else") from None
            if not isinstance(content, dict):
                raise ValueError(f"{where}: expected an object of images, got another JSON value")
            self._annotations = content
        return self._annotations


def _pairs(entries: Any, *, where: str) -> list[PointPair]:
    if not isinstance(entries, list):
        raise ValueError(f"{where}: expected a list of pairs, got {json.dumps(entries)[:80]}")
    return [_pair(entry, where=where) for entry in entries]


def _pair(entry: Any, *, where: str) -> PointPair:
    try:
        points = {name: _point(entry[name]) for name in ("point1", "point2")}
        closer = entry["closer_point"]
        farther = {"point1": "point2", "point2": "point1"}[closer]
    except (KeyError, TypeError, ValueError, OverflowError):
        raise ValueError(
            f"{where}: expected point1 and point2 as [h, w] and closer_point naming one, "
            f"got {json.dumps(entry)[:200]}"
        ) from None
    return PointPair(points[closer], points[farther], first_is_closer=closer == "point1")


def _point(value: Any) -> tuple[int, int]:
    row, column = value
    return int(row), int(column)
