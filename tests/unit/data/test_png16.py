"""16-bit PNG: no value changes, no byte depends on a library, damage is told."""

import hashlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dav2.data.png16 import decode_png16, encode_png16


@settings(max_examples=100, deadline=None)
@given(height=st.integers(1, 9), width=st.integers(1, 9), seed=st.integers(0, 2**32 - 1))
def test_every_value_survives_and_pillow_reads_the_same(height, width, seed):
    values = np.random.default_rng(seed).integers(0, 2**16, (height, width)).astype(np.uint16)

    data = encode_png16(values)

    assert np.array_equal(decode_png16(data, size=(height, width)), values)
    assert np.array_equal(np.asarray(Image.open(BytesIO(data))), values)


def test_reads_the_filters_of_other_writers():
    values = (np.arange(40 * 30).reshape(40, 30) ** 2 % 65536).astype(np.uint16)
    stream = BytesIO()
    Image.fromarray(values).save(stream, "PNG", compress_level=9)

    back = decode_png16(stream.getvalue())

    assert np.array_equal(back, values)
    assert back.flags.writeable


def test_accepts_a_strided_view_and_gives_the_bytes_of_its_copy():
    values = np.arange(60, dtype=np.uint16).reshape(6, 10)

    assert encode_png16(values[::2, ::-1]) == encode_png16(values[::2, ::-1].copy())


def test_a_row_is_stored_as_differences_of_neighbours_high_byte_first():
    import zlib

    data = encode_png16(np.array([[0x0102, 0x0405]], np.uint16))
    start = data.index(b"IDAT")
    length = int.from_bytes(data[start - 4 : start], "big")

    assert zlib.decompress(data[start + 4 : start + 4 + length]) == bytes([1, 1, 2, 3, 3])


def test_the_same_values_give_the_same_bytes():
    values = np.arange(48, dtype=np.uint16).reshape(6, 8) * 1000

    marks = {hashlib.sha256(encode_png16(values.copy())).hexdigest() for _ in range(3)}

    assert len(marks) == 1


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_a_file_cut_at_any_length_is_refused_in_one_line(data):
    whole = encode_png16(np.random.default_rng(1).integers(0, 2**16, (7, 5)).astype(np.uint16))
    length = data.draw(st.integers(0, len(whole) - 1))

    with pytest.raises(ValueError, match=r"expected a (whole PNG|16-bit)") as caught:
        decode_png16(whole[:length], where="depth.png")

    assert str(caught.value).startswith("depth.png: ")
    assert "\n" not in str(caught.value)


def test_one_flipped_bit_anywhere_is_refused():
    whole = encode_png16(np.random.default_rng(1).integers(0, 2**16, (4, 5)).astype(np.uint16))

    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        with pytest.raises(ValueError, match=r"^depth\.png: expected "):
            decode_png16(bytes(damaged), where="depth.png")


def test_another_size_than_expected_is_refused():
    data = encode_png16(np.zeros((3, 4), np.uint16))

    with pytest.raises(ValueError, match=r"expected 4 x 3 \(height x width\), got 3 x 4"):
        decode_png16(data, size=(4, 3))
    with pytest.raises(ValueError, match="expected 1 to 11 pixels, got 4 x 3"):
        decode_png16(data, max_pixels=11)


def test_other_kinds_of_png_are_refused():
    stream = BytesIO()
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(stream, "PNG")

    with pytest.raises(ValueError, match="got 8 bits of colour type 0"):
        decode_png16(stream.getvalue())
    with pytest.raises(ValueError, match="expected a 16-bit greyscale PNG, got 4 bytes"):
        decode_png16(b"text")


def test_an_empty_map_is_refused():
    with pytest.raises(ValueError, match="at least one pixel, got 0 x 5"):
        encode_png16(np.zeros((0, 5), np.uint16))
