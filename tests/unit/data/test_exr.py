"""OpenEXR files come whole and of the image's size, or not at all."""

import sys

import numpy as np
import OpenEXR
import pytest

from dav2.data.exr import decode_exr

VALUES = np.array([[1, 2.5, 3], [4, np.inf, 6]], np.float32)


def encode(tmp_path, channels):
    path = tmp_path / "x.exr"
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, channels).write(str(path))
    return path.read_bytes()


def decode(data, size=(2, 3), **options):
    return decode_exr(data, size=size, where="a.exr", **options)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("name", ["Y", "G", "Z"])
def test_the_only_channel_is_read_whatever_its_name(name, dtype, tmp_path):
    values = decode(encode(tmp_path, {name: VALUES.astype(dtype)}))

    assert values.tolist() == VALUES.tolist()
    assert values.dtype == np.float32


def test_one_of_several_channels_is_read_by_name(tmp_path):
    data = encode(tmp_path, {"A": VALUES, "Z": VALUES * 2})

    assert decode(data, channel="Z").tolist() == (VALUES * 2).tolist()
    with pytest.raises(ValueError, match=r"a\.exr: expected one channel, or the name.*got A, Z"):
        decode(data)
    with pytest.raises(ValueError, match="expected a channel 'D', got A, Z"):
        decode(data, channel="D")


def test_another_size_is_told_from_the_header(tmp_path):
    # Cut short within the pixels: the size is refused before they are read.
    data = encode(tmp_path, {"Y": np.ones((6, 10), np.float32)})[:-10]

    with pytest.raises(ValueError, match=r"expected 2 x 3 values \(height x width\).*got 6 x 10"):
        decode(data)


def test_huge_sizes_are_refused_without_memory(tmp_path):
    data = bytearray(encode(tmp_path, {"Y": VALUES}))
    at = data.index(b"dataWindow\0box2i\0") + len(b"dataWindow\0box2i\0") + 4
    data[at : at + 16] = np.array([0, 0, 2**30, 2**30], "<i4").tobytes()

    with pytest.raises(ValueError, match=r"a\.exr: expected"):
        decode(bytes(data))


def test_damaged_files_and_other_ones_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.random((16, 24), np.float32)
    data = encode(tmp_path, {"Y": noise})

    for cut in (4, 60, len(data) // 2, len(data) - 4):
        with pytest.raises(ValueError, match=r"a\.exr: expected a whole OpenEXR file, got \d+ byt"):
            decode(data[:cut], size=(16, 24))
    with pytest.raises(ValueError, match="expected an OpenEXR file, got 3 other bytes"):
        decode(b"PNG")
    with pytest.raises(ValueError, match="expected half or float values, got uint32"):
        decode(encode(tmp_path, {"Y": VALUES.astype(bool).astype(np.uint32)}))


def test_too_many_channels_or_parts_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected 1 to 32 channels, got 33"):
        decode(encode(tmp_path, {f"c{number}": VALUES for number in range(33)}), channel="c1")
    path = tmp_path / "parts.exr"
    parts = [OpenEXR.Part({"type": OpenEXR.scanlineimage}, {"Z": VALUES}, name) for name in "ab"]
    OpenEXR.File(parts).write(str(path))
    with pytest.raises(ValueError, match="expected an OpenEXR file of one part, got 2"):
        decode(path.read_bytes())


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "OpenEXR", None)

    with pytest.raises(ValueError, match=r"expected the package openexr.*pip install openexr"):
        decode(b"")
