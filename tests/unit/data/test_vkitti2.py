"""Virtual KITTI 2's layout, written by hand: centimetres become metres, 65535 is sky."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dav2.data.png16 import encode_png16
from dav2.data.vkitti2 import VirtualKitti2

CENTIMETRES = np.array([[1, 250, 8000], [0, 65534, 65535]], np.uint16)


def write_frame(root: Path, stored=CENTIMETRES, scene="Scene01", variation="fog", number=7):
    frames = root / scene / variation / "frames"
    rgb, depth = frames / "rgb" / "Camera_0", frames / "depth" / "Camera_0"
    for folder in (rgb, depth):
        folder.mkdir(parents=True, exist_ok=True)
    image = np.full((2, 3, 3), 90, np.uint8)
    Image.fromarray(image).save(rgb / f"rgb_{number:05d}.jpg")
    (depth / f"depth_{number:05d}.png").write_bytes(encode_png16(stored))


def test_centimetres_become_metres(tmp_path):
    write_frame(tmp_path)
    reader = VirtualKitti2(tmp_path)

    (files,) = reader.list_samples("val")
    sample = reader.read(files)

    assert np.allclose(sample.depth[0], [0.01, 2.5, 80], rtol=1e-6)
    assert sample.depth[1, 1] == pytest.approx(655.34)
    assert np.isposinf(sample.depth[1, 2])
    assert sample.depth.dtype == np.float32
    assert sample.sky.tolist() == [[False] * 3, [False, False, True]]
    assert sample.valid.tolist() == [[True] * 3, [False, True, True]]
    assert np.allclose(sample.inverse_depth(), [[100, 0.4, 1 / 80], [0, 1 / 655.34, 0]])
    assert sample.intrinsics is None  # known for the published size alone
    assert (files.sample_id, files.scene) == ("Scene01/fog/Camera_0/00007", "Scene01")
    assert files.depth == "Scene01/fog/frames/depth/Camera_0/depth_00007.png"


def test_the_published_size_has_the_published_camera(tmp_path):
    write_frame(tmp_path, np.full((375, 1242), 100, np.uint16))
    path = tmp_path / "Scene01/fog/frames/rgb/Camera_0/rgb_00007.jpg"
    Image.fromarray(np.zeros((375, 1242, 3), np.uint8)).save(path)
    reader = VirtualKitti2(tmp_path)

    camera = reader.read(reader.list_samples("val")[0]).intrinsics

    assert (camera.fx_px, camera.fy_px) == (725.0087, 725.0087)
    assert (camera.cx_px, camera.cy_px) == (1242 / 2, 375 / 2)


def test_scenes_divide_into_train_and_val(tmp_path):
    for scene in ("Scene01", "Scene02", "Scene20"):
        write_frame(tmp_path, scene=scene)

    reader = VirtualKitti2(tmp_path)

    assert [files.scene for files in reader.list_samples("train")] == ["Scene02", "Scene20"]
    assert [files.scene for files in reader.list_samples("val")] == ["Scene01"]


def test_a_list_in_the_root_decides_its_split(tmp_path):
    for variation in ("clone", "fog", "rain"):
        write_frame(tmp_path, scene="Scene02", variation=variation)
    lines = [
        f"Scene02/{variation}/frames/rgb/Camera_0/rgb_00007.jpg "
        f"Scene02/{variation}/frames/depth/Camera_0/depth_00007.png"
        for variation in ("rain", "clone")
    ]
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "train.txt").write_text("\n".join(lines) + "\n\n")
    (tmp_path / "splits" / "test.txt").write_text(lines[0] + "\n")

    reader = VirtualKitti2(tmp_path)

    ids = [files.sample_id for files in reader.list_samples("train")]
    assert ids == ["Scene02/clone/Camera_0/00007", "Scene02/rain/Camera_0/00007"]
    assert len(reader.list_samples("test")) == 1
    with pytest.raises(ValueError, match="expected samples of split 'val', got none"):
        reader.list_samples("val")


@pytest.mark.parametrize(
    ("line", "got"),
    [
        ("one two three", r"train\.txt line 1: expected an image and a depth map, got 3 names"),
        ("a.jpg b.png", r"train\.txt line 1: expected SceneXX/.*Camera_X.*got 'a\.jpg'"),
    ],
)
def test_a_list_of_another_form_is_refused(line, got, tmp_path):
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "train.txt").write_text(line)

    with pytest.raises(ValueError, match=got):
        VirtualKitti2(tmp_path).list_samples("train")


def test_an_unknown_split_and_a_missing_root_are_errors(tmp_path):
    with pytest.raises(ValueError, match=r"expected split 'train', 'val' or one listed as test"):
        VirtualKitti2(tmp_path).list_samples("test")
    with pytest.raises(FileNotFoundError, match="expected the folder of a dataset"):
        VirtualKitti2(tmp_path / "misspelt").list_samples("val")


@pytest.mark.parametrize(
    ("stored", "got"),
    [
        (np.zeros((2, 3), np.uint16), "got zeros alone"),
        (np.ones((3, 2), np.uint16), r"expected 2 x 3 \(height x width\), got 3 x 2"),
    ],
)
def test_unusable_depth_names_its_file(stored, got, tmp_path):
    write_frame(tmp_path, stored)
    reader = VirtualKitti2(tmp_path)

    with pytest.raises(ValueError, match=rf"depth_00007\.png: .*{got}"):
        reader.read(reader.list_samples("val")[0])


def test_a_missing_depth_map_names_its_file(tmp_path):
    write_frame(tmp_path)
    (tmp_path / "Scene01/fog/frames/depth/Camera_0/depth_00007.png").unlink()
    reader = VirtualKitti2(tmp_path)

    with pytest.raises(FileNotFoundError, match=r"depth_00007\.png: expected a file"):
        reader.read(reader.list_samples("val")[0])
