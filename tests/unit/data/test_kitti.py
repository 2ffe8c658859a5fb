"""KITTI's layout, written by hand: 1/256 metre, sparse, split by the lists of BTS."""

import numpy as np
import pytest
from PIL import Image

from dav2.data import kitti
from dav2.data.kitti import Kitti, KittiOptions
from dav2.data.png16 import encode_png16

DATE, DRIVE = "2011_09_26", "2011_09_26_drive_0002_sync"
OTHER = "2011_09_28_drive_0001_sync"
STORED = np.array([[256, 0, 640], [1, 0, 65535]], np.uint16)
OWN = {"train_list": "train.txt", "test_list": "test.txt"}
CALIBRATION = """calib_time: 09-Jan-2012 13:57:47
S_rect_02: {width} 2.000000e+00
P_rect_02: 7.215377e+02 0 6.095593e+02 4.485728e+01 0 7.2e+02 1.72854e+02 2.1e-01 0 0 1 2.7e-03
"""


def line(drive=DRIVE, frame=69, depth=None):
    truth = f"{drive}/proj_depth/groundtruth/image_02/{frame:010d}.png"
    return f"{drive[:10]}/{drive}/image_02/data/{frame:010d}.png {depth or truth} 721.5377\n"


def write_frame(root, drive=DRIVE, frame=69, stored=STORED, raw=".", depth="."):
    image = root / raw / drive[:10] / drive / "image_02" / "data" / f"{frame:010d}.png"
    truth = root / depth / drive / "proj_depth" / "groundtruth" / "image_02" / f"{frame:010d}.png"
    for path in (image, truth):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((2, 3, 3), 120, np.uint8)).save(image)
    truth.write_bytes(encode_png16(stored))


def read_only(root, split="test"):
    reader = Kitti(root, options=KittiOptions(**OWN))
    (files,) = reader.list_samples(split)
    return reader.read(files)


def test_depth_is_in_steps_of_a_256th_metre(tmp_path):
    write_frame(tmp_path)
    (tmp_path / "test.txt").write_text(line())

    sample = read_only(tmp_path)

    assert sample.valid.tolist() == [[True, False, True], [True, False, True]]
    assert sample.depth[sample.valid].tolist() == [1, 2.5, 1 / 256, 65535 / 256]
    assert sample.depth.dtype == np.float32
    assert (sample.sky, sample.intrinsics, sample.scale_known) == (None, None, True)
    assert (sample.sample_id, sample.scene) == (f"{DRIVE}/image_02/0000000069", DRIVE)


def test_images_and_depth_may_lie_in_folders_of_the_archives(tmp_path):
    write_frame(tmp_path, raw="raw", depth="annotated/train")
    write_frame(tmp_path, drive=OTHER, raw="raw", depth="annotated/val")
    (tmp_path / "train.txt").write_text(line(OTHER) + line())
    options = KittiOptions(**OWN, images="raw", depth="annotated")

    samples = Kitti(tmp_path, options=options).list_samples("train")

    assert [files.scene for files in samples] == [DRIVE, OTHER]
    assert samples[0].image == f"raw/{DATE}/{DRIVE}/image_02/data/0000000069.png"
    assert samples[1].depth == (
        f"annotated/val/{OTHER}/proj_depth/groundtruth/image_02/0000000069.png"
    )


def test_lines_may_name_the_date_before_the_depth_too(tmp_path):
    write_frame(tmp_path)
    truth = f"{DATE}/{DRIVE}/proj_depth/groundtruth/image_02/0000000069.png"
    (tmp_path / "test.txt").write_text(line(depth=truth))

    assert read_only(tmp_path).valid.any()


def test_images_without_ground_truth_are_left_out(tmp_path):
    write_frame(tmp_path)
    (tmp_path / "test.txt").write_text(line(frame=70, depth="None") + line())

    assert read_only(tmp_path).sample_id == f"{DRIVE}/image_02/0000000069"
    (tmp_path / "test.txt").write_text(line(frame=70, depth="None"))
    with pytest.raises(ValueError, match=r"test\.txt: expected samples of split 'test', got none"):
        read_only(tmp_path)


def test_the_calibration_counts_from_the_middle_of_a_pixel(tmp_path):
    write_frame(tmp_path)
    (tmp_path / "test.txt").write_text(line())
    path = tmp_path / DATE / "calib_cam_to_cam.txt"
    path.write_text(CALIBRATION.format(width="3.0e+00"))

    camera = read_only(tmp_path).intrinsics

    assert (camera.fx_px, camera.fy_px) == (721.5377, 720)
    assert (camera.cx_px, camera.cy_px) == pytest.approx((610.0593, 173.354))
    path.write_text(CALIBRATION.format(width="1242"))  # of another size
    assert read_only(tmp_path).intrinsics is None
    for text in ("", CALIBRATION.format(width="a"), CALIBRATION.format(width="1 2")):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"calib_cam_to_cam\.txt: expected a line S_rect_02: "):
            read_only(tmp_path)
    path.write_text(CALIBRATION.format(width="3").replace(" 7.2e+02", " -7.2e+02"))
    with pytest.raises(
        ValueError, match=r"txt: expected focal lengths above 0 in P_rect_02, got 7"
    ):
        read_only(tmp_path)


def test_published_lists_must_be_whole(tmp_path, monkeypatch):
    write_frame(tmp_path)
    train, test = kitti._PUBLISHED_LISTS
    for name in (train, test):
        (tmp_path / name).write_text(line())
    with pytest.raises(ValueError, match=r"train_files_with_gt\.txt: expected the 23158 lines"):
        Kitti(tmp_path).list_samples("train")
    with pytest.raises(ValueError, match=r"test_files_with_gt\.txt: expected the 697 lines"):
        Kitti(tmp_path).list_samples("test")
    monkeypatch.setitem(kitti._PUBLISHED_LISTS, test, 1)
    with pytest.raises(ValueError, match=r"expected the 652 lines with depth.*got 1;"):
        Kitti(tmp_path).list_samples("test")
    monkeypatch.setitem(kitti._PUBLISHED_LISTS, train, 1)
    assert len(Kitti(tmp_path).list_samples("train")) == 1


def test_damaged_lists_name_the_line(tmp_path):
    write_frame(tmp_path)
    for text, message in [
        ("a.png", "line 1: expected an image, its depth map or None, and a focal length, got 1"),
        (line() + "a.png b.png", "line 2: expected <date>/<drive>.* got a.png b.png"),
        (line(depth=line(OTHER).split()[1]), "line 1: expected .* of one drive, got"),
        (line(OTHER), f"line 1: expected depth of {OTHER} in .* got none; there are 1 drives"),
    ]:
        (tmp_path / "test.txt").write_text(text)
        with pytest.raises(ValueError, match=rf"test\.txt {message}"):
            read_only(tmp_path)
    (tmp_path / "test.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"test\.txt: expected a split list"):
        read_only(tmp_path)


def test_a_drive_in_two_folders_is_refused(tmp_path):
    write_frame(tmp_path, depth="train")
    write_frame(tmp_path, depth="val")
    (tmp_path / "test.txt").write_text(line())

    with pytest.raises(ValueError, match=f"val/{DRIVE}: expected every drive once, got it also in"):
        read_only(tmp_path)


def test_unusable_samples_name_their_file(tmp_path):
    (tmp_path / "test.txt").write_text(line())
    for stored, message in [
        (STORED * 0, "expected depth.*got zeros alone"),
        (np.ones((3, 2), np.uint16), r"expected 2 x 3 \(height x width\), got 3 x 2"),
    ]:
        write_frame(tmp_path, stored=stored)
        with pytest.raises(ValueError, match=rf"groundtruth/image_02/0000000069\.png: {message}"):
            read_only(tmp_path)
    (tmp_path / DATE / DRIVE / "image_02" / "data" / "0000000069.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"data/0000000069\.png: expected a file"):
        read_only(tmp_path)


def test_unknown_splits_roots_and_options_are_errors(tmp_path):
    with pytest.raises(ValueError, match="expected split 'train' or 'test', got 'val'"):
        Kitti(tmp_path).list_samples("val")
    with pytest.raises(FileNotFoundError, match="expected the folder of a dataset"):
        Kitti(tmp_path / "misspelt").list_samples("train")
    with pytest.raises(ValueError, match="test_list: expected text, got ''"):
        KittiOptions(test_list="")
    with pytest.raises(ValueError, match=r"depth: expected a path relative to the root, got '\.\."):
        KittiOptions(depth="../gt")
