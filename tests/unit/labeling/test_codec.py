"""The codec keeps a label to half a step of 65,536."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dav2.data.png16 import decode_png16
from dav2.labeling.codec import decode_label, encode_label

MAPS = arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 7)),
    elements=st.floats(-1e6, 1e6, width=32, allow_subnormal=False),
)


def decoded(label):
    encoded = encode_label(label)
    return decode_label(encoded.data, minimum=encoded.minimum, maximum=encoded.maximum)


def test_writes_the_codes_worked_out_by_hand():
    label = np.array([[1.0, 2.0], [3.0, 5.0]], np.float32)
    encoded = encode_label(label)
    assert (encoded.minimum, encoded.maximum) == (1.0, 5.0)
    # (2 - 1) / 4 x 65535 = 16383.75 and (3 - 1) / 4 x 65535 = 32767.5, to the even neighbour.
    assert decode_png16(encoded.data).tolist() == [[0, 16384], [32768, 65535]]


@given(label=MAPS)
@settings(max_examples=100, deadline=None)
def test_error_is_at_most_half_a_step(label):
    error = np.abs(decoded(label).astype(np.float64) - label)
    span = float(label.max()) - float(label.min())
    rounding = np.spacing(np.abs(label).max())  # of the float32 that is returned
    assert error.max() <= span / 131070 + rounding


def test_extremes_are_exact():
    label = np.array([[-3.25, 0.5, 7.125]], np.float32)
    assert decoded(label)[0, [0, 2]].tolist() == [-3.25, 7.125]


def test_shift_and_scale_change_the_range_and_not_the_bytes():
    label = np.random.default_rng(0).integers(0, 1000, (6, 9)).astype(np.float32)
    assert encode_label(label * 4 + 16).data == encode_label(label).data


def test_a_constant_map_is_exact():
    label = np.full((3, 4), 0.1, np.float32)
    np.testing.assert_array_equal(decoded(label), label)


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
