"""Sintel's layout, written by hand: tagged floats in metres, cameras beside them."""

import struct

import numpy as np
import pytest
from PIL import Image

from dav2.data.sintel import Sintel, SintelOptions

DEPTH = np.array([[1.5, 2, 40000], [0, 71, np.nan]], "<f4")
TAG = struct.pack("<f", 202021.25)


def write_frame(root, depth=DEPTH, name="alley_1/frame_0001", size=(2, 3), header=None):
    for rendering, shade in (("clean", 20), ("final", 200)):
        image = root / "training" / rendering / f"{name}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((*size, 3), shade, np.uint8)).save(image)
    if depth is not None:
        path = root / "training" / "depth" / f"{name}.dpt"
        path.parent.mkdir(parents=True, exist_ok=True)
        header = header or struct.pack("<fii", 202021.25, depth.shape[1], depth.shape[0])
        path.write_bytes(header + depth.tobytes())
    return root


def write_camera(root, focal=1120.0, name="alley_1/frame_0001"):
    path = root / "training" / "camdata_left" / f"{name}.cam"
    path.parent.mkdir(parents=True, exist_ok=True)
    matrix = np.array([[focal, 0, 511.5], [0, 1100, 217.5], [0, 0, 1]])
    path.write_bytes(TAG + matrix.astype("<f8").tobytes() + np.eye(3, 4).astype("<f8").tobytes())
    return path


def read_only_frame(root, **options):
    reader = Sintel(root, options=SintelOptions(**options))
    (files,) = reader.list_samples("train")
    return reader.read(files)


def test_depth_is_metres_and_sky_stays_far_away(tmp_path):
    sample = read_only_frame(write_frame(tmp_path))

    assert sample.sample_id == "alley_1/0001"
    assert sample.scene == "alley_1"
    assert sample.valid.tolist() == [[True, True, True], [False, True, False]]
    assert sample.depth[sample.valid].tolist() == [1.5, 2, 40000, 71]
    assert sample.sky is None
    assert sample.intrinsics is None
    assert sample.image[0, 0].tolist() == [200, 200, 200]  # the final pass


def test_options_choose_the_pass_and_what_is_sky(tmp_path):
    sample = read_only_frame(write_frame(tmp_path), rendering="clean", sky_beyond_m=1000)

    assert sample.image[0, 0].tolist() == [20, 20, 20]
    assert sample.sky.tolist() == [[False, False, True], [False, False, False]]
    assert np.isposinf(sample.depth[0, 2])
    assert sample.valid[0, 2]


def test_a_camera_beside_it_gives_intrinsics_counted_from_the_corner(tmp_path):
    write_frame(tmp_path)
    write_camera(tmp_path)

    camera = read_only_frame(tmp_path).intrinsics

    assert (camera.fx_px, camera.fy_px, camera.cx_px, camera.cy_px) == (1120, 1100, 512, 218)


def test_frames_without_depth_are_left_out(tmp_path):
    write_frame(tmp_path, name="temple_2/frame_0003")
    write_frame(tmp_path, name="alley_1/frame_0002")
    write_frame(tmp_path, None, name="alley_1/frame_0004")

    ids = [files.sample_id for files in Sintel(tmp_path).list_samples("train")]

    assert ids == ["alley_1/0002", "temple_2/0003"]


def test_all_sequences_must_have_the_published_number_of_frames(tmp_path):
    for number in range(23):
        write_frame(tmp_path, name=f"scene_{number}/frame_0001")

    with pytest.raises(ValueError, match=r"expected the 1064 samples of the published .* got 23"):
        Sintel(tmp_path).list_samples("train")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"HEIP" + bytes(8), r"expected depth with the tag 202021\.25, got 36 bytes .*HEIP"),
        (TAG, r"expected 2 x 3 float32 values.*in a file of 28 bytes"),
        (struct.pack("<fii", 202021.25, 2, 3), "expected 2 x 3 .*got 3 x 2 in a file of 36"),
        (struct.pack("<fii", 202021.25, -3, -2), "expected 2 x 3 .*got -2 x -3"),
        (struct.pack("<fii", 202021.25, 1 << 30, 1 << 30), "expected 2 x 3 .*got 1073741824"),
        (
            struct.pack("<fii", 202021.25, 3, 2) + b"\0",
            "expected 2 x 3 .*got 2 x 3 in a file of 37 bytes",
        ),
    ],
)
def test_other_depth_files_are_refused_by_their_header(header, message, tmp_path):
    write_frame(tmp_path, header=header)

    with pytest.raises(ValueError, match=rf"frame_0001\.dpt: {message}"):
        read_only_frame(tmp_path)


def test_unusable_depth_and_cameras_are_refused(tmp_path):
    write_frame(tmp_path, np.full((2, 3), np.nan, "<f4"))
    with pytest.raises(ValueError, match=r"frame_0001\.dpt: expected depth with .*got NaN alone"):
        read_only_frame(tmp_path)
    write_frame(tmp_path)
    write_camera(tmp_path, focal=0.0)
    with pytest.raises(ValueError, match=r"cam: expected focal lengths above zero, got 0 and 1100"):
        read_only_frame(tmp_path)
    write_camera(tmp_path).write_bytes(b"HEIP")
    with pytest.raises(ValueError, match=r"\.cam: expected the tag 202021\.25 .*got 4 bytes"):
        read_only_frame(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rendering": "albedo"}, "rendering: expected 'clean' or 'final', got 'albedo'"),
        ({"sky_beyond_m": 0}, "sky_beyond_m: expected a number above 0, got 0"),
        ({"sky_beyond_m": -1.5}, "sky_beyond_m: expected a number above 0, got -1.5"),
    ],
)
def test_other_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SintelOptions(**options)


def test_nothing_to_read_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected the folder of a dataset"):
        Sintel(tmp_path / "misspelt").list_samples("train")
    with pytest.raises(ValueError, match="expected split 'train', got 'test'"):
        Sintel(tmp_path).list_samples("test")
    with pytest.raises(ValueError, match="expected samples of split 'train', got none"):
        Sintel(tmp_path).list_samples("train")
