"""IRS's layout, written by hand: disparity in pixels becomes metres."""

import numpy as np
import OpenEXR
import pytest
from PIL import Image

from dav2.data import irs
from dav2.data.irs import Irs, IrsOptions

SIZE = (540, 960)
SCENE = "Store/ConvenienceStore"


def write_frame(
    root, values=(48, 24, 0, -1, np.inf, np.nan), size=SIZE, scene=SCENE, frame="00001"
):
    folder = root / scene
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 60, np.uint8)).save(folder / f"l_{frame}.png")
    disparity = np.full(SIZE, 12, np.float32)
    disparity[0, : len(values)] = values
    header = {"compression": OpenEXR.ZIPS_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {"G": disparity}).write(str(folder / f"d_{frame}.exr"))
    return root


def write_names(root, *images):
    for image in images:
        path = root / image
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def line(scene, frame):
    return " ".join(
        f"{scene}/{name}" for name in (f"l_{frame}.png", f"r_{frame}.png", f"d_{frame}.exr")
    )


def test_depth_is_baseline_times_focal_length_over_disparity(tmp_path):
    reader = Irs(write_frame(tmp_path))

    (files,) = reader.list_samples("all")
    sample = reader.read(files)

    assert sample.depth[0, :2].tolist() == [1, 2]  # 0.1 m * 480 px = 48 m px
    assert sample.depth[1, 0] == 4
    assert sample.valid[0, :6].tolist() == [True, True, False, False, False, False]
    assert sample.valid[1:].all()
    assert sample.sky is None
    assert not sample.scale_known  # authors: most of the data has this baseline
    camera = sample.intrinsics
    assert (camera.fx_px, camera.fy_px, camera.cx_px, camera.cy_px) == (480, 480, 480, 270)
    assert (files.sample_id, files.scene) == (f"{SCENE}/00001", SCENE)
    assert (files.image, files.depth) == (f"{SCENE}/l_00001.png", f"{SCENE}/d_00001.exr")


def test_disparity_too_small_for_a_depth_is_not_valid(tmp_path):
    reader = Irs(write_frame(tmp_path, values=(1e-40,)))

    sample = reader.read(reader.list_samples("all")[0])

    assert not sample.valid[0, 0]
    assert sample.valid[0, 1]


def test_train_is_what_the_test_list_leaves(tmp_path):
    names = [f"{SCENE}/l_{number:05d}.png" for number in (1, 2, 3)]
    write_names(tmp_path, *names, "Home/a/b/l_00007.png", f"{SCENE}/r_00001.png", "l_00009.png")
    (tmp_path / "mine.list").write_text(f"{line(SCENE, '00002')}\n\n{line('Home/a/b', '00007')}\n")
    reader = Irs(tmp_path, options=IrsOptions(test_list="mine.list"))

    listed = {
        split: [files.sample_id for files in reader.list_samples(split)]
        for split in ("all", "train", "test")
    }

    assert listed["test"] == ["Home/a/b/00007", f"{SCENE}/00002"]
    assert listed["train"] == [f"{SCENE}/00001", f"{SCENE}/00003"]
    assert listed["all"] == sorted(listed["train"] + listed["test"])


def test_the_published_list_must_be_whole(tmp_path, monkeypatch):
    write_names(tmp_path, f"{SCENE}/l_00001.png")
    path = tmp_path / "irs_test.list"
    path.write_text(line(SCENE, "00001"))
    with pytest.raises(ValueError, match=r"irs_test\.list: expected the 14762 lines.*got 1;"):
        Irs(tmp_path).list_samples("test")
    monkeypatch.setattr(irs, "_TEST_IMAGES", 1)
    assert len(Irs(tmp_path).list_samples("test")) == 1


def test_damaged_lists_name_the_line(tmp_path):
    write_names(tmp_path, f"{SCENE}/l_00001.png")
    reader = Irs(tmp_path, options=IrsOptions(test_list="mine.list"))
    for text, message in [
        ("a.png b.png", "line 1: expected left and right image, disparity.*, got 2 names"),
        ("\na.png b.png c.exr", r"line 2: expected .*l_NNNNN\.png, got 'a\.png'"),
        ("../a.png b c", r"line 1: expected a path relative to the root, got '\.\./a\.png'"),
    ]:
        (tmp_path / "mine.list").write_text(text)
        with pytest.raises(ValueError, match=rf"mine\.list {message}"):
            reader.list_samples("test")
    (tmp_path / "mine.list").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"mine\.list: expected text in UTF-8"):
        reader.list_samples("train")
    (tmp_path / "mine.list").unlink()
    with pytest.raises(FileNotFoundError, match=r"mine\.list: expected a split list"):
        reader.list_samples("test")


def test_unusable_samples_name_their_file(tmp_path):
    reader = Irs(write_frame(tmp_path, size=(6, 10)))
    (files,) = reader.list_samples("all")
    with pytest.raises(ValueError, match=r"l_00001\.png: expected 540 x 960.*got 6 x 10"):
        reader.read(files)
    write_frame(tmp_path)
    exr = tmp_path / SCENE / "d_00001.exr"
    OpenEXR.File({}, {"G": np.zeros(SIZE, np.float32)}).write(str(exr))
    with pytest.raises(ValueError, match=r"d_00001\.exr: expected depth.*got zeros alone"):
        reader.read(files)
    exr.unlink()
    with pytest.raises(FileNotFoundError, match=r"d_00001\.exr: expected a file"):
        reader.read(files)


def test_unknown_splits_and_missing_roots_are_errors(tmp_path):
    with pytest.raises(ValueError, match="expected split 'all' or 'train' or 'test', got 'val'"):
        Irs(tmp_path).list_samples("val")
    with pytest.raises(ValueError, match="expected samples of split 'all', got none"):
        Irs(tmp_path).list_samples("all")
    with pytest.raises(FileNotFoundError, match="expected the folder of a dataset"):
        Irs(tmp_path / "misspelt").list_samples("train")
    with pytest.raises(ValueError, match="test_list: expected text, got ''"):
        IrsOptions(test_list="")
