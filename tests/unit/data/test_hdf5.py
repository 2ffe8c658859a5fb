"""Values of HDF5 arrays come through every usual compression; tricks of files are refused."""

import io
import zlib

import h5py
import numpy as np
import pytest

from dav2.data.arrays import decode_hdf5
from dav2.data.hdf5 import find_array, read_values

VALUES = np.arange(7 * 11, dtype=np.float32).reshape(7, 11)


def write(values=VALUES, **options):
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.create_dataset("dataset", data=values, **options)
    return stream.getvalue()


def read(data):
    return decode_hdf5(data, size=(7, 11), kinds="f", where="a.h5")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunks": (2, 3)},
        {"chunks": (2, 3), "compression": "gzip"},
        {"chunks": (7, 11), "compression": "gzip", "shuffle": True},
        {"chunks": (3, 5), "compression": "gzip", "shuffle": True, "fletcher32": True},
        {"chunks": (3, 5), "fletcher32": True},
        {"chunks": (3, 5), "shuffle": True},
        {"chunks": (3, 5), "compression": "lzf"},
        {"chunks": (3, 5), "compression": "lzf", "shuffle": True},
        {"chunks": (8, 16), "compression": "gzip", "maxshape": (None, None)},
    ],
)
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2"])
def test_values_come_through_every_usual_compression(dtype, options):
    values = VALUES.astype(dtype)

    assert (read(write(values, **options)) == values).all()


@pytest.mark.parametrize("chunks", [(1, 4, 4), (2, 3, 4), (5, 6, 7)])
def test_one_index_of_the_first_axis_is_read(chunks):
    values = np.random.default_rng(0).random((5, 6, 7))
    data = write(values, chunks=chunks, compression="gzip", fletcher32=True)

    with h5py.File(io.BytesIO(data), "r") as file:
        stored = find_array(file, "dataset")
        for index in range(5):
            assert (read_values(stored, index) == values[index]).all()


def test_a_checksum_is_checked():
    data = bytearray(write(chunks=(7, 11), fletcher32=True))
    data[data.index(VALUES.tobytes()) + 4] ^= 1

    with pytest.raises(ValueError, match=r"a\.h5: expected a whole HDF5 file"):
        read(bytes(data))


def test_checksums_of_all_lengths_are_those_of_the_library():
    for length in range(1, 40):
        values = np.random.default_rng(length).integers(0, 256, (1, length)).astype(np.uint8)
        data = write(values, chunks=values.shape, fletcher32=True)
        got = decode_hdf5(data, size=(1, length), kinds="u", where="a.h5")
        assert (got == values).all()


def chunk_of(packed, **options):
    """A file whose only chunk holds these bytes."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        stored = file.create_dataset("dataset", (7, 11), "<f4", chunks=(7, 11), **options)
        stored.id.write_direct_chunk((0, 0), packed)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("packed", "options"),
    [
        (zlib.compress(bytes(1 << 24)), {"compression": "gzip"}),
        (zlib.compress(bytes(7 * 11 * 4 + 1)), {"compression": "gzip"}),
        (zlib.compress(bytes(7 * 11 * 4 - 1)), {"compression": "gzip"}),
        (zlib.compress(bytes(7 * 11 * 4))[:-6], {"compression": "gzip"}),
        (zlib.compress(bytes(7 * 11 * 4))[:-2], {"compression": "gzip"}),
        (bytes(1), {"fletcher32": True}),
        (bytes(3), {"fletcher32": True}),
        (bytes(5000), {"shuffle": True}),
        (bytes(7), {"shuffle": True}),
    ],
)
def test_a_chunk_of_another_size_than_stated_is_refused(packed, options):
    with pytest.raises(ValueError, match=r"a\.h5: expected a whole HDF5 file"):
        read(chunk_of(packed, **options))


def test_huge_chunks_and_other_compressions_are_refused():
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.create_dataset(
            "dataset", (7, 11), "<f4", chunks=(1 << 13, 1 << 13), maxshape=(None, None),
            compression="gzip",
        )  # fmt: skip
    with pytest.raises(ValueError, match=r"a\.h5: .*got chunks of 268435456 bytes; 67108864 are"):
        read(stream.getvalue())
    with pytest.raises(ValueError, match=r"a\.h5: .*got values through filters \[6\], of which"):
        read(write(chunks=(2, 3), scaleoffset=2))


def test_links_to_other_files_are_refused(tmp_path):
    (tmp_path / "secret.bin").write_bytes(VALUES.tobytes())
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["dataset"] = VALUES

    def content(make):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            make(file)
        return (tmp_path / "a.h5").read_bytes()

    def external_values(file):
        external = [(str(tmp_path / "secret.bin"), 0, VALUES.nbytes)]
        file.create_dataset("dataset", (7, 11), "<f4", external=external)

    def external_link(file):
        file["dataset"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "dataset")

    def virtual(file):
        layout = h5py.VirtualLayout((7, 11), "<f4")
        layout[...] = h5py.VirtualSource(str(tmp_path / "other.h5"), "dataset", (7, 11))
        file.create_virtual_dataset("dataset", layout)

    for make in (external_values, external_link, virtual):
        with pytest.raises(ValueError, match=r"a\.h5: expected an array under the key 'dataset'"):
            read(content(make))
