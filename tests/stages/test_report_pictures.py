import base64
import io

import numpy as np
import pytest
from PIL import Image

from stages.report_pictures import colours, depth_uri, image_uri, shown_span, with_points


def opened(address, kind):
    head, _, data = address.partition(",")
    assert head == f"data:image/{kind};base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def luma(colour):
    red, green, blue = colour
    return 0.299 * red + 0.587 * green + 0.114 * blue


def test_near_is_brighter_than_far_all_the_way():
    lightness = [luma(colour) for colour in colours()]
    assert len(lightness) == 255
    # 255 whole steps a channel: a single step may round down.
    assert min(np.diff(lightness)) > -1
    assert lightness[-1] - lightness[0] > 200


def test_a_map_has_its_colours_between_the_ends_of_the_span():
    inverse = np.array([[0.0, 0.5, 1.0, 9.0]], np.float32)
    picture = opened(depth_uri(inverse, span=(0.0, 1.0), side_px=8), "png").convert("RGB")
    table = colours()
    assert [picture.getpixel((x, 0)) for x in range(4)] == [
        table[0], table[127], table[254], table[254],
    ]  # fmt: skip


def test_pixels_without_a_value_are_transparent():
    inverse = np.array([[0.0, 1.0]], np.float32)
    valid = np.array([[False, True]])
    address = depth_uri(inverse, span=(0.0, 1.0), side_px=8, valid=valid)
    picture = opened(address, "png").convert("RGBA")
    assert [picture.getpixel((x, 0))[3] for x in range(2)] == [0, 255]


def test_a_constant_map_is_drawn():
    inverse = np.full((3, 4), 2.0, np.float32)
    picture = opened(depth_uri(inverse, span=shown_span(inverse), side_px=8), "png")
    assert picture.size == (4, 3)


def test_a_span_ignores_what_is_not_valid():
    inverse = np.array([[1.0, 2.0, 100.0]], np.float32)
    low, high = shown_span(inverse, np.array([[True, True, False]]))
    assert (low, high) == pytest.approx((1.02, 1.98))
    assert shown_span(inverse, np.zeros((1, 3), bool)) == (0.0, 1.0)


def test_pictures_keep_their_shape_and_never_grow():
    image = np.zeros((40, 60, 3), np.uint8)
    assert opened(image_uri(image, side_px=30, quality=80), "jpeg").size == (30, 20)
    assert opened(image_uri(image, side_px=100, quality=80), "jpeg").size == (60, 40)


def test_the_closer_point_is_light_and_the_farther_dark():
    image = np.full((64, 96, 3), 128, np.uint8)
    marked = with_points(image, (10, 70), (50, 20))
    assert marked[10, 70].tolist() == [255, 255, 255]
    assert marked[50, 20].tolist() == [0, 0, 0]
    assert image[10, 70].tolist() == [128, 128, 128]


def test_the_same_map_gives_the_same_bytes():
    inverse = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    addresses = {depth_uri(inverse, span=(0.0, 1.0), side_px=8) for _ in range(2)}
    assert len(addresses) == 1
