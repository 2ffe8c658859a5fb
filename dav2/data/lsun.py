"""LSUN scenes (Yu et al. 2015, arXiv:1506.03365): photographs of ten categories in LMDB.

Axes: H height, W width (pixels).
The release is a zip a category and split, with a folder `<category>_{train,val}_lmdb`: key = id in
ASCII, value = an encoded image whose shorter side has 256 pixels. They are told by their first
bytes: the release calls them JPEG, its own export names them `.webp`. The ten training sets hold
some 9.9 million images. LMDB trusts its files: one with damaged pages can end the process.
"""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dav2.data.reader import FileReader, stream_samples, unlabelled
from dav2.data.sample import DepthSample, SampleFiles
from dav2.data.storage import MAX_BYTES, split_part

_DATABASE = re.compile(
    r"(?P<folder>(?:.+/)?(?P<category>[a-z_]+)_(?P<split>train|val)_lmdb)/data\.mdb"
)
_KEY = re.compile(r"[\x21-\x7e]+")

# LMDB must open a file once in a process; threads share it, as do processes after a fork.
_environments: dict[Path, tuple[str, Any]] = {}  # with the version of the file
_opening = threading.Lock()


class Lsun(FileReader):
    """Reads `<category>_{train,val}_lmdb/data.mdb` in a local folder; the category is the scene.

    A sample's path is `<folder>/data.mdb#<key>`. Buckets are refused, as LMDB maps its files into
    memory. Any categories will do: their numbers of images are not checked. The `test` set has no
    categories and is not read.
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
        with self._reading(database) as transaction:
            value = transaction.get(key.encode("ascii"))
            if value is None:
                raise FileNotFoundError(f"{where}: expected an image of this key, got none")
            if len(value) > MAX_BYTES:
                raise ValueError(f"{where}: expected at most {MAX_BYTES} bytes, got {len(value)}")
            return bytes(value)

    def _list(self, split: str) -> Iterator[SampleFiles]:
        for file in self._storage.list_files():
            match = _DATABASE.fullmatch(file.path)
            if match and match["split"] == split:
                yield from self._keys(file.path, match["category"], split)

    def _keys(self, database: str, category: str, split: str) -> Iterator[SampleFiles]:
        with self._reading(database) as transaction:
            for stored in transaction.cursor().iternext(keys=True, values=False):
                key = bytes(stored).decode("latin-1")
                if not _KEY.fullmatch(key):
                    raise ValueError(
                        f"{self._storage.where(database)}: expected keys in ASCII, got {key!r:.80}"
                    )
                yield SampleFiles(
                    sample_id=f"{category}_{split}/{key}", scene=category, image=f"{database}#{key}"
                )

    @contextmanager
    def _reading(self, database: str) -> Iterator[Any]:
        """Yields a transaction whose values are valid within it."""
        import lmdb

        where = self._storage.where(database)
        path = self._storage.local_path(database)
        status = self._storage.status(database)
        if status is None:
            raise FileNotFoundError(f"{where}: expected a file, got nothing there")
        version = f"{status.bytes} {status.version}"
        try:
            environment = _environment(path.resolve(), version, num_bytes=status.bytes)
            with environment.begin(buffers=True) as transaction:
                yield transaction
        except lmdb.Error as error:
            raise ValueError(
                f"{where}: expected a whole LMDB database, got a damaged or truncated one "
                f"({' '.join(str(error).split())})"
            ) from None


def _environment(path: Path, version: str, *, num_bytes: int) -> Any:
    """Returns the opened database of a file, opened anew if the file is another one."""
    import lmdb

    with _opening:
        opened = _environments.get(path)
        if opened is not None and opened[0] == version:
            return opened[1]
        if opened is not None:
            del _environments[path]
            opened[1].close()
        environment = lmdb.open(
            str(path), subdir=False, readonly=True, lock=False, create=False, readahead=False
        )
        # Pages beyond the end of the file would be read as a bus error.
        needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
        if num_bytes < needed:
            environment.close()
            raise lmdb.CorruptedError(f"{num_bytes} of {needed} bytes")
        _environments[path] = version, environment
        return environment
