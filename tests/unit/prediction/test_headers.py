import numpy as np
import pytest
from PIL import Image

from dav2.data.images import decode_image
from dav2.prediction.headers import Header, read_header
from tests.fixtures.prediction import make_image


def save(path, orientation=None, focal_35mm=None):
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    if focal_35mm is not None:
        exif.get_ifd(0x8769)[0xA405] = focal_35mm
    Image.fromarray(make_image(20, 30)).save(path, exif=exif)
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_of_the_decoded_image(tmp_path, suffix, orientation):
    path = save(tmp_path / f"a{suffix}", orientation)
    assert read_header(path).size == decode_image(path).shape[:2]
    assert read_header(path).size == ((20, 30) if orientation < 5 else (30, 20))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_the_focal_length_stands_in_exif(tmp_path, suffix):
    assert read_header(save(tmp_path / f"a{suffix}", 6, 26)).focal_35mm == 26.0


@pytest.mark.parametrize("focal_35mm", [None, 0])
def test_a_focal_length_of_0_is_unknown(tmp_path, focal_35mm):
    assert read_header(save(tmp_path / "a.jpg", 1, focal_35mm)) == Header((20, 30), None)


def test_a_png_without_exif_is_not_decoded(tmp_path):
    data = bytearray(save(tmp_path / "a.png").read_bytes())
    data[-100:-20] = bytes(80)  # pixels that would not decode
    (tmp_path / "a.png").write_bytes(data)
    assert read_header(tmp_path / "a.png") == Header((20, 30), None)


@pytest.mark.parametrize("content", [b"", b"text", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n\0\0"])
def test_an_unreadable_file_tells_nothing(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    assert read_header(tmp_path / "a.jpg") == Header()
    assert read_header(tmp_path / "none.jpg") == Header()


def test_damaged_exif_leaves_the_size(tmp_path):
    data = save(tmp_path / "a.jpg", 6, 26).read_bytes()
    start = data.index(b"Exif\0\0") + 6
    broken = data[:start] + bytes(np.random.default_rng(0).integers(0, 256, 20, np.uint8))
    (tmp_path / "a.jpg").write_bytes(broken + data[start + 20 :])
    assert read_header(tmp_path / "a.jpg") == Header((20, 30), None)
