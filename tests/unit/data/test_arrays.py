"""Arrays come whole and of the image's size, or not at all."""

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dav2.data.arrays import decode_hdf5, decode_npy, decode_npz, decode_pfm


def reading(decode):
    def read(path, **expected):
        return decode(path.read_bytes(), where=str(path), **expected)

    return read


read_hdf5, read_npy, read_npz, read_pfm = map(
    reading, (decode_hdf5, decode_npy, decode_npz, decode_pfm)
)
VALUES = np.array([[1, 2, 3], [4, 5, 6]], np.float32)


def write_hdf5(path, values, key="dataset"):
    with h5py.File(path, "w") as file:
        file.create_dataset(key, data=values)
    return path


def test_hdf5_keeps_the_files_own_dtype(tmp_path):
    path = write_hdf5(tmp_path / "a.hdf5", VALUES.astype(np.float16))

    array = read_hdf5(path, size=(2, 3), kinds="f")

    assert array.dtype == np.float16
    assert array.tolist() == VALUES.tolist()


def test_hdf5_of_another_size_kind_or_key_is_refused_before_it_is_read(tmp_path):
    path = write_hdf5(tmp_path / "a.hdf5", VALUES)
    other = write_hdf5(tmp_path / "b.hdf5", VALUES, key="depth")
    huge = tmp_path / "c.hdf5"
    with h5py.File(huge, "w") as file:
        file.create_dataset("dataset", (10**6, 10**6), np.float32, chunks=(1000, 1000))

    with pytest.raises(ValueError, match=r"expected 3 x 2 float values.*got 2 x 3 float32"):
        read_hdf5(path, size=(3, 2), kinds="f")
    with pytest.raises(ValueError, match=r"expected 2 x 3 integer or unsigned values"):
        read_hdf5(path, size=(2, 3), kinds="iu")
    with pytest.raises(ValueError, match=r"under the key 'dataset', got \['depth'\]"):
        read_hdf5(other, size=(2, 3), kinds="f")
    with pytest.raises(ValueError, match="got 1000000 x 1000000 float32"):
        read_hdf5(huge, size=(2, 3), kinds="f")


@pytest.mark.parametrize("content", [b"", b"text", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_damaged_hdf5_is_refused_in_one_line(content, tmp_path):
    path = tmp_path / "a.hdf5"
    path.write_bytes(content)

    with pytest.raises(ValueError, match=f"expected a whole HDF5 file, got one of {len(content)}"):
        read_hdf5(path, size=(2, 3), kinds="f")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_hdf5_cut_or_flipped_gives_an_array_or_a_value_error(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("hdf5")
    content = bytearray(write_hdf5(folder / "a.hdf5", VALUES).read_bytes())
    for _ in range(3):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = folder / "b.hdf5"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])

    problem, array = "", np.empty((2, 3))
    try:
        array = read_hdf5(path, size=(2, 3), kinds="f")
    except ValueError as error:
        problem = str(error)

    assert array.shape == (2, 3)
    assert not problem or problem.startswith(f"{path}: expected ")


@pytest.mark.parametrize("values", [VALUES, VALUES[..., None], np.asfortranarray(VALUES)])
def test_npy_is_read_with_or_without_a_last_axis_and_in_either_order(values, tmp_path):
    np.save(tmp_path / "a.npy", values)

    assert read_npy(tmp_path / "a.npy", size=(2, 3), kinds="f").tolist() == VALUES.tolist()


def test_npy_in_the_second_format_is_read(tmp_path):
    with (tmp_path / "a.npy").open("wb") as stream:
        np.lib.format.write_array(stream, VALUES, version=(2, 0))

    assert read_npy(tmp_path / "a.npy", size=(2, 3), kinds="f").tolist() == VALUES.tolist()


def test_npy_of_pickled_objects_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[object()] * 3] * 2), allow_pickle=True)

    with pytest.raises(ValueError, match=r"expected 2 x 3 float values.*got 2 x 3 object"):
        read_npy(tmp_path / "a.npy", size=(2, 3), kinds="f")


def test_npy_and_npz_cut_at_any_length_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", VALUES)
    np.savez_compressed(tmp_path / "a.npz", VALUES)
    for name, read, kind in [
        ("a.npy", read_npy, "NumPy array file"),
        ("a.npz", read_npz, "NumPy archive"),
    ]:
        whole = (tmp_path / name).read_bytes()
        for length in range(0, len(whole), 3):
            (tmp_path / "cut").write_bytes(whole[:length])
            with pytest.raises(ValueError, match=f"cut: expected a whole {kind}, got one of"):
                read(tmp_path / "cut", size=(2, 3), kinds="f")


def test_npz_holds_one_array_of_the_expected_size(tmp_path):
    np.savez(tmp_path / "one.npz", VALUES)
    np.savez(tmp_path / "two.npz", VALUES, VALUES)

    assert read_npz(tmp_path / "one.npz", size=(2, 3), kinds="f").tolist() == VALUES.tolist()
    with pytest.raises(ValueError, match="expected 4 x 3 float values"):
        read_npz(tmp_path / "one.npz", size=(4, 3), kinds="f")
    with pytest.raises(ValueError, match="expected an archive of one array, got 2"):
        read_npz(tmp_path / "two.npz", size=(2, 3), kinds="f")


@pytest.mark.parametrize(("scale", "dtype"), [("-1.0", "<f4"), ("1", ">f4")])
def test_pfm_rows_are_stored_from_the_bottom_in_the_byte_order_of_the_sign(scale, dtype, tmp_path):
    # First stored row is the lowest of the picture.
    body = np.array([4, 5, 6, 1, 2, 3], dtype).tobytes()
    (tmp_path / "a.pfm").write_bytes(f"Pf\n3 2\n{scale}\n".encode() + body)

    array = read_pfm(tmp_path / "a.pfm", size=(2, 3))

    assert array.tolist() == VALUES.tolist()
    assert array.dtype == np.float32


def test_pfm_of_another_size_colour_or_length_is_refused(tmp_path):
    path = tmp_path / "a.pfm"
    path.write_bytes(b"Pf\n3 2\n-1\n" + bytes(24))
    with pytest.raises(ValueError, match=r"expected 5 x 3 float values.*got 2 x 3"):
        read_pfm(path, size=(5, 3))
    path.write_bytes(b"Pf\n3 2\n-1\n" + bytes(23))
    with pytest.raises(ValueError, match="expected a whole greyscale PFM, got one of 33 bytes"):
        read_pfm(path, size=(2, 3))
    path.write_bytes(b"PF\n3 2\n-1\n" + bytes(72))
    with pytest.raises(ValueError, match="expected a whole greyscale PFM"):
        read_pfm(path, size=(2, 3))


def test_an_npy_header_that_ends_within_a_bracket_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", VALUES)
    data = (tmp_path / "a.npy").read_bytes().replace(b"(2, 3), }", b"(2, 3 (  ")
    (tmp_path / "a.npy").write_bytes(data)

    with pytest.raises(ValueError, match=r"a\.npy: expected a whole NumPy array file"):
        read_npy(tmp_path / "a.npy", size=(2, 3), kinds="f")
