"""Middlebury's two layouts, written by hand: disparity in pixels, in metres with calibration."""

import numpy as np
import pytest
from PIL import Image

from dav2.data.middlebury import Middlebury
from dav2.data.sample import Intrinsics

INF = np.inf
DISPARITY = np.array([[4, 10, INF], [0, 8, 5]], np.float32)
CALIBRATION = """cam0=[3000 0 1.25; 0 2990 0.75; 0 0 1]
cam1=[3000 0 121.25; 0 2990 0.75; 0 0 1]
doffs=120
baseline=200
width=3
height=2
ndisp=280
"""


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((2, 3, 3), 40, np.uint8)).save(path)


def write_official(root, disparity=DISPARITY):
    picture(root / "Adirondack" / "im0.png")
    body = disparity[::-1].astype("<f4").tobytes()  # rows from the bottom up
    height, width = disparity.shape
    path = root / "Adirondack" / "disp0.pfm"
    path.write_bytes(f"Pf\n{width} {height}\n-0.003922\n".encode() + body)


def write_small(root, disparity=DISPARITY):
    picture(root / "motorcycle_left.png")
    np.savez_compressed(root / "motorcycle_disp.npz", disparity)


@pytest.mark.parametrize("write", [write_official, write_small])
def test_inverse_depth_is_disparity_in_both_layouts(write, tmp_path):
    write(tmp_path)
    reader = Middlebury(tmp_path)

    (files,) = reader.list_samples("all")
    sample = reader.read(files)

    assert not sample.scale_known
    assert sample.valid.tolist() == [[True, True, False], [False, True, True]]
    assert np.allclose(sample.inverse_depth(), [[4, 10, 0], [0, 8, 5]])
    assert np.allclose(sample.depth[sample.valid], [0.25, 0.1, 0.125, 0.2])
    assert sample.sky is None


def test_both_layouts_are_listed_and_images_without_disparity_left_out(tmp_path):
    write_official(tmp_path)
    write_small(tmp_path)
    picture(tmp_path / "Piano" / "im0.png")
    picture(tmp_path / "Adirondack" / "im1.png")

    ids = [files.sample_id for files in Middlebury(tmp_path).list_samples("all")]

    assert ids == ["Adirondack", "motorcycle"]


@pytest.mark.parametrize("write", [write_official, write_small])
def test_unusable_disparity_names_its_file(write, tmp_path):
    reader = Middlebury(tmp_path)
    write(tmp_path, np.full((2, 3), INF, np.float32))
    with pytest.raises(ValueError, match=r"disp.*expected depth with .*no usable value in 6"):
        reader.read(reader.list_samples("all")[0])
    write(tmp_path, np.ones((3, 2), np.float32))
    with pytest.raises(ValueError, match=r"disp.*expected 2 x 3 .*got 3 x 2"):
        reader.read(reader.list_samples("all")[0])


def test_nothing_to_read_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="expected samples of split 'all', got none"):
        Middlebury(tmp_path).list_samples("all")
    with pytest.raises(ValueError, match="expected split 'all', got 'test'"):
        Middlebury(tmp_path).list_samples("test")
    with pytest.raises(FileNotFoundError, match="misspelt: expected the folder of a dataset"):
        Middlebury(tmp_path / "misspelt").list_samples("all")


def write_calibration(root, old="", new="", scene="Adirondack"):
    (root / scene / "calib.txt").write_bytes(CALIBRATION.replace(old, new).encode())


def test_calibration_makes_metres_of_the_disparity(tmp_path):
    # 3000 px x 0.2 m over the disparity and 120 px; 0 stays unknown.
    write_official(tmp_path, np.array([[30, 80, INF], [0, 120, 5]], np.float32))
    write_calibration(tmp_path)
    reader = Middlebury(tmp_path)

    (files,) = reader.list_samples("all")
    sample = reader.read(files)

    assert files.extra == ("Adirondack/calib.txt",)
    assert sample.scale_known
    assert sample.valid.tolist() == [[True, True, False], [False, True, True]]
    assert sample.depth[sample.valid].tolist() == pytest.approx([4, 3, 2.5, 4.8])
    assert sample.intrinsics == Intrinsics(3000.0, 2990.0, 1.75, 1.25)


def test_a_negative_offset_leaves_no_depth_behind_the_camera(tmp_path):
    write_official(tmp_path)
    write_calibration(tmp_path, "doffs=120", "doffs=-5")
    reader = Middlebury(tmp_path)

    sample = reader.read(reader.list_samples("all")[0])

    assert sample.valid.tolist() == [[False, True, False], [False, True, False]]
    assert sample.depth[sample.valid].tolist() == pytest.approx([120, 200])


def test_calibration_with_windows_line_ends_is_read(tmp_path):
    write_official(tmp_path)
    write_calibration(tmp_path, "\n", "\r\n")
    reader = Middlebury(tmp_path)

    assert reader.read(reader.list_samples("all")[0]).scale_known


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("doffs=120\n", "", "expected cam0 of 3 x 3, doffs, .*got baseline, cam0, cam1, height"),
        ("baseline=200", "baseline=wide", "expected cam0 of 3 x 3, doffs, .* or other values"),
        ("doffs=120", "doffs=nan", "expected cam0 of 3 x 3"),
        ("; 0 0 1]\ncam1", "]\ncam1", "expected cam0 of 3 x 3"),
        ("[3000 0 1.25;", "[3000 0;", "expected cam0 of 3 x 3"),
        (CALIBRATION, "", "expected cam0 of 3 x 3, .*got none"),
        ("baseline=200", "baseline=0", "expected a camera of 2 x 3 .*3000 px and 0 m"),
        ("cam0=[3000", "cam0=[-30", "expected a camera of 2 x 3 .*focal length -30 px"),
        ("width=3", "width=6", "expected a camera of 2 x 3 pixels .*got 2 x 6"),
        ("ndisp", "n" * (1 << 16), "expected a file of at most 65536 bytes"),
    ],
)
def test_other_calibrations_are_refused(old, new, message, tmp_path):
    write_official(tmp_path)
    write_calibration(tmp_path, old, new)
    reader = Middlebury(tmp_path)

    with pytest.raises(ValueError, match=rf"Adirondack/calib\.txt: {message}"):
        reader.read(reader.list_samples("all")[0])


def test_a_disparity_next_to_nothing_is_not_measured(tmp_path):
    write_official(tmp_path, np.array([[4, 1e-42, 8], [8, 8, 8]], np.float32))
    reader = Middlebury(tmp_path)

    sample = reader.read(reader.list_samples("all")[0])

    assert sample.valid.tolist() == [[True, False, True], [True, True, True]]
