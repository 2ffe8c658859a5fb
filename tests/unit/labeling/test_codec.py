"""Each codec keeps a label to half a step of its own."""

from importlib.metadata import PackageNotFoundError
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dav2.data.png16 import decode_png16, encode_png16
from dav2.labeling.codec import (
    CodecName,
    codec_version,
    decode_label,
    encode_label,
    label_suffix,
    max_code,
)

CODECS = get_args(CodecName)

MAPS = arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 7)),
    elements=st.floats(-1e6, 1e6, width=32, allow_subnormal=False),
)


def decoded(label, codec="png16"):
    encoded = encode_label(label, codec)
    assert encoded.codec == codec
    return decode_label(encoded.data, codec, minimum=encoded.minimum, maximum=encoded.maximum)


def test_writes_the_codes_worked_out_by_hand():
    label = np.array([[1.0, 2.0], [3.0, 5.0]], np.float32)
    encoded = encode_label(label)
    assert (encoded.minimum, encoded.maximum) == (1.0, 5.0)
    # (2 - 1) / 4 x 65535 = 16383.75 and (3 - 1) / 4 x 65535 = 32767.5, to the even neighbour.
    assert decode_png16(encoded.data).tolist() == [[0, 16384], [32768, 65535]]


@pytest.mark.parametrize(
    ("codec", "half_a_step"),
    [("png16", 1 / 131070), ("htj2k16", 1 / 131070), ("htj2k12", 1 / 8190)],
)
@given(label=MAPS)
@settings(max_examples=100, deadline=None)
def test_error_is_at_most_half_a_step(codec, half_a_step, label):
    error = np.abs(decoded(label, codec).astype(np.float64) - label)
    span = float(label.max()) - float(label.min())
    rounding = np.spacing(np.abs(label).max())  # of the float32 that is returned
    assert error.max() <= span * half_a_step + rounding


@pytest.mark.parametrize("codec", CODECS)
def test_extremes_are_exact(codec):
    label = np.array([[-3.25, 0.5, 7.125]], np.float32)
    assert decoded(label, codec)[0, [0, 2]].tolist() == [-3.25, 7.125]


def test_sixteen_bits_give_the_same_values_in_either_file():
    label = np.random.default_rng(0).random((20, 31), dtype=np.float32)
    assert np.array_equal(decoded(label, "htj2k16"), decoded(label, "png16"))


def test_names_of_files_say_what_is_in_them():
    suffixes = [label_suffix(codec) for codec in ("png16", "htj2k16", "htj2k12")]
    assert suffixes == [".depth.png", ".depth.j2c", ".depth.j2c"]


def test_a_library_that_decides_bytes_has_a_version(monkeypatch):
    assert codec_version("png16") is None
    assert codec_version("htj2k12")[:2] == "20"

    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("dav2.labeling.codec.version", missing)
    with pytest.raises(ValueError, match="codec htj2k16: expected the package imagecodecs"):
        codec_version("htj2k16")


def test_refuses_codes_beyond_those_of_the_codec():
    data = encode_label(np.eye(3, dtype=np.float32), "htj2k16").data
    assert max_code("htj2k12") == 4095
    with pytest.raises(ValueError, match="codes of at most 4095 in htj2k12, got 65535"):
        decode_label(data, "htj2k12", minimum=0.0, maximum=1.0)
    codes = np.zeros((2, 2), np.uint16)
    with pytest.raises(ValueError, match="expected an HTJ2K codestream"):
        decode_label(encode_png16(codes), "htj2k12", minimum=0.0, maximum=1.0)


def test_shift_and_scale_change_the_range_and_not_the_bytes():
    label = np.random.default_rng(0).integers(0, 1000, (6, 9)).astype(np.float32)
    assert encode_label(label * 4 + 16).data == encode_label(label).data


@pytest.mark.parametrize("codec", CODECS)
def test_a_constant_map_is_exact(codec):
    label = np.full((3, 4), 0.1, np.float32)
    np.testing.assert_array_equal(decoded(label, codec), label)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_refuses_values_that_are_not_finite(bad):
    label = np.ones((3, 4), np.float32)
    label[1, 2] = bad
    with pytest.raises(ValueError, match="label: expected finite values, got 1 that are not"):
        encode_label(label)


def test_refuses_a_reversed_range_and_bytes_of_another_kind():
    data = encode_label(np.eye(3, dtype=np.float32)).data
    with pytest.raises(ValueError, match=r"minimum <= maximum, got 2\.0 and 1\.0"):
        decode_label(data, minimum=2.0, maximum=1.0)
    with pytest.raises(ValueError, match="expected a 16-bit greyscale PNG"):
        decode_label(b"not a picture", minimum=0.0, maximum=1.0)
