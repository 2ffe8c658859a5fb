"""Booster's layout, written by hand: disparity and calibration become metres."""

import numpy as np
import pytest
from PIL import Image

from dav2.data.booster import Booster
from dav2.data.sample import Intrinsics

DISPARITY = np.array([[8, 16, 0], [np.inf, 4, -1]], np.float32)
MATRIX = "800. 0. 1.25 0. 0. 790. 0.75 0. 0. 0. 1. 0."


def calibration(matrix=MATRIX, baseline="80.", head='<?xml version="1.0"?>'):
    return (
        f"{head}\n<opencv_storage>\n"
        '<proj_matL type_id="opencv-matrix">\n  <rows>3</rows>\n  <cols>4</cols>\n  <dt>d</dt>\n'
        f"  <data>\n    {matrix}</data></proj_matL>\n<baselineLR>{baseline}</baselineLR>\n"
        "</opencv_storage>\n"
    )


def write_scene(root, scene="Bathroom", disparity=DISPARITY, text=None, images=("im0", "im1")):
    folder = root / "train" / "balanced" / scene
    for camera in ("camera_00", "camera_02"):
        (folder / camera).mkdir(parents=True, exist_ok=True)
        for name in images:
            picture = Image.fromarray(np.full((2, 3, 3), 50, np.uint8))
            picture.save(folder / camera / f"{name}.png")
    (folder / "calib_00-02.xml").write_text(text or calibration())
    if disparity is not None:
        np.save(folder / "disp_00.npy", disparity)
    return folder


def test_depth_is_focal_length_times_baseline_over_disparity(tmp_path):
    write_scene(tmp_path)
    reader = Booster(tmp_path)

    first, second = reader.list_samples("train")
    sample = reader.read(first)

    assert (first.sample_id, second.sample_id) == ("Bathroom/im0", "Bathroom/im1")
    assert first.depth == second.depth == "train/balanced/Bathroom/disp_00.npy"
    assert sample.valid.tolist() == [[True, True, False], [False, True, False]]
    assert sample.depth[sample.valid].tolist() == [8, 4, 16]  # 800 px x 0.08 m / 8 px, ...
    assert sample.depth.dtype == np.float32
    assert sample.scale_known
    assert sample.sky is None
    assert sample.intrinsics == Intrinsics(800.0, 790.0, 1.75, 1.25)


def test_glass_and_mirrors_are_the_last_two_classes(tmp_path):
    folder = write_scene(tmp_path, images=["im0"])
    reader = Booster(tmp_path)
    (files,) = reader.list_samples("train")
    assert reader.glass_and_mirrors(files, size=(2, 3)) is None
    classes = np.array([[0, 1, 2], [3, 2, 0]], np.uint8)
    Image.fromarray(classes).save(folder / "mask_cat.png")
    (files,) = reader.list_samples("train")
    marked = reader.glass_and_mirrors(files, size=(2, 3))
    assert marked.tolist() == [[False, False, True], [True, True, False]]


def test_masks_are_named_beside_the_calibration(tmp_path):
    folder = write_scene(tmp_path, images=["im0"])
    (folder / "mask_cat.png").write_bytes(b"classes")
    reader = Booster(tmp_path)

    (files,) = reader.list_samples("train")

    assert files.extra == (
        "train/balanced/Bathroom/calib_00-02.xml",
        "train/balanced/Bathroom/mask_cat.png",
    )
    assert reader.read_bytes(files.extra[1]) == b"classes"
    assert reader.read(files).valid.sum() == 3  # the mask is not applied


def test_scenes_without_disparity_are_left_out(tmp_path):
    write_scene(tmp_path, "Oven", None)
    write_scene(tmp_path, "Bedroom", images=["im5"])

    ids = [files.sample_id for files in Booster(tmp_path).list_samples("train")]

    assert ids == ["Bedroom/im5"]


def test_all_scenes_must_have_the_published_number_of_images(tmp_path):
    for number in range(38):
        write_scene(tmp_path, f"scene_{number}", images=["im0"])

    with pytest.raises(ValueError, match=r"expected the 228 samples of the published .* got 38"):
        Booster(tmp_path).list_samples("train")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<a>", "OpenCV's XML with proj_matL of 3 x 4 and baselineLR"),
        ("no markup", "OpenCV's XML"),
        ("<opencv_storage/>", "OpenCV's XML"),
        (calibration(matrix="1 2 3"), "OpenCV's XML"),
        (calibration(baseline="wide"), "OpenCV's XML"),
        (calibration(head="<!DOCTYPE a>"), "OpenCV's XML"),
        (calibration(head="<?xml version='1.0' encoding='x'?>"), "OpenCV's XML"),
        (calibration(baseline="-80."), r"a camera of 2 x 3 .*got .* and -0.08 m"),
        (calibration(baseline="inf"), r"a camera of 2 x 3 .* and inf m"),
        (calibration(matrix=MATRIX.replace("800.", "0.")), r"a camera of 2 x 3 .*fx_px=0\.0"),
        (calibration(matrix=MATRIX.replace("1.25", "2056.")), r"of 2 x 3 pixels .*cx_px=2056\.5"),
        (" " * (1 << 20) + calibration(), "a file of at most 1048576 bytes"),
    ],
)
def test_other_calibrations_are_refused(text, message, tmp_path):
    write_scene(tmp_path, text=text)
    reader = Booster(tmp_path)

    with pytest.raises(ValueError, match=rf"calib_00-02\.xml: .*{message}"):
        reader.read(reader.list_samples("train")[0])


def test_unusable_disparity_names_its_file(tmp_path):
    reader = Booster(tmp_path)
    folder = write_scene(tmp_path, disparity=np.zeros((2, 3), np.float32))
    (files, _) = reader.list_samples("train")
    with pytest.raises(ValueError, match=r"disp_00\.npy: expected depth .*got zeros alone"):
        reader.read(files)
    np.save(folder / "disp_00.npy", np.ones((4, 6), np.float32))
    with pytest.raises(ValueError, match=r"disp_00\.npy: expected 2 x 3 .*got 4 x 6"):
        reader.read(files)
    (folder / "calib_00-02.xml").unlink()
    np.save(folder / "disp_00.npy", DISPARITY)
    with pytest.raises(FileNotFoundError, match=r"calib_00-02\.xml: expected a file"):
        reader.read(files)


def test_nothing_to_read_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected the folder of a dataset"):
        Booster(tmp_path / "misspelt").list_samples("train")
    with pytest.raises(ValueError, match="expected split 'train', got 'test'"):
        Booster(tmp_path).list_samples("test")
    with pytest.raises(ValueError, match="expected samples of split 'train', got none"):
        Booster(tmp_path).list_samples("train")


def test_a_disparity_next_to_nothing_is_not_measured(tmp_path):
    write_scene(tmp_path, disparity=np.array([[8, 1e-42, 8], [8, 8, 8]], np.float32))
    reader = Booster(tmp_path)

    sample = reader.read(reader.list_samples("train")[0])

    assert sample.valid.tolist() == [[True, False, True], [True, True, True]]
