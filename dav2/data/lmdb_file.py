"""LMDB databases read without the library, which maps them and ends the process on damaged pages.

The format is that of LMDB 0.9 (lmdb.h and mdb.c of OpenLDAP, data version 1) as 64-bit machines
write it, little-endian: pages of one size, the first two of which (meta pages) name the root of a
tree; a leaf holds a value or the number of the first of the pages that do.
"""

import struct
from bisect import bisect_right
from collections.abc import Iterator
from functools import partial
from io import BytesIO
from typing import IO, NoReturn

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_PAGE_HEADER = struct.Struct("<QHHHH")  # number, padding, flags, lower, upper
_LONG_PAGE = struct.Struct("<QHHI")  # number, padding, flags, how many pages
_META = struct.Struct("<IIQQ")  # magic, version, address, size of the map
_TREE = struct.Struct("<IHHQQQQQ")  # padding, flags, depth, pages of three kinds, entries, root
_META_END = struct.Struct("<QQ")  # last page, number of the transaction
_NODE = struct.Struct("<HHHH")  # size or child in two or three parts, flags, bytes of the key
_BRANCH, _LEAF, _OVERFLOW, _META_PAGE = 1, 2, 4, 8
_BIG = 1  # of a node: its value has pages of its own
_NO_PAGE = (1 << 64) - 1
_PAGE_SIZES = tuple(1 << bits for bits in range(9, 17))
_MAX_DEPTH = 32
_COMPARED = 0x08 | 0x04 | 0x02 | 0x10  # tree flags: integer or reversed keys, several values a key


class DamagedDatabaseError(ValueError):
    """It is no database of one value a key, or a damaged one; the text says where."""


class LmdbFile:
    """A database without named sub-databases, read by position from an open file.

    Nothing that a page says is believed before it is checked: pages lie within the file, a tree has
    no more levels than it says, keys ascend, so that a tree that bites its tail ends the reading.
    """

    def __init__(self, stream: IO[bytes] | BytesIO, *, num_bytes: int) -> None:
        """Reads both meta pages and takes the newer one.

        Args:
            stream: The file `data.mdb`, seekable.
            num_bytes: Its size.

        Raises:
            DamagedDatabaseError: If it is no database, or shorter than it says.
        """
        self._stream = stream
        self._num_bytes = num_bytes
        self._page_bytes = self._find_page_size()
        metas = [self._meta(number) for number in (0, 1)]
        self._root, self._depth, last_page, _ = max(metas, key=lambda meta: meta[3])
        if (last_page + 1) * self._page_bytes > num_bytes:
            _refuse(f"{num_bytes} of {(last_page + 1) * self._page_bytes} bytes")

    def keys(self) -> Iterator[bytes]:
        """Yields all keys in their order; raises `DamagedDatabaseError`."""
        if self._root == _NO_PAGE:
            return
        previous: bytes | None = None
        for key in self._keys(self._root, 1):
            if previous is not None and key <= previous:
                _refuse("keys that do not ascend")
            yield key
            previous = key

    def get(self, key: bytes, *, max_bytes: int) -> bytes | None:
        """Returns the value of a key, None if there is none.

        Args:
            key: The whole key.
            max_bytes: Larger values are refused before they are read.

        Raises:
            DamagedDatabaseError: If a page on the way is damaged, or the value too large.
        """
        number, depth = self._root, 1
        while number != _NO_PAGE:
            page, is_leaf, nodes = self._tree_page(number, depth)
            # The first key of a branch stands for whatever is below the second.
            first = 0 if is_leaf else 1
            place = bisect_right(nodes, key, lo=first, key=partial(_key, page)) - 1
            if is_leaf:
                found = place >= 0 and _key(page, nodes[place]) == key
                return self._value(page, nodes[place], max_bytes) if found else None
            number = _child(page, nodes[place])
            depth += 1
        return None

    def _keys(self, number: int, depth: int) -> Iterator[bytes]:
        page, is_leaf, nodes = self._tree_page(number, depth)
        for node in nodes:
            if is_leaf:
                yield _key(page, node)
            else:
                yield from self._keys(_child(page, node), depth + 1)

    def _find_page_size(self) -> int:
        # The first meta page holds it in the place where trees have their padding.
        head = self._read(0, _PAGE_HEADER.size + _META.size + _TREE.size)
        size = int(_TREE.unpack_from(head, _PAGE_HEADER.size + _META.size)[0])
        if _META.unpack_from(head, _PAGE_HEADER.size)[0] != _MAGIC or size not in _PAGE_SIZES:
            _refuse("no LMDB file")
        return size

    def _meta(self, number: int) -> tuple[int, int, int, int]:
        """Returns root, depth, last page and transaction."""
        page = self._page(number)
        at = _PAGE_HEADER.size
        magic, version, _, _ = _META.unpack_from(page, at)
        if not _PAGE_HEADER.unpack_from(page)[2] & _META_PAGE or magic != _MAGIC:
            _refuse(f"no meta page {number}")
        if version != _VERSION:
            _refuse(f"a database of version {version}, of which {_VERSION} is read")
        at += _META.size + _TREE.size
        _, flags, depth, _, _, _, _, root = _TREE.unpack_from(page, at)
        last_page, transaction = _META_END.unpack_from(page, at + _TREE.size)
        if flags & _COMPARED or depth > _MAX_DEPTH:
            _refuse(f"a tree of kind {flags} and {depth} levels")
        return root, depth, last_page, transaction

    def _tree_page(self, number: int, depth: int) -> tuple[bytes, bool, tuple[int, ...]]:
        """Returns a page, whether it is a leaf, and where its nodes begin."""
        page = self._page(number)
        stated, _, flags, lower, upper = _PAGE_HEADER.unpack_from(page)
        is_leaf = depth == self._depth
        kind = flags & (_BRANCH | _LEAF | _OVERFLOW | _META_PAGE)
        if stated != number or kind != (_LEAF if is_leaf else _BRANCH) or depth > self._depth:
            _refuse(f"another page {number}")
        if not _PAGE_HEADER.size <= lower <= upper <= self._page_bytes or lower % 2:
            _refuse(f"a damaged page {number}")
        nodes = struct.unpack_from(f"<{(lower - _PAGE_HEADER.size) // 2}H", page, _PAGE_HEADER.size)
        if any(not upper <= node <= self._page_bytes - _NODE.size for node in nodes):
            _refuse(f"a damaged page {number}")
        if not nodes or (not is_leaf and len(nodes) < 2):
            _refuse(f"an empty page {number}")
        return page, is_leaf, nodes

    def _value(self, page: bytes, node: int, max_bytes: int) -> bytes:
        low, high, flags, key_bytes = _NODE.unpack_from(page, node)
        num_bytes = low | high << 16
        start = node + _NODE.size + key_bytes
        if num_bytes > max_bytes:
            _refuse(f"a value of {num_bytes} bytes; {max_bytes} are accepted")
        if flags & ~_BIG:
            _refuse("several values of a key")
        if not flags & _BIG:
            return _whole(page[start : start + num_bytes], num_bytes)
        number = int.from_bytes(_whole(page[start : start + 8], 8), "little")
        stated, _, kind, count = _LONG_PAGE.unpack(
            self._read(number * self._page_bytes, _LONG_PAGE.size)
        )
        held = count * self._page_bytes - _LONG_PAGE.size
        if stated != number or not kind & _OVERFLOW or num_bytes > held:
            _refuse(f"another page {number}")
        return self._read(number * self._page_bytes + _LONG_PAGE.size, num_bytes)

    def _page(self, number: int) -> bytes:
        return self._read(number * self._page_bytes, self._page_bytes)

    def _read(self, first: int, count: int) -> bytes:
        if first + count > self._num_bytes:
            _refuse(f"{self._num_bytes} of {first + count} bytes")
        self._stream.seek(first)
        return _whole(self._stream.read(count) or b"", count)


def _key(page: bytes, node: int) -> bytes:
    length = _NODE.unpack_from(page, node)[3]
    start = node + _NODE.size
    return _whole(page[start : start + length], length)


def _child(page: bytes, node: int) -> int:
    low, middle, high, _ = _NODE.unpack_from(page, node)
    return int(low | middle << 16 | high << 32)


def _whole(data: bytes, count: int) -> bytes:
    if len(data) < count:
        _refuse(f"{len(data)} of {count} bytes")
    return data


def _refuse(got: str) -> NoReturn:
    raise DamagedDatabaseError(got)
