"""A folder of photographs without depth, in any arrangement of sub-folders.

Axes: H height, W width (pixels).
"""

from collections.abc import Iterator

from dav2.data.reader import FileReader, stream_samples, unlabelled
from dav2.data.sample import DepthSample, SampleFiles

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


class ImageFolder(FileReader):
    """Every JPEG, PNG and WebP file below the root; hidden files and folders are left out."""

    def list_samples(self, split: str) -> Iterator[SampleFiles]:
        """Yields all images; the only split is `all`."""
        self._refuse_split(split, "all")
        return stream_samples(self._list(), where=self._storage.where(), split=split)

    def read(self, files: SampleFiles) -> DepthSample:
        """Returns the photograph; it has no depth."""
        return unlabelled(files, self.read_image(files), dataset="folder")

    def _list(self) -> Iterator[SampleFiles]:
        for file in self._storage.list_files():
            path = file.path
            if path.lower().endswith(_SUFFIXES) and "/." not in f"/{path}":
                # With its suffix: a.jpg and a.png are two photographs.
                yield SampleFiles(sample_id=path, scene=path.rpartition("/")[0], image=path)
