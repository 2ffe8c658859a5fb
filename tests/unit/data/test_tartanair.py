"""TartanAir's layout, written by hand: metres along the axis, the sky a far dome."""

import numpy as np
import pytest
from PIL import Image

from dav2.data.tartanair import TartanAir, TartanAirOptions

NAN, INF = np.nan, np.inf
FOLDER = "abandonedfactory/Easy/P001"
DEPTH = np.array([[1.5, 999, 1000], [10000, NAN, 0], [-1, 2, INF]], np.float32)


def write_frame(root, depth=DEPTH, folder=FOLDER, frame="000012"):
    for kind in ("image_left", "depth_left"):
        (root / folder / kind).mkdir(parents=True, exist_ok=True)
    image = np.full((*DEPTH.shape, 3), 90, np.uint8)
    Image.fromarray(image).save(root / folder / "image_left" / f"{frame}_left.png")
    np.save(root / folder / "depth_left" / f"{frame}_left_depth.npy", depth)
    return root


def read_only(reader):
    (files,) = reader.list_samples("all")
    return reader.read(files)


def test_depth_is_metres_and_the_dome_is_sky(tmp_path):
    sample = read_only(TartanAir(write_frame(tmp_path)))

    assert sample.sky.tolist() == [[False, False, True], [True, False, False], [False, False, True]]
    assert sample.valid.tolist() == [[True, True, True], [True, False, False], [False, True, True]]
    assert sample.depth[0].tolist() == [1.5, 999, INF]
    assert np.isposinf(sample.depth[sample.sky]).all()
    assert sample.depth.dtype == np.float32
    assert sample.scale_known
    assert sample.intrinsics is None  # known for the published size alone
    assert sample.inverse_depth()[2].tolist() == [0, 0.5, 0]


def test_where_the_dome_begins_is_an_option(tmp_path):
    reader = TartanAir(write_frame(tmp_path), options=TartanAirOptions(sky_from_m=5000))

    assert read_only(reader).depth[0].tolist() == [1.5, 999, 1000]


def test_the_published_size_has_the_published_camera(tmp_path):
    root = write_frame(tmp_path, np.ones((480, 640), np.float32))
    image = np.zeros((480, 640, 3), np.uint8)
    Image.fromarray(image).save(root / FOLDER / "image_left" / "000012_left.png")

    camera = read_only(TartanAir(root)).intrinsics

    assert (camera.fx_px, camera.fy_px, camera.cx_px, camera.cy_px) == (320, 320, 320, 240)


def test_left_images_of_every_trajectory_are_listed_in_order(tmp_path):
    write_frame(tmp_path, folder="ocean/ocean/Hard/P000")  # as the archives unpack
    write_frame(tmp_path, frame="000013")
    write_frame(tmp_path)
    right = tmp_path / FOLDER / "image_right"
    right.mkdir()
    (right / "000012_right.png").write_bytes(b"")

    samples = TartanAir(tmp_path).list_samples("all")

    assert [files.sample_id for files in samples] == [
        f"{FOLDER}/000012",
        f"{FOLDER}/000013",
        "ocean/ocean/Hard/P000/000012",
    ]
    assert [files.scene for files in samples] == ["abandonedfactory", "abandonedfactory", "ocean"]
    assert samples[0].image == f"{FOLDER}/image_left/000012_left.png"
    assert samples[0].depth == f"{FOLDER}/depth_left/000012_left_depth.npy"


def test_environments_can_be_left_out(tmp_path):
    write_frame(tmp_path, folder="amusement/Easy/P001")
    write_frame(tmp_path)

    options = TartanAirOptions(exclude_environments=["amusement"])
    (files,) = TartanAir(tmp_path, options=options).list_samples("all")

    assert files.scene == "abandonedfactory"
    misspelt = TartanAirOptions(exclude_environments=["amusment"])
    with pytest.raises(ValueError, match=r"expected environments to exclude.*got no 'amusment'"):
        TartanAir(tmp_path, options=misspelt).list_samples("all")


def test_unusable_maps_name_their_file(tmp_path):
    for depth, got in [
        (np.full(DEPTH.shape, NAN, np.float32), "got NaN alone"),
        (np.zeros(DEPTH.shape, np.float32), "got zeros alone"),
        (np.ones((3, 4), np.float32), "expected 3 x 3 float values.*got 3 x 4"),
        (np.ones(DEPTH.shape, np.uint16), "expected 3 x 3 float values.*uint16"),
    ]:
        with pytest.raises(ValueError, match=rf"000012_left_depth\.npy: .*{got}"):
            read_only(TartanAir(write_frame(tmp_path, depth)))


def test_unknown_splits_and_missing_files_are_errors(tmp_path):
    reader = TartanAir(tmp_path)
    with pytest.raises(ValueError, match="expected samples of split 'all', got none"):
        reader.list_samples("all")
    write_frame(tmp_path)
    with pytest.raises(ValueError, match="expected split 'all', got 'train'"):
        reader.list_samples("train")
    with pytest.raises(FileNotFoundError, match="expected the folder of a dataset"):
        TartanAir(tmp_path / "misspelt").list_samples("all")
    (tmp_path / FOLDER / "depth_left" / "000012_left_depth.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"_left_depth\.npy: expected a file"):
        read_only(reader)


def test_options_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="exclude_environments: expected a list of texts"):
        TartanAirOptions(exclude_environments="amusement")
    with pytest.raises(ValueError, match="sky_from_m: expected a number above 0, got 0"):
        TartanAirOptions(sky_from_m=0)
