"""Arrays in HDF5, NumPy and PFM files, refused by their header before they are read.

Axes: H height, W width (pixels).
"""

import re
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from io import BufferedIOBase, BytesIO
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

from dav2.data.hdf5 import Hdf5Error, find_array, read_values

_KINDS = {"f": "float", "i": "integer", "u": "unsigned", "b": "boolean"}
# What h5py lets through on damaged files, found by cutting and flipping bytes.
_HDF5_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, zlib.error)
_NUMPY_DAMAGE = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    RuntimeError,
    NotImplementedError,
    OverflowError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def decode_hdf5(
    data: bytes, *, size: tuple[int, int], kinds: str, where: str, key: str = "dataset"
) -> npt.NDArray[Any]:
    """Returns one array of an HDF5 file in the file's own dtype.

    Args:
        data: The file's bytes.
        size: Expected height and width.
        kinds: Accepted kinds of dtype, as in `numpy.dtype.kind`: "f", "iu", ...
        where: Name of the file, for messages.
        key: Name of the array; by default what Hypersim calls it.

    Raises:
        ValueError: If it is no HDF5 file, has no such array, or one of another size or kind.
    """

    def problem_of(stored: Any) -> str:
        return _header_problem(stored.shape, stored.dtype, size, kinds)

    return _read_hdf5(data, key, problem_of, where=where)


def decode_hdf5_colour(data: bytes, *, max_pixels: int, where: str) -> Float32[np.ndarray, "H W 3"]:
    """Returns linear colours of an HDF5 file under the key `dataset`, as Hypersim stores them.

    Args:
        data: The file's bytes.
        max_pixels: Largest accepted H x W, checked before anything is read.
        where: Name of the file, for messages.

    Raises:
        ValueError: If it is no HDF5 file, has no such array, one of another kind, or a larger one.
    """

    def problem_of(stored: Any) -> str:
        shape: tuple[int, ...] = stored.shape or ()
        if len(shape) == 3 and shape[2] == 3 and stored.dtype.kind == "f":
            if 0 < shape[0] * shape[1] <= max_pixels:
                return ""
            return f"expected 1 to {max_pixels} pixels, got {shape[1]} x {shape[0]}"
        got = " x ".join(map(str, shape)) or "no array"
        return f"expected H x W x 3 float values, got {got} {stored.dtype}"

    return _read_hdf5(data, "dataset", problem_of, where=where).astype(np.float32)


def decode_npy(data: bytes, *, size: tuple[int, int], kinds: str, where: str) -> npt.NDArray[Any]:
    """Returns the array of an `.npy` file, H x W or H x W x 1, as H x W; arguments as those above.

    Raises:
        ValueError: If it is no such file, truncated, holds pickled objects, or an array of another
            size or kind.
    """
    try:
        array, problem = _read_stream(BytesIO(data), size, kinds)
    except _NUMPY_DAMAGE:
        problem = _damaged("NumPy array file", data)
    if problem:
        raise ValueError(f"{where}: {problem}")
    return array


def decode_npz(data: bytes, *, size: tuple[int, int], kinds: str, where: str) -> npt.NDArray[Any]:
    """Returns the only array of an `.npz` archive; arguments and errors as `decode_npy`."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            names = archive.namelist()
            if len(names) != 1:
                problem = f"expected an archive of one array, got {len(names)}"
            else:
                with archive.open(names[0]) as stream:
                    array, problem = _read_stream(stream, size, kinds)
    except _NUMPY_DAMAGE:
        problem = _damaged("NumPy archive", data)
    if problem:
        raise ValueError(f"{where}: {problem}")
    return array


def decode_pfm(data: bytes, *, size: tuple[int, int], where: str) -> Float32[np.ndarray, "H W"]:
    """Returns a greyscale portable float map, turned so that the first row is the top one.

    The header is `Pf`, width and height, and a scale whose sign tells the byte order (negative:
    little-endian); rows are stored from the bottom up, as in Middlebury's and BlendedMVS's files.

    Args:
        data: The file's bytes.
        size: Expected height and width.
        where: Name of the file, for messages.

    Raises:
        ValueError: If it is no greyscale PFM, of another size, or truncated.
    """
    header = re.match(rb"Pf\s+(\d{1,9})\s+(\d{1,9})\s+(-?[0-9.eE+-]{1,30})\s", data[:100])
    if header is None:
        raise ValueError(f"{where}: {_damaged('greyscale PFM', data)}")
    problem = _header_problem(
        (int(header[2]), int(header[1])), np.dtype(np.float32), size, kinds="f"
    )
    if problem:
        raise ValueError(f"{where}: {problem}")
    body = data[header.end() : header.end() + 4 * size[0] * size[1]]
    if len(body) < 4 * size[0] * size[1]:
        raise ValueError(f"{where}: {_damaged('greyscale PFM', data)}")
    dtype = "<f4" if header[3].startswith(b"-") else ">f4"
    return np.frombuffer(body, dtype).reshape(size)[::-1].astype(np.float32)


def _read_hdf5(
    data: bytes, key: str, problem_of: Callable[[Any], str], *, where: str
) -> npt.NDArray[Any]:
    import h5py

    array: npt.NDArray[Any]
    try:
        with h5py.File(BytesIO(data), "r") as file:
            stored = find_array(file, key)
            if stored is None:
                problem = f"expected an array under the key {key!r}, got {sorted(file)}"
            else:
                problem = problem_of(stored)
                if not problem:
                    array = read_values(stored)
    except Hdf5Error as error:
        problem = f"expected a HDF5 file as datasets are published, got {error}"
    except _HDF5_DAMAGE:
        problem = _damaged("HDF5 file", data)
    if problem:
        raise ValueError(f"{where}: {problem}")
    return array


def _read_stream(
    stream: IO[bytes] | BufferedIOBase, size: tuple[int, int], kinds: str
) -> tuple[npt.NDArray[Any], str]:
    """Returns an array in NumPy's format, H x W, and what is wrong with its header, or ""."""
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    else:
        shape, is_fortran, dtype = np.lib.format.read_array_header_2_0(stream)
    if len(shape) == 3 and shape[2] == 1:
        shape = shape[:2]
    problem = _header_problem(shape, dtype, size, kinds)
    if problem:
        return np.empty(0), problem
    # Raises on too few bytes; a dtype of objects did not come this far.
    values = np.frombuffer(stream.read(size[0] * size[1] * dtype.itemsize), dtype)
    return values.reshape(size, order="F" if is_fortran else "C").copy(), ""


def _damaged(kind: str, data: bytes) -> str:
    return (
        f"expected a whole {kind}, got one of {len(data)} bytes that is damaged, "
        "truncated or something else"
    )


def _header_problem(
    shape: tuple[int, ...] | None, dtype: np.dtype[Any], size: tuple[int, int], kinds: str
) -> str:
    if shape == size and dtype.kind in kinds:
        return ""
    names = " or ".join(_KINDS[kind] for kind in kinds)
    return (
        f"expected {size[0]} x {size[1]} {names} values, as the image has pixels, "
        f"got {' x '.join(map(str, shape or ())) or 'no array'} {dtype}"
    )
