"""Image files become upright RGB or one line that says why not."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dav2.data.images import EncodedImage, decode_image, encode_jpeg

RED, GREEN = (255, 0, 0), (0, 255, 0)


def encoded(picture: Image.Image, form: str, **options) -> bytes:
    stream = BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def two_pixels() -> Image.Image:
    """One row: red, then green."""
    return Image.fromarray(np.array([[RED, GREEN]], np.uint8))


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


WHOLE_JPEG = encode_jpeg(noise(19, 23), quality=85)
WHOLE_PNG = encoded(Image.fromarray(noise(5, 7)), "PNG")
WHOLE_WEBP = encoded(Image.fromarray(noise(5, 7)), "WEBP", lossless=True)


@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_lossless_formats_keep_every_value(form, options, tmp_path):
    pixels = noise(5, 7)
    path = tmp_path / "misnamed.txt"
    path.write_bytes(encoded(Image.fromarray(pixels), form, **options))

    image = decode_image(path)

    assert np.array_equal(image, pixels)
    assert image.flags.writeable  # torch warns of others


def test_jpeg_comes_back_close_to_what_went_in():
    smooth = np.broadcast_to(np.arange(0, 240, 8, np.uint8)[:, None, None], (30, 20, 3))

    back = decode_image(encode_jpeg(np.ascontiguousarray(smooth), quality=95))

    assert back.shape == (30, 20, 3)
    assert np.abs(back.astype(int) - smooth).max() <= 4


# Where the stored first (red) pixel of one row ends up, by EXIF's definition of each value.
@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, [[RED, GREEN]]),
        (2, [[GREEN, RED]]),
        (3, [[GREEN, RED]]),
        (4, [[RED, GREEN]]),
        (5, [[RED], [GREEN]]),
        (6, [[RED], [GREEN]]),
        (7, [[GREEN], [RED]]),
        (8, [[GREEN], [RED]]),
        (9, [[RED, GREEN]]),
    ],
)
def test_exif_orientation_is_applied(orientation, upright):
    exif = Image.Exif()
    exif[0x0112] = orientation

    image = decode_image(encoded(two_pixels(), "PNG", exif=exif))

    assert image.tolist() == [[list(pixel) for pixel in row] for row in upright]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_counts_as_none():
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = encoded(two_pixels(), "PNG", exif=exif)
    start = whole.index(b"eXIf")
    length = struct.unpack(">I", whole[start - 4 : start])[0]
    body = b"eXIf" + b"MM\x00*" + b"\xff" * (length - 4)
    damaged = (
        whole[:start] + body + struct.pack(">I", zlib.crc32(body)) + whole[start + 8 + length :]
    )

    assert decode_image(damaged).tolist() == [[list(RED), list(GREEN)]]


def test_grey_is_repeated_and_alpha_dropped():
    grey = Image.fromarray(np.array([[10, 200]], np.uint8))
    clear = Image.fromarray(np.array([[[9, 8, 7, 0]]], np.uint8))

    assert decode_image(encoded(grey, "PNG")).tolist() == [[[10] * 3, [200] * 3]]
    assert decode_image(encoded(clear, "PNG")).tolist() == [[[9, 8, 7]]]
    assert decode_image(encoded(grey.convert("LA"), "PNG")).tolist() == [[[10] * 3, [200] * 3]]
    assert decode_image(encoded(two_pixels().convert("P"), "PNG")).tolist() == [
        [list(RED), list(GREEN)]
    ]


def test_sixteen_bits_are_cut_to_the_upper_eight():
    values = np.array([[0x12FF, 0xFF00]], np.uint16)

    assert decode_image(encoded(Image.fromarray(values), "PNG")).tolist() == [
        [[0x12] * 3, [0xFF] * 3]
    ]


def test_cmyk_is_converted():
    # Half cyan and no black: red is what cyan leaves.
    ink = Image.new("CMYK", (16, 8), (128, 0, 0, 0))

    image = decode_image(encoded(ink, "JPEG", quality=95))

    assert image.shape == (8, 16, 3)
    assert np.abs(image.astype(int) - [127, 255, 255]).max() <= 3


@pytest.mark.parametrize("whole", [WHOLE_JPEG, WHOLE_PNG, WHOLE_WEBP], ids=["jpg", "png", "webp"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_file_cut_at_any_length_is_refused_in_one_line(whole, data):
    length = data.draw(st.integers(0, len(whole) - 1))

    with pytest.raises(ValueError, match="expected a") as caught:
        decode_image(whole[:length])

    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("whole", [WHOLE_JPEG, WHOLE_PNG, WHOLE_WEBP], ids=["jpg", "png", "webp"])
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_damaged_file_gives_an_image_or_a_value_error(whole, data):
    damaged = bytearray(whole)
    for _ in range(3):
        place = data.draw(st.integers(0, len(whole) - 1))
        damaged[place] = data.draw(st.integers(0, 255))

    problem, shape = "", (1, 1, 3)
    try:
        shape = decode_image(bytes(damaged), max_pixels=10**6).shape
    except ValueError as error:
        problem = str(error)

    assert shape[2:] == (3,)
    assert not problem or problem.startswith("image bytes: expected ")


def bomb_png() -> bytes:
    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def bomb_webp() -> bytes:
    header = b"\x00" * 4 + (15999).to_bytes(3, "little") + (14999).to_bytes(3, "little")
    return b"RIFF\x00\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00" + header


def test_images_above_the_limit_are_refused_by_their_header():
    with pytest.raises(ValueError, match="1 to 100000000 pixels, got 20000 x 20000"):
        decode_image(bomb_png())
    with pytest.raises(ValueError, match="1 to 100000000 pixels, got 16000 x 15000"):
        decode_image(bomb_webp())
    with pytest.raises(ValueError, match="1 to 436 pixels, got 23 x 19"):
        decode_image(WHOLE_JPEG, max_pixels=436)
    assert decode_image(WHOLE_JPEG, max_pixels=437).shape == (19, 23, 3)


@pytest.mark.parametrize("lossless", [True, False])
def test_webp_sizes_are_read_from_every_kind_of_header(lossless):
    plain = encoded(Image.fromarray(noise(5, 7)), "WEBP", lossless=lossless)
    extended = encoded(Image.fromarray(noise(5, 7)), "WEBP", lossless=lossless, exif=b"Exif\0\0MM")

    for whole in (plain, extended):
        with pytest.raises(ValueError, match="got 7 x 5"):
            decode_image(whole, max_pixels=34)
        assert decode_image(whole, max_pixels=35).shape == (5, 7, 3)


def test_other_files_are_refused_by_their_first_bytes(tmp_path):
    text = tmp_path / "photo.png"
    text.write_text("not a picture")

    with pytest.raises(ValueError, match=r"photo\.png: expected a JPEG, PNG or WebP.* b'not a pi'"):
        decode_image(text)
    with pytest.raises(ValueError, match="got an empty file"):
        decode_image(b"")
    with pytest.raises(ValueError, match="expected a readable WEBP header"):
        decode_image(b"RIFF\x00\x00\x00\x00WEBPnone")
    with pytest.raises(ValueError, match="expected a readable PNG header"):
        decode_image(WHOLE_PNG[:20])
    with pytest.raises(FileNotFoundError, match="expected an image file, got nothing there"):
        decode_image(tmp_path / "absent.jpg")


@pytest.mark.parametrize("quality", [0, 96])
def test_jpeg_quality_outside_libjpegs_scale_is_refused(quality):
    with pytest.raises(ValueError, match=f"expected quality 1 to 95, got {quality}"):
        encode_jpeg(noise(2, 3), quality=quality)


def test_a_header_tells_format_channels_size_and_exif_without_decoding():
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0xA405] = 28
    data = encoded(Image.fromarray(noise(20, 30)).convert("CMYK"), "JPEG", exif=exif)

    header = EncodedImage(
        data[: len(data) * 9 // 10]
    ).header()  # the rest is missed only when it is decoded

    assert (header.format, header.mode) == ("JPEG", "CMYK")
    assert (header.height, header.width) == (30, 20)  # upright: turned by a quarter
    assert (header.orientation, header.focal_35mm) == (6, 28.0)


def test_a_header_without_exif_or_with_an_impossible_one_says_upright():
    exif = Image.Exif()
    exif[0x0112] = 99
    plain, odd = (
        EncodedImage(encoded(Image.new("L", (4, 7)), "JPEG", **options)).header()
        for options in ({}, {"exif": exif})
    )

    assert plain == odd
    assert (plain.mode, plain.height, plain.width) == ("L", 7, 4)
    assert (plain.orientation, plain.focal_35mm) == (1, None)


def test_a_header_of_something_else_or_too_large_is_refused():
    with pytest.raises(ValueError, match="a: expected a JPEG, PNG or WebP image, got 4 bytes"):
        EncodedImage(b"text", where="a").header()
    with pytest.raises(ValueError, match="expected an image of 1 to 27 pixels, got 4 x 7"):
        EncodedImage(encoded(Image.new("L", (4, 7)), "PNG"), max_pixels=27).header()


@pytest.mark.parametrize(
    ("at_least_px", "size"),
    [(20, (20, 30)), (40, (40, 60)), (41, (80, 120)), (80, (80, 120)), (81, (160, 240))],
)
def test_a_jpeg_may_come_smaller_where_full_size_is_not_needed(at_least_px, size):
    data = encoded(Image.fromarray(noise(160, 240)).resize((240, 160)), "JPEG", quality=90)

    image = decode_image(data, at_least_px=at_least_px)

    assert image.shape[:2] == size
    assert image.mean() == pytest.approx(decode_image(data).mean(), abs=1)
