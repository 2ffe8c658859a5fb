"""A folder of photographs without depth, in any arrangement of sub-folders.

Axes: H height, W width (pixels).
"""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from dav2.data.images import MAX_PIXELS, decode_image
from dav2.data.sample import DepthSample, SampleFiles, check_root, check_samples

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})


class ImageFolder:
    """Every JPEG, PNG and WebP file below the root; hidden files and folders are left out."""

    def __init__(self, root: Path, *, max_pixels: int = MAX_PIXELS) -> None:
        self._root = root
        self._max_pixels = max_pixels

    def list_samples(self, split: str) -> list[SampleFiles]:
        """Returns all images, by path; the only split is `all`."""
        if split != "all":
            raise ValueError(f"{self._root}: expected split 'all' of a folder, got {split!r}")
        check_root(self._root)
        samples = []
        for path in self._root.rglob("*"):
            if path.suffix.lower() not in _SUFFIXES or not path.is_file():
                continue
            name = path.relative_to(self._root)
            if not any(part.startswith(".") for part in name.parts):
                # With its suffix: a.jpg and a.png are two photographs.
                samples.append(
                    SampleFiles(
                        sample_id=name.as_posix(),
                        scene=name.parent.as_posix() if name.parent.parts else "",
                        image=name.as_posix(),
                    )
                )
        return check_samples(samples, where=self._root, split=split)

    def read(self, files: SampleFiles) -> DepthSample:
        """Returns the photograph; it has no depth."""
        return DepthSample(
            sample_id=files.sample_id,
            dataset="folder",
            scene=files.scene,
            image=self.read_image(files),
            depth=None,
            valid=None,
            sky=None,
            intrinsics=None,
        )

    def read_image(self, files: SampleFiles) -> UInt8[np.ndarray, "H W 3"]:
        """Returns the photograph, upright."""
        return decode_image(self._root / files.image, max_pixels=self._max_pixels)
