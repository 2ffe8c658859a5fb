"""HTJ2K keeps every value, opens elsewhere, and notices damage."""

import io
import sys

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from dav2.data.htj2k import decode_htj2k, encode_htj2k

MAPS = arrays(np.uint16, st.tuples(st.integers(1, 40), st.integers(1, 70)))


def values(height=14, width=28, *, most=65535):
    return np.random.default_rng(0).integers(0, most + 1, (height, width)).astype(np.uint16)


@given(MAPS)
@settings(max_examples=60, deadline=None)
def test_every_value_comes_back(codes):
    back = decode_htj2k(encode_htj2k(codes))
    assert back.dtype == np.uint16
    assert np.array_equal(back, codes)


def test_other_readers_of_jpeg_2000_open_it():
    codes = values(most=4095)
    picture = Image.open(io.BytesIO(encode_htj2k(codes)))
    assert (picture.format, picture.mode, picture.size) == ("JPEG2000", "I;16", (28, 14))
    assert np.array_equal(np.asarray(picture), codes)


def test_the_same_values_give_the_same_bytes_however_they_lie_in_memory():
    codes = values()
    assert encode_htj2k(codes[::2, ::-1]) == encode_htj2k(codes[::2, ::-1].copy())
    assert encode_htj2k(np.asfortranarray(codes)) == encode_htj2k(codes)


def test_a_smooth_map_takes_less_than_a_third_of_its_memory():
    ramp = np.add.outer(np.arange(140), np.arange(196)).astype(np.uint16) * 12
    assert len(encode_htj2k(ramp)) < ramp.nbytes / 3


def test_damage_at_any_place_is_noticed():
    whole = encode_htj2k(values(6, 7))
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        with pytest.raises(ValueError, match="depth: expected a") as caught:
            decode_htj2k(bytes(damaged), where="depth")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.99])
def test_a_truncated_file_is_refused(share):
    whole = encode_htj2k(values())
    with pytest.raises(ValueError, match=r"a whole HTJ2K codestream, .* truncated or damaged"):
        decode_htj2k(whole[: int(len(whole) * share)])


def test_refuses_other_files_and_codestreams_of_another_kind():
    message = "expected an HTJ2K codestream of one 16-bit component, got"
    for data in (b"", b"text", imagecodecs.htj2k_encode(values().astype(np.uint8)) + bytes(20)):
        with pytest.raises(ValueError, match=message):
            decode_htj2k(data)


def test_refuses_a_codestream_without_our_checksum():
    with pytest.raises(ValueError, match="truncated or damaged"):
        decode_htj2k(imagecodecs.htj2k_encode(values(), reversible=True))


def test_refuses_a_large_map_before_it_is_decoded():
    with pytest.raises(ValueError, match="expected 1 to 100 pixels, got 28 x 14"):
        decode_htj2k(encode_htj2k(values()), max_pixels=100)


def test_refuses_an_empty_map():
    with pytest.raises(ValueError, match="at least one pixel, got 0 x 5"):
        encode_htj2k(np.zeros((0, 5), np.uint16))


def test_what_the_library_refuses_or_reads_otherwise_is_one_line(monkeypatch):
    whole = encode_htj2k(values())
    monkeypatch.setattr(imagecodecs, "htj2k_decode", lambda data: values()[1:])
    with pytest.raises(ValueError, match=r"expected 14 x 28 uint16, got \(13, 28\) uint16"):
        decode_htj2k(whole)

    def refuse(data):
        raise imagecodecs.Htj2kError("ojph\nerror")

    monkeypatch.setattr(imagecodecs, "htj2k_decode", refuse)
    with pytest.raises(ValueError, match="bytes that OpenJPH refuses"):
        decode_htj2k(whole)


def test_without_the_library_one_line_says_so(monkeypatch):
    whole = encode_htj2k(values())
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(ValueError, match="expected the package imagecodecs to read HTJ2K"):
        decode_htj2k(whole)
    with pytest.raises(ValueError, match="expected the package imagecodecs to write HTJ2K"):
        encode_htj2k(values())
