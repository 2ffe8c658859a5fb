"""LSUN scenes (Yu et al. 2015, arXiv:1506.03365): photographs of ten categories in LMDB.

Axes: H height, W width (pixels).
The release is a zip a category and split, with a folder `<category>_{train,val}_lmdb`: key = id in
ASCII, value = an encoded image whose shorter side has 256 pixels. They are told by their first
bytes: the release calls them JPEG, its own export names them `.webp`. The ten training sets hold
some 9.9 million images.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from dav2.data.lmdb_file import DamagedDatabaseError, LmdbFile
from dav2.data.reader import FileReader, stream_samples, unlabelled
from dav2.data.sample import DepthSample, SampleFiles
from dav2.data.storage import MAX_BYTES, split_part

_DATABASE = re.compile(
    r"(?P<folder>(?:.+/)?(?P<category>[a-z_]+)_(?P<split>train|val)_lmdb)/data\.mdb"
)
_KEY = re.compile(r"[\x21-\x7e]+")


class Lsun(FileReader):
    """Reads `<category>_{train,val}_lmdb/data.mdb`; the category is the scene.

    A sample's path is `<folder>/data.mdb#<key>`. From a bucket each image takes several requests
    one after the other: copy the databases to a disk. Any categories will do: their numbers of
    images are not checked. The `test` set has no categories and is not read.
    """

    def list_samples(self, split: str) -> Iterator[SampleFiles]:
        """Yields the photographs of all categories: `train` or `val`, by key."""
        self._refuse_split(split, "train", "val")
        return stream_samples(self._list(split), where=self._storage.where(), split=split)

    def read(self, files: SampleFiles) -> DepthSample:
        """Returns the photograph; it has no depth."""
        return unlabelled(files, self.read_image(files), dataset="lsun")

    def read_bytes(self, path: str) -> bytes:
        """Returns the encoded image of a key."""
        database, key = split_part(path)
        where = self._storage.where(path)
        if key is None or not _KEY.fullmatch(key):
            raise ValueError(
                f"{where}: expected <folder>/data.mdb#<key in ASCII>, got another path"
            )
        with self._reading(database) as images:
            value = images.get(key.encode("ascii"), max_bytes=MAX_BYTES)
            if value is None:
                raise FileNotFoundError(f"{where}: expected an image of this key, got none")
            return value

    def _list(self, split: str) -> Iterator[SampleFiles]:
        for file in self._storage.list_files():
            match = _DATABASE.fullmatch(file.path)
            if match and match["split"] == split:
                yield from self._keys(file.path, match["category"], split)

    def _keys(self, database: str, category: str, split: str) -> Iterator[SampleFiles]:
        with self._reading(database) as images:
            for stored in images.keys():  # noqa: SIM118  # it is no mapping
                key = stored.decode("latin-1")
                if not _KEY.fullmatch(key):
                    raise ValueError(
                        f"{self._storage.where(database)}: expected keys in ASCII, got {key!r:.80}"
                    )
                yield SampleFiles(
                    sample_id=f"{category}_{split}/{key}", scene=category, image=f"{database}#{key}"
                )

    @contextmanager
    def _reading(self, database: str) -> Iterator[LmdbFile]:
        """Yields the opened database; what is found damaged within is told with its name."""
        where = self._storage.where(database)
        found = self._storage.status(database)
        if found is None:
            raise FileNotFoundError(f"{where}: expected a file, got nothing there")
        with self._storage.open(database) as stream:
            try:
                yield LmdbFile(stream, num_bytes=found.bytes)
            except DamagedDatabaseError as error:
                raise ValueError(
                    f"{where}: expected a whole LMDB database, got a damaged or truncated one, or "
                    f"something else ({error})"
                ) from None
