import sys

import numpy as np
import OpenEXR
import pytest
from PIL import Image

from dav2.data.png16 import decode_png16
from dav2.prediction.colours import colour_map
from dav2.prediction.formats import Prediction, check_libraries, ending, write
from dav2.prediction.points import Focal
from tests.fixtures.prediction import make_image

IMAGE = make_image(5, 7)
VALUES = np.linspace(2, 8, 35, dtype=np.float32).reshape(5, 7)
RELATIVE = Prediction(IMAGE, VALUES, is_metric=False, focal=Focal(9.0, "given"))
METRIC = Prediction(IMAGE, VALUES, is_metric=True, focal=Focal(9.0, "exif"))
POINT = np.dtype([(a, "<f4") for a in "xyz"] + [(c, "u1") for c in ("red", "green", "blue")])


def written(prediction, folder, kind):
    write(prediction, folder / "a", (kind,))
    (path,) = folder.iterdir()
    return path


def test_png16_holds_the_values_between_minimum_and_maximum(tmp_path):
    entry = write(RELATIVE, tmp_path / "a", ("png16",))
    codes = decode_png16((tmp_path / "a_depth.png").read_bytes())
    assert (entry["minimum"], entry["maximum"]) == (2.0, 8.0)
    assert np.allclose(2 + codes / 65535 * 6, VALUES, atol=6 / 65535)


def test_npy_holds_the_values(tmp_path):
    values = np.load(written(METRIC, tmp_path, "npy"))
    assert values.dtype == np.float32
    assert np.array_equal(values, VALUES)


@pytest.mark.parametrize(("prediction", "channel"), [(METRIC, "Z"), (RELATIVE, "Y")])
def test_exr_holds_the_values_in_one_compressed_channel(tmp_path, prediction, channel):
    with OpenEXR.File(str(written(prediction, tmp_path, "exr"))) as file:
        assert file.header()["compression"] == OpenEXR.ZIP_COMPRESSION
        assert list(file.channels()) == [channel]
        pixels = file.channels()[channel].pixels
    assert pixels.dtype == np.float32
    assert np.array_equal(pixels, VALUES)


def test_colours_are_bright_where_it_is_close(tmp_path):
    relative = np.asarray(Image.open(written(RELATIVE, tmp_path / "r", "color")))
    metric = np.asarray(Image.open(written(METRIC, tmp_path / "m", "color")))
    assert np.array_equal(relative, colour_map(VALUES))
    assert np.array_equal(metric, colour_map(1 / VALUES))
    assert relative[-1, -1].sum() > relative[0, 0].sum()
    assert metric[0, 0].sum() > metric[-1, -1].sum()


def test_controlnet_is_inverse_depth_in_8_bits_with_close_white(tmp_path):
    picture = Image.open(written(METRIC, tmp_path / "m", "controlnet"))
    assert picture.mode == "RGB"
    grey = np.asarray(picture)
    assert (grey == grey[..., :1]).all()
    assert (grey[0, 0, 0], grey[-1, -1, 0]) == (255, 0)
    # 5 m: (1/5 - 1/8) / (1/2 - 1/8) = 0.2, which is 51.
    assert VALUES[2, 3] == 5
    assert grey[2, 3, 0] == 51
    relative = np.asarray(Image.open(written(RELATIVE, tmp_path / "r", "controlnet")))
    # 5 is half way from 2 to 8.
    assert [relative[0, 0, 0], relative[2, 3, 0], relative[-1, -1, 0]] == [0, 128, 255]


def test_points_of_a_metric_map_are_metres(tmp_path):
    header, _, body = written(METRIC, tmp_path, "ply").read_bytes().partition(b"end_header\n")
    assert b"comment metres\n" in header
    points = np.frombuffer(body, POINT)
    assert np.array_equal(points["z"], VALUES.ravel())
    assert np.array_equal(points["green"], IMAGE[..., 1].ravel())
    # The middle of the image lies on the axis.
    assert points[2 * 7 + 3].tolist()[:3] == (0.0, 0.0, 5.0)


def test_points_of_a_relative_map_say_that_their_scale_is_unknown(tmp_path):
    header, _, body = written(RELATIVE, tmp_path, "ply").read_bytes().partition(b"end_header\n")
    assert b"comment scale and shift unknown: drawn from 1 (nearest) to 10\n" in header
    depth = np.frombuffer(body, POINT)["z"]
    assert depth[[0, -1]] == pytest.approx([10, 1])


def test_all_formats_are_written_side_by_side(tmp_path):
    kinds = ("png16", "npy", "exr", "color", "controlnet", "ply")
    entry = write(METRIC, tmp_path / "x" / "a", kinds)
    assert {path.name for path in (tmp_path / "x").iterdir()} == {"a" + ending(k) for k in kinds}
    assert entry == {
        "values": "depth in metres",
        "minimum": 2.0,
        "maximum": 8.0,
        "formats": sorted(kinds),
        "focal_px": 9.0,
        "focal_source": "exif",
    }


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_before_anything_is_written(tmp_path, bad):
    values = VALUES.copy()
    values[1, :3] = bad
    prediction = Prediction(IMAGE, values, is_metric=False, focal=Focal(9.0, "given"))
    with pytest.raises(ValueError, match="expected finite values of the model, got 3 of 35 that"):
        write(prediction, tmp_path / "a", ("npy",))
    assert not list(tmp_path.iterdir())


def test_a_format_that_fails_leaves_nothing_of_itself(tmp_path, monkeypatch):
    monkeypatch.setattr("dav2.prediction.formats.encode_ply", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(METRIC, tmp_path / "a", ("npy", "ply"))
    assert [path.name for path in tmp_path.iterdir()] == ["a_depth.npy"]


def test_missing_libraries_are_named_with_what_installs_them(monkeypatch):
    check_libraries(("exr",), with_video=True)
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    monkeypatch.setitem(sys.modules, "av", None)
    check_libraries(("png16",), with_video=False)
    with pytest.raises(ValueError, match=r"--format exr: .* openexr, .*\(pip install openexr\)"):
        check_libraries(("npy", "exr"), with_video=False)
    with pytest.raises(ValueError, match=r"videos: .* av, got none \(pip install av\)"):
        check_libraries(("npy",), with_video=True)
