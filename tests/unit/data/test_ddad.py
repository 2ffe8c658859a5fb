"""The export of DDAD, written by hand: metres where a laser point fell, a camera for each scene."""

import json

import numpy as np
import pytest
from PIL import Image

from dav2.data.ddad import Ddad
from dav2.data.sample import Intrinsics

DEPTH = np.array([[0, 200.5, 0], [3.25, 0, np.nan]], np.float32)
CAMERA = {"fx": 2180, "fy": 2182.5, "cx": 1.25, "cy": 0.75}


def write_frame(root, scene="val/000150", name="15616458296936490", depth=DEPTH, suffix=".npz"):
    folder = root / scene
    (folder / "rgb").mkdir(parents=True, exist_ok=True)
    (folder / "depth").mkdir(exist_ok=True)
    Image.fromarray(np.full((2, 3, 3), 60, np.uint8)).save(folder / "rgb" / f"{name}.png")
    (folder / "intrinsics.json").write_text(json.dumps(CAMERA))
    if suffix == ".npz":
        np.savez_compressed(folder / "depth" / f"{name}.npz", depth=depth)
    elif suffix == ".npy":
        np.save(folder / "depth" / f"{name}.npy", depth)
    return folder


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_a_frame_has_metres_where_a_laser_point_fell(suffix, tmp_path):
    write_frame(tmp_path, suffix=suffix)
    write_frame(tmp_path, "train/000000")
    reader = Ddad(tmp_path)

    (files,) = reader.list_samples("val")
    sample = reader.read(files)

    assert (files.sample_id, files.scene) == ("000150/15616458296936490", "000150")
    assert sample.valid.tolist() == [[False, True, False], [True, False, False]]
    assert sample.depth[sample.valid].tolist() == [200.5, 3.25]
    assert sample.sky is None
    assert sample.scale_known
    assert sample.intrinsics == Intrinsics(2180.0, 2182.5, 1.25, 0.75)


def test_an_image_must_have_one_depth_map(tmp_path):
    write_frame(tmp_path, suffix="")
    with pytest.raises(ValueError, match=r"0\.png: expected one depth map .*\.npy, got none"):
        Ddad(tmp_path).list_samples("val")
    write_frame(tmp_path, suffix=".npz")
    write_frame(tmp_path, suffix=".npy")
    with pytest.raises(ValueError, match=r"0\.png: expected one depth map .*\.npy, got both"):
        Ddad(tmp_path).list_samples("val")


def test_a_split_of_all_scenes_must_have_the_published_number_of_frames(tmp_path):
    for number in range(50):
        write_frame(tmp_path, f"val/{number:06d}", suffix=".npy")

    with pytest.raises(ValueError, match=r"val: expected the 3950 samples of .* got 50"):
        Ddad(tmp_path).list_samples("val")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected a JSON object of the numbers fx, fy, cx and cy"),
        ("[1, 2, 3, 4]", "expected a JSON object"),
        ('{"fx": 1, "fy": 2, "cx": 3}', "expected a JSON object"),
        (json.dumps({**CAMERA, "fx": None}), "expected a JSON object"),
        (json.dumps({**CAMERA, "fx": 10**400}), "expected a JSON object"),
        (json.dumps({**CAMERA, "fx": -1}), "expected a camera of 2 x 3 pixels, got fx -1"),
        (json.dumps({**CAMERA, "cx": 968}), "expected a camera of 2 x 3 pixels, .*cx 968"),
        (json.dumps({**CAMERA, "cy": float("nan")}), "expected a camera of 2 x 3 .*cy nan"),
        (" " * (1 << 16) + "{}", "expected a file of at most 65536 bytes"),
        ("[" * 60_000, "expected a JSON object"),
    ],
)
def test_other_cameras_are_refused(text, message, tmp_path):
    folder = write_frame(tmp_path)
    (folder / "intrinsics.json").write_text(text)
    reader = Ddad(tmp_path)

    with pytest.raises(ValueError, match=rf"intrinsics\.json: {message}"):
        reader.read(reader.list_samples("val")[0])


def test_unusable_depth_names_its_file(tmp_path):
    reader = Ddad(tmp_path)
    write_frame(tmp_path, depth=np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match=r"\.npz: expected depth with .*got zeros alone"):
        reader.read(reader.list_samples("val")[0])
    write_frame(tmp_path, depth=np.ones((3, 2), np.float32))
    with pytest.raises(ValueError, match=r"\.npz: expected 2 x 3 .*got 3 x 2"):
        reader.read(reader.list_samples("val")[0])


def test_nothing_to_read_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="misspelt: expected the folder of a dataset"):
        Ddad(tmp_path / "misspelt").list_samples("val")
    write_frame(tmp_path, "val/000150").rename(tmp_path / "val" / "000150.old")
    with pytest.raises(ValueError, match="expected split 'train' or 'val', got 'test'"):
        Ddad(tmp_path).list_samples("test")
    with pytest.raises(FileNotFoundError, match="train: expected the folder of a dataset"):
        Ddad(tmp_path).list_samples("train")
    (tmp_path / "val" / "000150.old" / "rgb").rename(tmp_path / "val" / "pictures")
    with pytest.raises(ValueError, match="expected samples of split 'val', got none"):
        Ddad(tmp_path).list_samples("val")
