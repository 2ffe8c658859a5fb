"""The labelled file of NYU Depth v2 and its split list, read part by part.

Axes: H height, W width (pixels).
"""

import errno
import re
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from dav2.data.hdf5 import Hdf5Error, find_array, read_values
from dav2.data.storage import Storage, split_part

LABELLED_FILE = "nyu_depth_v2_labeled.mat"
"""MATLAB v7.3, which is HDF5: 2.8 GB."""
SPLIT_FILE = "splits.mat"
"""MATLAB v5."""

Part = TypeVar("Part")

_MAX_SPLIT_BYTES = 1 << 20  # published: some 3 kB
_MAX_SCENE_NAME = 256
_PART = re.compile(r"(?P<key>images|rawDepths|depths)/(?P<index>[1-9]\d{0,8})")
# What h5py and SciPy let through on damaged files.
_DAMAGE = (
    OSError,
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    NotImplementedError,
    MemoryError,
    zlib.error,
)


class _UnexpectedError(ValueError):
    """The file is whole but holds something else; the text says what."""


def read_scenes(storage: Storage) -> list[str]:
    """Returns the room of each image, as `kitchen_0004`."""
    return _with_labelled(storage, _scenes)


def read_array(storage: Storage, path: str, *, max_pixels: int) -> npt.NDArray[Any]:
    """Returns one image, H x W x 3, or one depth map, H x W, in the file's own dtype.

    Args:
        storage: Where the labelled file lies; only what belongs to the array is read of it.
        path: `nyu_depth_v2_labeled.mat#<images, rawDepths or depths>/<number from 1>`.
        max_pixels: Larger ones are refused before they are read.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, or has no such image or depth map.
    """
    file, part = split_part(path)
    named = _PART.fullmatch(part or "")
    if file != LABELLED_FILE or named is None:
        raise ValueError(
            f"{storage.where(path)}: expected images/<number>, rawDepths/<number> or "
            f"depths/<number> of {LABELLED_FILE}, got another part"
        )
    key, index = named["key"], int(named["index"])

    def read(labelled: Any) -> npt.NDArray[Any]:
        stored = _checked(labelled, key, max_pixels)
        if index > stored.shape[0]:
            raise _UnexpectedError(f"{stored.shape[0]} {key}, none of number {index}")
        # MATLAB stores column by column: the axes come in reverse.
        return np.ascontiguousarray(read_values(stored, index - 1).T)

    return _with_labelled(storage, read)


def read_split(storage: Storage, key: str) -> list[int]:
    """Returns the numbers of a split's images, from 1, as `splits.mat` lists them.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no MATLAB v5 file with such a list.
    """
    from scipy.io import loadmat, whosmat  # type: ignore[import-untyped]  # ships no types
    from scipy.io.matlab import MatReadError  # type: ignore[import-untyped]

    where = storage.where(SPLIT_FILE)
    data = storage.read(SPLIT_FILE, max_bytes=_MAX_SPLIT_BYTES)
    try:
        shape = {name: shape for name, shape, _ in whosmat(BytesIO(data))}[key]
        if len(shape) != 2 or 1 not in shape or max(shape) > _MAX_SPLIT_BYTES:
            raise _UnexpectedError("no list")
        numbers = np.asarray(loadmat(BytesIO(data), variable_names=[key])[key]).ravel()
        if numbers.dtype.kind not in "iuf" or (numbers != np.floor(numbers)).any():
            raise _UnexpectedError("no whole numbers")
        if np.unique(numbers).size < numbers.size:
            raise _UnexpectedError("an image twice")
    except (*_DAMAGE, MatReadError) as error:
        got = str(error) if isinstance(error, _UnexpectedError) else "something else or damaged"
        raise ValueError(
            f"{where}: expected a MATLAB v5 file that lists images as {key}, got {got}"
        ) from None
    return [int(number) for number in numbers]


def _with_labelled(storage: Storage, read: Callable[[Any], Part]) -> Part:
    """Returns what `read` takes from the opened file."""
    import h5py

    where = storage.where(LABELLED_FILE)
    with storage.open(LABELLED_FILE) as stream:
        try:
            with h5py.File(stream, "r") as labelled:
                return read(labelled)
        except (_UnexpectedError, Hdf5Error) as error:
            raise ValueError(f"{where}: expected NYU's labelled images, got {error}") from None
        except _DAMAGE as error:
            # A damaged file makes HDF5 seek to where no stream can; others are of disk or net.
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
                raise
            raise ValueError(
                f"{where}: expected a whole MATLAB v7.3 (HDF5) file, got one that is damaged, "
                "truncated or something else"
            ) from None


def _checked(labelled: Any, key: str, max_pixels: int) -> Any:
    """Returns an array whose first axis counts images, before any of it is read."""
    stored = find_array(labelled, key)
    if stored is None or stored.shape is None:
        raise _UnexpectedError(f"no array {key}")
    channels = (3,) if key == "images" else ()
    fits = stored.dtype == np.uint8 if channels else stored.dtype.kind == "f"
    if not fits or len(stored.shape) != 3 + len(channels) or stored.shape[1:-2] != channels:
        raise _UnexpectedError(
            f"{key} of {' x '.join(map(str, stored.shape))} {stored.dtype} values"
        )
    width, height = stored.shape[-2:]
    if not 0 < width * height <= max_pixels:
        raise _UnexpectedError(f"{width} x {height} pixels; 1 to {max_pixels} are accepted")
    return stored


def _scenes(labelled: Any) -> list[str]:

    references, images = find_array(labelled, "scenes"), find_array(labelled, "images")
    if references is None or images is None:
        raise _UnexpectedError("no arrays images and scenes")
    if references.shape != (1, images.shape[0]):
        raise _UnexpectedError(f"scenes of shape {references.shape} for {images.shape[0]} images")
    return [_text(labelled[reference]) for reference in references[0]]


def _text(stored: Any) -> str:
    """Returns a MATLAB string: its UTF-16 units."""
    if stored.size > _MAX_SCENE_NAME or stored.dtype.kind != "u":
        raise _UnexpectedError(f"a scene named by {stored.size} {stored.dtype} values")
    return "".join(chr(unit) for unit in read_values(stored).ravel())
