"""BTS's copy of NYU Depth v2, written by hand: millimetres become metres."""

import numpy as np
import pytest
from PIL import Image

from dav2.data import nyuv2_train
from dav2.data.nyuv2_train import Nyuv2Train, Nyuv2TrainOptions
from dav2.data.png16 import encode_png16

STORED = np.array([[1500, 0, 10000], [2, 65535, 713]], np.uint16)
OWN = Nyuv2TrainOptions(train_list="mine.txt")


def write_frame(root, scene="kitchen_0028b", number="00045", stored=STORED, size=(2, 3)):
    folder = root / scene
    folder.mkdir(parents=True, exist_ok=True)
    image = np.full((*size, 3), 90, np.uint8)
    Image.fromarray(image).save(folder / f"rgb_{number}.jpg")
    (folder / f"sync_depth_{number}.png").write_bytes(encode_png16(stored))


def line(scene="kitchen_0028b", number="00045"):
    return f"/{scene}/rgb_{number}.jpg /{scene}/sync_depth_{number}.png 518.8579\n"


def test_millimetres_are_metres_and_zero_is_not_measured(tmp_path):
    write_frame(tmp_path)
    (tmp_path / "mine.txt").write_text(line())
    reader = Nyuv2Train(tmp_path, options=OWN)

    (files,) = reader.list_samples("train")
    sample = reader.read(files)

    assert sample.valid.tolist() == [[True, False, True], [True, True, True]]
    assert np.allclose(sample.depth, [[1.5, 0, 10], [0.002, 65.535, 0.713]])
    assert sample.depth.dtype == np.float32
    assert (sample.sky, sample.intrinsics, sample.scale_known) == (None, None, True)
    assert (files.sample_id, files.scene) == ("kitchen_0028b/rgb_00045", "kitchen_0028b")


def test_the_published_size_has_the_published_camera(tmp_path):
    size = (480, 640)
    write_frame(tmp_path, stored=np.ones(size, np.uint16), size=size)
    (tmp_path / "mine.txt").write_text(line())
    reader = Nyuv2Train(tmp_path, options=OWN)

    camera = reader.read(reader.list_samples("train")[0]).intrinsics

    assert (camera.fx_px, camera.fy_px) == (518.8579, 519.46961)
    assert (camera.cx_px, camera.cy_px) == pytest.approx((325.08245, 253.23617))


def test_the_lists_paths_count_from_a_folder(tmp_path):
    write_frame(tmp_path / "sync")
    write_frame(tmp_path / "sync", scene="bathroom_0001a")
    (tmp_path / "mine.txt").write_text(line() + "\n" + line("bathroom_0001a"))
    options = Nyuv2TrainOptions(train_list="mine.txt", folder="sync")

    samples = Nyuv2Train(tmp_path, options=options).list_samples("train")

    assert [files.scene for files in samples] == ["bathroom_0001a", "kitchen_0028b"]
    assert samples[1].image == "sync/kitchen_0028b/rgb_00045.jpg"
    assert samples[1].depth == "sync/kitchen_0028b/sync_depth_00045.png"


def test_the_published_list_must_be_whole(tmp_path, monkeypatch):
    path = tmp_path / "nyudepthv2_train_files_with_gt.txt"
    path.write_text(line())
    with pytest.raises(ValueError, match=r"_gt\.txt: expected the 24231 or 24232 lines.*got 1;"):
        Nyuv2Train(tmp_path).list_samples("train")
    monkeypatch.setattr(nyuv2_train, "_LINES", (1,))
    assert len(Nyuv2Train(tmp_path).list_samples("train")) == 1


def test_damaged_lists_name_the_line(tmp_path):
    reader = Nyuv2Train(tmp_path, options=OWN)
    for text, message in [
        ("/a/rgb_0.jpg", "line 1: expected an image, its depth map and a focal length, got 1 name"),
        (line() + "/a/x.png /a/y.jpg", "line 2: expected /<scene>/rgb_NNNNN.jpg.*got /a/x.png /a"),
        ("/../a/x.jpg /a/y.png", r"line 1: expected a path relative to the root, got '\.\./a/x"),
    ]:
        (tmp_path / "mine.txt").write_text(text)
        with pytest.raises(ValueError, match=rf"mine\.txt {message}"):
            reader.list_samples("train")
    (tmp_path / "mine.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"mine\.txt: expected samples of split 'train', got none"):
        reader.list_samples("train")
    (tmp_path / "mine.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"mine\.txt: expected a split list"):
        reader.list_samples("train")


def test_unusable_samples_name_their_file(tmp_path):
    (tmp_path / "mine.txt").write_text(line())
    reader = Nyuv2Train(tmp_path, options=OWN)
    (files,) = reader.list_samples("train")
    for stored, message in [
        (STORED * 0, "expected depth.*got zeros alone"),
        (np.ones((3, 2), np.uint16), r"expected 2 x 3 \(height x width\), got 3 x 2"),
    ]:
        write_frame(tmp_path, stored=stored)
        with pytest.raises(ValueError, match=rf"sync_depth_00045\.png: {message}"):
            reader.read(files)
    (tmp_path / files.depth).unlink()
    with pytest.raises(FileNotFoundError, match=r"sync_depth_00045\.png: expected a file"):
        reader.read(files)


def test_unknown_splits_roots_and_options_are_errors(tmp_path):
    with pytest.raises(ValueError, match="expected split 'train', got 'test'"):
        Nyuv2Train(tmp_path).list_samples("test")
    with pytest.raises(FileNotFoundError, match="expected the folder of a dataset"):
        Nyuv2Train(tmp_path / "misspelt").list_samples("train")
    with pytest.raises(ValueError, match="train_list: expected text, got ''"):
        Nyuv2TrainOptions(train_list="")
    with pytest.raises(ValueError, match="folder: expected a path relative to the root, got '/a'"):
        Nyuv2TrainOptions(folder="/a")
