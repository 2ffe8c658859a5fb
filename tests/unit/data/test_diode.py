"""DIODE's layout, written by hand: metres with a mask."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dav2.data.diode import Diode

NAN = np.nan
STEM = "val/indoors/scene_00019/scan_00183/00019_00183_indoors_000_010"


def write_view(root: Path, depth, mask, stem=STEM, size=(2, 3)):
    path = root / stem
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 70, np.uint8)).save(path.with_suffix(".png"))
    np.save(f"{path}_depth.npy", depth)
    np.save(f"{path}_depth_mask.npy", mask)
    return root


def test_depth_is_metres_where_the_mask_says_measured(tmp_path):
    depth = np.array([[1.5, 0, NAN], [3, 4, 5]], np.float32)[..., None]  # H x W x 1 as published
    mask = np.array([[1, 1, 1], [1, 0, 1]], np.float32)
    reader = Diode(write_view(tmp_path, depth, mask))

    (files,) = reader.list_samples("val")
    sample = reader.read(files)

    assert sample.valid.tolist() == [[True, False, False], [True, False, True]]
    assert sample.depth[sample.valid].tolist() == [1.5, 3, 5]
    assert sample.depth.dtype == np.float32
    assert sample.sky is None
    assert sample.intrinsics is None  # known for the published size alone
    assert files.sample_id == STEM
    assert files.scene == "indoors/scene_00019"
    assert (files.depth, files.extra) == (f"{STEM}_depth.npy", (f"{STEM}_depth_mask.npy",))


def test_masks_may_be_boolean(tmp_path):
    reader = Diode(write_view(tmp_path, np.ones((2, 3), np.float64), np.eye(2, 3, dtype=bool)))

    sample = reader.read(reader.list_samples("val")[0])

    assert sample.valid.sum() == 2
    assert sample.depth.dtype == np.float32


def test_the_published_size_has_the_published_camera(tmp_path):
    size = (768, 1024)
    reader = Diode(write_view(tmp_path, np.ones(size, np.float32), np.ones(size), size=size))

    camera = reader.read(reader.list_samples("val")[0]).intrinsics

    assert (camera.fx_px, camera.fy_px, camera.cx_px, camera.cy_px) == (886.81, 927.06, 512, 384)


def test_indoor_and_outdoor_views_are_listed_in_order(tmp_path):
    depth, mask = np.ones((2, 3), np.float32), np.ones((2, 3))
    write_view(tmp_path, depth, mask, stem="val/outdoor/scene_00022/scan_00193/b")
    write_view(tmp_path, depth, mask)

    scenes = [files.scene for files in Diode(tmp_path).list_samples("val")]

    assert scenes == ["indoors/scene_00019", "outdoor/scene_00022"]


def test_unusable_maps_name_their_file(tmp_path):
    good, mask = np.ones((2, 3), np.float32), np.ones((2, 3), np.float32)
    for depth, masked, got in [
        (np.full((2, 3), NAN, np.float32), mask, r"_depth\.npy: .*got NaN alone"),
        (good * 0, mask, r"_depth\.npy: .*got zeros alone"),
        (good, mask * 0, r"_depth\.npy: .*got no usable value in 6 pixels"),
        (np.ones((3, 2), np.float32), mask, r"_depth\.npy: expected 2 x 3 .*got 3 x 2"),
        (good, np.ones((3, 2)), r"_depth_mask\.npy: expected 2 x 3 .*got 3 x 2"),
        (good.astype(np.int32), mask, r"_depth\.npy: expected 2 x 3 float values"),
    ]:
        reader = Diode(write_view(tmp_path, depth, masked))
        with pytest.raises(ValueError, match=got):
            reader.read(reader.list_samples("val")[0])


def test_unknown_splits_and_missing_files_are_errors(tmp_path):
    write_view(tmp_path, np.ones((2, 3), np.float32), np.ones((2, 3)))
    reader = Diode(tmp_path)

    with pytest.raises(ValueError, match="expected split 'train' or 'val', got 'test'"):
        reader.list_samples("test")
    with pytest.raises(FileNotFoundError, match="/train: expected the folder of a dataset"):
        reader.list_samples("train")
    with pytest.raises(FileNotFoundError, match="expected the folder of a dataset"):
        Diode(tmp_path / "misspelt").list_samples("val")
    (tmp_path / f"{STEM}_depth_mask.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"_depth_mask\.npy: expected a file"):
        reader.read(reader.list_samples("val")[0])
