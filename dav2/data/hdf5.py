"""Values of HDF5 arrays, decompressed here: the library crashes and swells on damaged chunks.

A chunk of some bytes may claim to be another size than it is: HDF5 inflates it to whatever comes
out, and reads before its beginning where a checksum does not fit. Links to other files are refused,
as a downloaded file must not make us open files of its choice.
"""

import itertools
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

_DEFLATE, _SHUFFLE, _FLETCHER32 = 1, 2, 3  # H5Z_FILTER_*
_LZF = 32000
_CHECKSUM_BYTES = 4
_MAX_CHUNK_BYTES = 64 << 20
_SPARE_BYTES = 1024  # by which a compressed chunk may be larger than a plain one


class Hdf5Error(ValueError):
    """The file is whole but stores its values in a way that is not read; the text says which."""


def find_array(file: Any, key: str) -> Any:
    """Returns the dataset of a name, None if there is none that lies in this file itself.

    Args:
        file: An open `h5py.File`.
        key: Name of the array.
    """
    import h5py

    if not isinstance(file.get(key, getlink=True), h5py.HardLink):
        return None
    stored = file.get(key)
    if not isinstance(stored, h5py.Dataset) or stored.is_virtual or stored.external:
        return None
    return stored


def read_values(stored: Any, index: int | None = None) -> npt.NDArray[Any]:
    """Returns an array, or what lies at one index of its first axis, in its own dtype.

    Args:
        stored: A dataset of `find_array`, whose shape and dtype are checked already: that much is
            allocated.
        index: None reads all of it.

    Raises:
        Hdf5Error: If it is compressed in a way that is not read.
        Exception: What h5py and zlib raise on damaged files, and `ValueError`.
    """
    chunk, dtype = stored.chunks, stored.dtype
    if chunk is None:
        return np.asarray(stored[()] if index is None else stored[index])
    num_bytes = int(np.prod(chunk, dtype=object)) * dtype.itemsize
    if num_bytes > _MAX_CHUNK_BYTES:
        raise Hdf5Error(f"chunks of {num_bytes} bytes; {_MAX_CHUNK_BYTES} are accepted")
    filters = _filters(stored)
    if not filters or filters in ([_LZF], [_SHUFFLE, _LZF]):
        # Neither can grow beyond some multiple of what is in the file.
        return np.asarray(stored[()] if index is None else stored[index])
    if not set(filters) <= {_DEFLATE, _SHUFFLE, _FLETCHER32}:
        raise Hdf5Error(f"values through filters {filters}, of which gzip, lzf, shuffle are read")
    low, high = (0, stored.shape[0]) if index is None else (index, index + 1)
    values = np.empty((high - low, *stored.shape[1:]), dtype)
    packed = bytearray(2 * num_bytes + _SPARE_BYTES)
    firsts = range(low - low % chunk[0], high, chunk[0])
    others = (range(0, end, step) for end, step in zip(stored.shape[1:], chunk[1:], strict=True))
    for corner in itertools.product(firsts, *others):
        mask, data = stored.id.read_direct_chunk(corner, out=packed)
        plain = _unpacked(bytes(data), filters, mask, num_bytes, dtype.itemsize)
        begin = max(low, corner[0])
        block = np.frombuffer(plain, dtype).reshape(chunk)[begin - corner[0] :]
        start = (begin - low, *corner[1:])
        target = values[tuple(slice(at, at + n) for at, n in zip(start, block.shape, strict=True))]
        target[...] = block[tuple(slice(length) for length in target.shape)]
    return values if index is None else values[0]


def _filters(stored: Any) -> list[int]:
    """Returns the codes of what values went through when they were written."""
    plan = stored.id.get_create_plist()
    return [plan.get_filter(number)[0] for number in range(plan.get_nfilters())]


def _unpacked(data: bytes, filters: list[int], mask: int, num_bytes: int, itemsize: int) -> bytes:
    """Returns a chunk's values; `mask` has a bit set for each filter that was left out."""
    for number, kind in reversed(list(enumerate(filters))):
        if mask >> number & 1:
            continue
        if kind == _FLETCHER32:
            data, stated = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
            if int.from_bytes(stated, "little") != _fletcher32(data):
                raise ValueError("another checksum")
        elif kind == _DEFLATE:
            opened = zlib.decompressobj()
            # Within: a checksum that was added before.
            data = opened.decompress(data, num_bytes + _CHECKSUM_BYTES)
            if opened.decompress(opened.unconsumed_tail, 1) or not opened.eof:
                raise ValueError("more than a chunk, or no end")
        else:
            whole = len(data) - len(data) % itemsize
            rows = np.frombuffer(data[:whole], np.uint8).reshape(itemsize, -1)
            data = rows.T.tobytes() + data[whole:]
    if len(data) != num_bytes:
        raise ValueError("less or more than a chunk")
    return data


def _fletcher32(data: bytes) -> int:
    """Returns HDF5's checksum: two sums of 16-bit words, modulo 65535 with 65535 for 0."""
    words = np.frombuffer(data + bytes(len(data) % 2), ">u2").astype(np.uint64)
    first = int(words.sum())
    weights = np.arange(len(words), 0, -1, dtype=np.uint64)
    second = int((words * weights).sum())
    return _folded(second) << 16 | _folded(first)


def _folded(total: int) -> int:
    return (total - 1) % 65535 + 1 if total else 0
