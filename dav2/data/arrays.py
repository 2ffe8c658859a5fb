"""Arrays in HDF5, NumPy and PFM files, refused by their header before they are read.

Axes: H height, W width (pixels).
"""

import re
import zipfile
import zlib
from io import BufferedIOBase
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

_KINDS = {"f": "float", "i": "integer", "u": "unsigned", "b": "boolean"}
# What h5py lets through on damaged files, found by cutting and flipping bytes.
_HDF5_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError)
_NUMPY_DAMAGE = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    RuntimeError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_hdf5(path: Path, *, size: tuple[int, int], kinds: str) -> npt.NDArray[Any]:
    """Returns the array under the key `dataset`, as Hypersim stores it, in the file's own dtype.

    Args:
        path: HDF5 file.
        size: Expected height and width.
        kinds: Accepted kinds of dtype, as in `numpy.dtype.kind`: "f", "iu", ...

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no HDF5 file, has no such array, or one of another size or kind.
    """
    import h5py

    _check_file(path)
    array: npt.NDArray[Any]
    try:
        with h5py.File(path, "r") as file:
            stored = file.get("dataset")
            if not isinstance(stored, h5py.Dataset):
                problem = f"expected an array under the key 'dataset', got {sorted(file)}"
            else:
                problem = _header_problem(stored.shape, stored.dtype, size, kinds)
                if not problem:
                    array = stored[()]
    except _HDF5_DAMAGE:
        problem = _damaged("HDF5 file", path)
    if problem:
        raise ValueError(f"{path}: {problem}")
    return array


def read_npy(path: Path, *, size: tuple[int, int], kinds: str) -> npt.NDArray[Any]:
    """Returns the array of an `.npy` file, H x W or H x W x 1, as H x W; arguments as `read_hdf5`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such file, truncated, holds pickled objects, or an array of another
            size or kind.
    """
    _check_file(path)
    try:
        with path.open("rb") as stream:
            array, problem = _read_stream(stream, size, kinds)
    except _NUMPY_DAMAGE:
        problem = _damaged("NumPy array file", path)
    if problem:
        raise ValueError(f"{path}: {problem}")
    return array


def read_npz(path: Path, *, size: tuple[int, int], kinds: str) -> npt.NDArray[Any]:
    """Returns the only array of an `.npz` archive; arguments and errors as `read_npy`."""
    _check_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if len(names) != 1:
                problem = f"expected an archive of one array, got {len(names)}"
            else:
                with archive.open(names[0]) as stream:
                    array, problem = _read_stream(stream, size, kinds)
    except _NUMPY_DAMAGE:
        problem = _damaged("NumPy archive", path)
    if problem:
        raise ValueError(f"{path}: {problem}")
    return array


def read_pfm(path: Path, *, size: tuple[int, int]) -> Float32[np.ndarray, "H W"]:
    """Returns a greyscale portable float map, turned so that the first row is the top one.

    The header is `Pf`, width and height, and a scale whose sign tells the byte order (negative:
    little-endian); rows are stored from the bottom up, as in Middlebury's and BlendedMVS's files.

    Args:
        path: PFM file.
        size: Expected height and width.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no greyscale PFM, of another size, or truncated.
    """
    _check_file(path)
    with path.open("rb") as stream:
        header = re.match(rb"Pf\s+(\d{1,9})\s+(\d{1,9})\s+(-?[0-9.eE+-]{1,30})\s", stream.read(100))
        if header is None:
            raise ValueError(f"{path}: {_damaged('greyscale PFM', path)}")
        problem = _header_problem(
            (int(header[2]), int(header[1])), np.dtype(np.float32), size, kinds="f"
        )
        if problem:
            raise ValueError(f"{path}: {problem}")
        stream.seek(header.end())
        body = stream.read(4 * size[0] * size[1])
    if len(body) < 4 * size[0] * size[1]:
        raise ValueError(f"{path}: {_damaged('greyscale PFM', path)}")
    dtype = "<f4" if header[3].startswith(b"-") else ">f4"
    return np.frombuffer(body, dtype).reshape(size)[::-1].astype(np.float32)


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


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a file, got nothing there")


def _damaged(kind: str, path: Path) -> str:
    return (
        f"expected a whole {kind}, got one of {path.stat().st_size} bytes that is damaged, "
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
