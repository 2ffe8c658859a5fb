"""8-bit greyscale PNGs come whole and of the image's size, or not at all."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from dav2.data.grey8 import decode_grey8

VALUES = np.array([[0, 1, 255], [128, 7, 9]], np.uint8)


def encode(values):
    stream = BytesIO()
    Image.fromarray(values).save(stream, "PNG")
    return stream.getvalue()


def test_values_are_read_as_they_are():
    assert decode_grey8(encode(VALUES), size=(2, 3), where="m.png").tolist() == VALUES.tolist()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected an 8-bit greyscale PNG, got 0 bytes"),
        (encode(np.repeat(VALUES[..., None], 3, 2)), "got 8 bits of colour type 2"),
        (encode(VALUES.astype(np.uint16)), "got 16 bits of colour type 0"),
        (encode(VALUES.T.copy()), r"expected 2 x 3 \(height x width\), got 3 x 2"),
        (encode(VALUES)[:-14], "expected a whole PNG image"),
    ],
)
def test_others_are_refused(data, message):
    with pytest.raises(ValueError, match=rf"^m\.png: .*{message}"):
        decode_grey8(data, size=(2, 3), where="m.png")
