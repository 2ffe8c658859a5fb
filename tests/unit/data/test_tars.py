"""Members of tars are found by position, and damaged archives are refused whole."""

import io
import struct
import tarfile

import pytest

from dav2.data.storage import LocalStorage
from dav2.data.tars import list_members

BLOCK = tarfile.BLOCKSIZE


def entry(name, size=0, kind=tarfile.REGTYPE, **fields):
    header = tarfile.TarInfo(name)
    header.size, header.type = size, kind
    for field, value in fields.items():
        setattr(header, field, value)
    return header


def write_tar(path, *members, form=tarfile.GNU_FORMAT):
    """Writes members given as (header, bytes)."""
    with tarfile.open(path, "w", format=form) as tar:
        for header, data in members:
            header.size = len(data) if header.isreg() else 0
            tar.addfile(header, io.BytesIO(data))
    return path


def raw(*blocks):
    """Joins headers and bodies as they are, with an end marker."""
    body = b"".join(block + bytes(-len(block) % BLOCK) for block in blocks)
    return body + bytes(2 * BLOCK)


def contents(tmp_path, archive="a.tar"):
    storage = LocalStorage(tmp_path)
    return [(found.name, storage.read(found.path)) for found in list_members(storage, archive)]


def refuse(tmp_path, data, reason):
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(ValueError, match=rf"a\.tar: expected a whole.*{reason}") as caught:
        contents(tmp_path)
    assert "\n" not in str(caught.value)


def test_members_are_read_in_place_in_the_archives_order(tmp_path):
    write_tar(
        tmp_path / "a.tar",
        (entry("b.jpg"), b"x" * 700),
        (entry("deep/a.jpg"), b""),
        (entry("c#1+2#d.tar#e.jpg"), b"third"),
    )

    assert contents(tmp_path) == [
        ("b.jpg", b"x" * 700),
        ("deep/a.jpg", b""),
        ("c#1+2#d.tar#e.jpg", b"third"),
    ]
    member = next(list_members(LocalStorage(tmp_path), "a.tar"))
    assert member.bytes == 700
    assert member.path == f"a.tar#{BLOCK}+700#b.jpg"


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_other_scripts_are_kept(form, tmp_path):
    names = ["d/" * 60 + "long.jpg", "n" * 300 + ".jpg", "Straße/写真.jpg"]
    write_tar(tmp_path / "a.tar", *((entry(name), name[:3].encode()) for name in names), form=form)

    assert contents(tmp_path) == [(name, name[:3].encode()) for name in names]


def test_whatever_is_no_plain_file_is_left_out(tmp_path):
    write_tar(
        tmp_path / "a.tar",
        (entry("folder", kind=tarfile.DIRTYPE), b""),
        (entry("soft.jpg", kind=tarfile.SYMTYPE, linkname="/etc/passwd"), b""),
        (entry("hard.jpg", kind=tarfile.LNKTYPE, linkname="good.jpg"), b""),
        (entry("disk.jpg", kind=tarfile.BLKTYPE), b""),
        (entry("pipe.jpg", kind=tarfile.FIFOTYPE), b""),
        (entry("/absolute.jpg"), b"1"),
        (entry("up/../../out.jpg"), b"2"),
        (entry("line\nbreak.jpg"), b"3"),
        (entry("n" * 1025), b"4"),
        (entry("dots..jpg"), b"5"),
        (entry("good.jpg"), b"6"),
    )

    assert contents(tmp_path) == [("dots..jpg", b"5"), ("good.jpg", b"6")]


def test_a_name_that_comes_twice_is_yielded_twice(tmp_path):
    write_tar(tmp_path / "a.tar", (entry("a.jpg"), b"first"), (entry("a.jpg"), b"then"))

    assert contents(tmp_path) == [("a.jpg", b"first"), ("a.jpg", b"then")]


@pytest.mark.parametrize(
    "kept_bytes",
    [
        BLOCK + 100,  # within the first body
        3 * BLOCK,  # exactly between two members
        3 * BLOCK + 100,  # within the second header
        4 * BLOCK + 10,  # within the second body
        5 * BLOCK,  # after it, without an end marker
    ],
)
def test_an_archive_cut_anywhere_is_refused(kept_bytes, tmp_path):
    write_tar(tmp_path / "a.tar", (entry("a.jpg"), b"x" * 700), (entry("b.jpg"), b"y" * 500))
    data = (tmp_path / "a.tar").read_bytes()
    assert data[5 * BLOCK : 6 * BLOCK] == bytes(BLOCK)

    refuse(tmp_path, data[:kept_bytes], "damaged or truncated")


def test_a_damaged_header_in_the_middle_does_not_end_the_list_silently(tmp_path):
    write_tar(tmp_path / "a.tar", (entry("a.jpg"), b"x"), (entry("b.jpg"), b"y"))
    data = bytearray((tmp_path / "a.tar").read_bytes())
    data[2 * BLOCK + 1] ^= 1  # the second header no longer has its checksum

    refuse(tmp_path, bytes(data), f"no end marker at byte {2 * BLOCK}")


def test_archives_that_were_joined_are_refused(tmp_path):
    one = write_tar(tmp_path / "one.tar", (entry("a.jpg"), b"x")).read_bytes()

    refuse(tmp_path, one + one, "another archive after the end marker")


def test_a_member_larger_than_the_archive_is_refused(tmp_path):
    refuse(tmp_path, raw(entry("a.jpg", 10**9).tobuf(), b"x"), "a.jpg ends after the archive")


@pytest.mark.parametrize("size", [-1, -512, -1024, -(2**60)])
def test_a_negative_size_neither_loops_nor_is_read(size, tmp_path):
    header = bytearray(entry("a.jpg").tobuf())
    header[124:136] = struct.pack(">iq", -1, size)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)

    refuse(tmp_path, raw(bytes(header), b"x"), f"a.jpg has {size} bytes")


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_header_that_claims_gigabytes_costs_no_memory(kind, tmp_path):
    blocks = entry("name", 8 * 1024**3 - BLOCK, kind).tobuf(), entry("a.jpg").tobuf()

    refuse(tmp_path, raw(*blocks), f"a header of {8 * 1024**3 - BLOCK} bytes")


def test_a_chain_of_long_names_is_refused(tmp_path):
    link = raw(entry("name", 5, tarfile.GNUTYPE_LONGNAME).tobuf(), b"a.jpg")[: -2 * BLOCK]

    refuse(tmp_path, link * 2000, "recursion")


def test_damaged_pax_records_are_refused(tmp_path):
    for record in (b"0 path=a.jpg\n", b"11 size=-5\n", b"10 size=x\n", b"14 size=99999\n"):
        blocks = [entry("name", len(record), tarfile.XHDTYPE).tobuf(), record]

        refuse(tmp_path, raw(*blocks, entry("a.jpg", 1).tobuf(), b"x"), "")


def test_sparse_files_are_refused(tmp_path):
    records = b"".join(
        b"%d %s\n" % (len(text) + 4, text)
        for text in (b"GNU.sparse.major=0", b"GNU.sparse.minor=1", b"GNU.sparse.map=0,1")
    )
    blocks = [entry("name", len(records), tarfile.XHDTYPE).tobuf(), records]

    refuse(tmp_path, raw(*blocks, entry("a.jpg", 1).tobuf(), b"x"), "a.jpg is sparse")


def test_compressed_archives_name_the_way_out(tmp_path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        tar.addfile(entry("a.jpg"))

    with pytest.raises(ValueError, match=r"a\.tar\.gz: expected an uncompressed.*`gunzip` it"):
        contents(tmp_path, "a.tar.gz")
    (tmp_path / "a.tar.gz").rename(tmp_path / "a.tar")
    with pytest.raises(ValueError, match=r"a\.tar: expected a whole uncompressed tar archive"):
        contents(tmp_path)


def test_what_is_no_archive_is_refused(tmp_path):
    refuse(tmp_path, b"", "empty file")
    refuse(tmp_path, b"\xff\xd8\xff" * 1000, "damaged")
    with pytest.raises(FileNotFoundError, match=r"b\.tar: expected a file, got nothing there"):
        contents(tmp_path, "b.tar")


def test_an_empty_archive_has_no_members(tmp_path):
    write_tar(tmp_path / "a.tar")

    assert contents(tmp_path) == []
