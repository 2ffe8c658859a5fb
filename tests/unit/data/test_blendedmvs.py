"""BlendedMVS's layout, written by hand: portable float maps in a unit of each scene's own."""

import numpy as np
import pytest
from PIL import Image

from dav2.data import blendedmvs
from dav2.data.blendedmvs import BlendedMvs, BlendedMvsOptions

SCENE = "5b7a3890fc8fcf6781e2593a"
OTHER = "5c189f2326173c3a09ed7ef3"
DEPTH = np.array([[0.5, 2, 0], [4, np.inf, np.nan]], np.float32)
CAMERA = """extrinsic
1 0 0 0.5
0 1 0 0
0 0 1 0
0 0 0 1

intrinsic
575.6 0 382.5
0 576.5 287.25
0 0 1

0.4 0.005 128 1.1
"""
OWN = BlendedMvsOptions(train_list="mine.txt", val_list="val.txt")


def write_frame(root, depth=DEPTH, folder=SCENE, frame="00000003", camera=CAMERA):
    for kind in ("blended_images", "rendered_depth_maps", "cams"):
        (root / folder / kind).mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.full((2, 3, 3), 80, np.uint8))
    picture.save(root / folder / "blended_images" / f"{frame}.jpg")
    picture.save(root / folder / "blended_images" / f"{frame}_masked.jpg")
    height, width = depth.shape
    body = depth[::-1].astype("<f4").tobytes()  # rows from the bottom up
    path = root / folder / "rendered_depth_maps" / f"{frame}.pfm"
    path.write_bytes(f"Pf\n{width} {height}\n-1.000000\n".encode() + body)
    (root / folder / "cams" / "pair.txt").write_text("1\n")
    if camera:
        (root / folder / "cams" / f"{frame}_cam.txt").write_text(camera)
    return root


def read_only(root):
    reader = BlendedMvs(root)
    (files,) = reader.list_samples("all")
    return reader.read(files)


def test_depth_is_read_from_the_top_in_a_unit_of_its_own(tmp_path):
    sample = read_only(write_frame(tmp_path))

    assert sample.depth[sample.valid].tolist() == [0.5, 2, 4]
    assert sample.valid.tolist() == [[True, True, False], [True, False, False]]
    assert not sample.scale_known
    assert sample.sky is None
    assert sample.image.shape == (2, 3, 3)
    camera = sample.intrinsics
    assert (camera.fx_px, camera.fy_px, camera.cx_px, camera.cy_px) == (575.6, 576.5, 382.5, 287.25)


def test_masked_images_are_left_out_and_cameras_are_optional(tmp_path):
    write_frame(tmp_path)
    write_frame(tmp_path, folder=f"{OTHER}/{OTHER}", frame="00000000", camera="")

    samples = BlendedMvs(tmp_path).list_samples("all")

    assert [files.sample_id for files in samples] == [
        f"{SCENE}/00000003",
        f"{OTHER}/{OTHER}/00000000",
    ]
    assert [files.scene for files in samples] == [SCENE, OTHER]
    assert samples[0].depth == f"{SCENE}/rendered_depth_maps/00000003.pfm"
    assert samples[0].extra == (f"{SCENE}/cams/00000003_cam.txt",)
    assert samples[1].extra == ()
    assert BlendedMvs(tmp_path).read(samples[1]).intrinsics is None


def test_splits_are_the_scenes_of_lists(tmp_path):
    write_frame(tmp_path)
    write_frame(tmp_path, folder=OTHER)
    (tmp_path / "mine.txt").write_text(f"{OTHER}\n")
    (tmp_path / "val.txt").write_text(f"{SCENE}\n\n")
    reader = BlendedMvs(tmp_path, options=OWN)

    assert [files.scene for files in reader.list_samples("train")] == [OTHER]
    assert [files.scene for files in reader.list_samples("val")] == [SCENE]
    assert len(reader.list_samples("all")) == 2


def test_listed_scenes_must_be_there(tmp_path):
    write_frame(tmp_path)
    (tmp_path / "mine.txt").write_text(f"{SCENE}\n{OTHER}\n")
    with pytest.raises(ValueError, match=rf"mine\.txt line 2: expected images of scene {OTHER}"):
        BlendedMvs(tmp_path, options=OWN).list_samples("train")
    with pytest.raises(FileNotFoundError, match=r"val\.txt: expected a split list, got nothing"):
        BlendedMvs(tmp_path, options=OWN).list_samples("val")


def test_published_lists_must_be_whole(tmp_path, monkeypatch):
    write_frame(tmp_path)
    (tmp_path / "validation_list.txt").write_text(f"{SCENE}\n")
    with pytest.raises(ValueError, match=r"validation_list\.txt: expected the 7 scenes .* got 1;"):
        BlendedMvs(tmp_path).list_samples("val")
    monkeypatch.setitem(blendedmvs._PUBLISHED_SCENES, "validation_list.txt", 1)
    assert len(BlendedMvs(tmp_path).list_samples("val")) == 1


def test_unusable_files_are_named(tmp_path):
    for depth, got in [
        (np.full((2, 3), np.nan, np.float32), "got NaN alone"),
        (np.zeros((2, 3), np.float32), "got zeros alone"),
        (np.ones((3, 2), np.float32), "expected 2 x 3 float values.*got 3 x 2"),
    ]:
        with pytest.raises(ValueError, match=rf"00000003\.pfm: .*{got}"):
            read_only(write_frame(tmp_path, depth))
    for camera in (
        "nothing",
        "intrinsic 1 2 3",
        CAMERA.replace("576.5", "a"),
        "intrinsic" + " 0" * 9,
    ):
        with pytest.raises(ValueError, match=r"_cam\.txt: expected nine numbers below 'intrinsic'"):
            read_only(write_frame(tmp_path, camera=camera))
    (tmp_path / SCENE / "rendered_depth_maps" / "00000003.pfm").unlink()
    with pytest.raises(FileNotFoundError, match=r"00000003\.pfm: expected a file"):
        read_only(tmp_path)


def test_unknown_splits_and_missing_roots_are_errors(tmp_path):
    with pytest.raises(ValueError, match="expected split 'all' or 'train' or 'val', got 'test'"):
        BlendedMvs(tmp_path).list_samples("test")
    with pytest.raises(ValueError, match="expected samples of split 'all', got none"):
        BlendedMvs(tmp_path).list_samples("all")
    with pytest.raises(FileNotFoundError, match="expected the folder of a dataset"):
        BlendedMvs(tmp_path / "misspelt").list_samples("train")
    with pytest.raises(ValueError, match="val_list: expected text, got ''"):
        BlendedMvsOptions(val_list="")
