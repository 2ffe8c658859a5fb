"""Databases that the library wrote are read without it, key by key."""

import io
import random
import struct

import pytest

from dav2.data.lmdb_file import DamagedDatabaseError, LmdbFile

lmdb = pytest.importorskip("lmdb")


def write(folder, values, *, map_size=1 << 26, **options):
    environment = lmdb.open(str(folder), map_size=map_size, max_dbs=1)
    database = environment.open_db(b"named", **options) if options else None
    with environment, environment.begin(write=True, db=database) as transaction:
        for key, value in values.items():
            transaction.put(key, value)
    return (folder / "data.mdb").read_bytes()


def opened(data):
    return LmdbFile(io.BytesIO(data), num_bytes=len(data))


@pytest.mark.parametrize("num_keys", [0, 1, 40, 700])
def test_every_key_and_value_is_found(num_keys, tmp_path):
    numbers = random.Random(num_keys)
    keys = {numbers.randbytes(numbers.choice((1, 4, 40, 300))) for _ in range(num_keys)}
    # Values within the leaf, of nearly a page, of one page and of many.
    values = {
        key: numbers.randbytes(numbers.choice((0, 9, 2000, 4080, 4081, 9_000))) for key in keys
    }
    images = opened(write(tmp_path, values, map_size=1 << 26))

    assert list(images.keys()) == sorted(keys)
    for key, value in values.items():
        assert images.get(key, max_bytes=9_000) == value
    for other in (b"", b"\xff" * 301, b"another"):
        assert images.get(other, max_bytes=9_000) is None


def test_the_newest_of_several_transactions_counts(tmp_path):
    for value in (b"1", b"2", b"3"):
        data = write(tmp_path, {b"key": value})
        assert opened(data).get(b"key", max_bytes=9) == value


def test_large_values_are_refused_before_they_are_read(tmp_path):
    images = opened(write(tmp_path, {b"key": bytes(9000)}))

    with pytest.raises(DamagedDatabaseError, match="a value of 9000 bytes; 8999 are accepted"):
        images.get(b"key", max_bytes=8999)


def test_named_databases_are_no_values(tmp_path):
    images = opened(write(tmp_path, {b"1": b"a"}, dupsort=True))

    with pytest.raises(DamagedDatabaseError, match="several values of a key"):
        images.get(b"named", max_bytes=99)


def damage(data, place, form, number):
    damaged = bytearray(data)
    struct.pack_into(form, damaged, place, number)
    return bytes(damaged)


def test_a_tree_that_bites_its_tail_ends(tmp_path):
    data = write(tmp_path, {b"%05d" % number: bytes(50) for number in range(500)})
    images = opened(data)
    page, is_leaf, nodes = images._tree_page(images._root, 1)
    assert not is_leaf

    # The second child is the first once more.
    first = struct.unpack_from("<HHH", page, nodes[0])
    twice = bytearray(data)
    struct.pack_into("<HHH", twice, images._root * 4096 + nodes[1], *first)
    with pytest.raises(DamagedDatabaseError, match="keys that do not ascend"):
        list(opened(bytes(twice)).keys())
    # A child is the root itself.
    struct.pack_into("<HHH", twice, images._root * 4096 + nodes[1], images._root, 0, 0)
    with pytest.raises(DamagedDatabaseError, match=f"another page {images._root}"):
        list(opened(bytes(twice)).keys())


@pytest.mark.parametrize(
    ("place", "form", "number", "got"),
    [
        (16, "<I", 1, "no LMDB file"),
        (20, "<I", 2, "a database of version 2, of which 1 is read"),
        (40, "<I", 4097, "no LMDB file"),
        (4096 + 10, "<H", 2, "no meta page 1"),
        (4096 + 94, "<H", 33, "a tree of kind 0 and 33 levels"),
        (4096 + 92, "<H", 4, "a tree of kind 4 and 1 levels"),
        (4096 + 136, "<Q", 1 << 40, "bytes"),
        (4096 + 128, "<Q", 1 << 40, "bytes"),
        (4096 + 128, "<Q", 1, "another page 1"),
    ],
)
def test_meta_pages_are_checked(place, form, number, got, tmp_path):
    data = write(tmp_path, {b"key": b"value"})

    with pytest.raises(DamagedDatabaseError, match=got):
        list(opened(damage(data, place, form, number)).keys())


def test_any_damaged_byte_gives_the_value_another_or_one_error(tmp_path):
    data = write(tmp_path, {b"%d" % number: bytes(900) for number in range(20)})
    numbers = random.Random(0)

    outcomes = set()
    for _ in range(400):
        damaged = damage(data, numbers.randrange(len(data)), "B", numbers.randrange(256))
        try:
            images = opened(damaged)
            values = [images.get(key, max_bytes=10_000) for key in list(images.keys())]
            outcomes.add(len(values))
        except DamagedDatabaseError as error:
            outcomes.add(str(error).partition(" ")[2])
    assert 20 in outcomes
    assert len(outcomes) > 1
