"""MegaDepth's layout, written by hand: depth in HDF5, in a unit of each reconstruction's own."""

import h5py
import numpy as np
import pytest
from PIL import Image

from dav2.data.megadepth import MegaDepth, MegaDepthOptions

DEPTH = np.array([[0.5, 2, 0], [4, np.inf, np.nan]], np.float32)
FOLDER = "0012/dense0"


def write_view(root, depth=DEPTH, folder=FOLDER, name="7_o.jpg", key="depth"):
    for kind in ("imgs", "depths"):
        (root / folder / kind).mkdir(parents=True, exist_ok=True)
    path = root / folder / "imgs" / name
    Image.fromarray(np.full((2, 3, 3), 130, np.uint8)).save(path, "JPEG")
    with h5py.File(root / folder / "depths" / f"{path.stem}.h5", "w") as file:
        file.create_dataset(key, data=depth)
    return root


def read_only(root):
    reader = MegaDepth(root)
    (files,) = reader.list_samples("all")
    return reader.read(files)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_depth_has_a_unit_of_its_own(dtype, tmp_path):
    sample = read_only(write_view(tmp_path, DEPTH.astype(dtype)))

    assert sample.valid.tolist() == [[True, True, False], [True, False, False]]
    assert sample.depth[sample.valid].tolist() == [0.5, 2, 4]
    assert sample.depth.dtype == np.float32
    assert (sample.sky, sample.intrinsics, sample.scale_known) == (None, None, False)


def test_images_of_every_reconstruction_are_listed(tmp_path):
    write_view(tmp_path, folder="0012/dense1")
    write_view(tmp_path, name="8_o.JPG")
    write_view(tmp_path, folder="phoenix/0001/dense0")
    (tmp_path / FOLDER / "imgs" / "list.txt").write_text("")

    samples = MegaDepth(tmp_path).list_samples("all")

    assert [files.sample_id for files in samples] == [
        "0012/dense0/8_o.JPG",
        "0012/dense1/7_o.jpg",
        "phoenix/0001/dense0/7_o.jpg",
    ]
    assert [files.scene for files in samples] == ["0012", "0012", "0001"]
    assert samples[0].image == "0012/dense0/imgs/8_o.JPG"
    assert samples[0].depth == "0012/dense0/depths/8_o.h5"


def test_a_list_chooses_the_images(tmp_path):
    for name in ("1.jpg", "2.jpg"):
        write_view(tmp_path, name=name)
    path = tmp_path / "mine.txt"
    reader = MegaDepth(tmp_path, options=MegaDepthOptions(image_list="mine.txt"))

    path.write_text(f"{FOLDER}/imgs/2.jpg\n{FOLDER}/imgs/2.jpg\n")
    assert [files.sample_id for files in reader.list_samples("all")] == [f"{FOLDER}/2.jpg"]
    path.write_text(f"{FOLDER}/imgs/3.jpg\n")
    with pytest.raises(
        ValueError, match=r"mine\.txt line 1: expected one of the 2 images as .*3\.j"
    ):
        reader.list_samples("all")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"mine\.txt: expected a split list"):
        reader.list_samples("all")


def test_an_order_of_near_and_far_is_no_depth(tmp_path):
    with pytest.raises(
        ValueError, match=r"7_o\.h5: expected depth, got values below 0, which mark"
    ):
        read_only(write_view(tmp_path, np.where(DEPTH == 2, np.float32(-1), DEPTH)))


def test_unusable_files_are_named(tmp_path):
    for options, message in [
        ({"depth": np.zeros((2, 3), np.float32)}, "expected depth.*got zeros alone"),
        ({"depth": np.ones((3, 2), np.float32)}, "expected 2 x 3 float values.*got 3 x 2"),
        ({"depth": np.ones((2, 3), np.int32)}, "expected 2 x 3 float values.*int32"),
        ({"key": "z"}, "expected an array under the key 'depth', got "),
    ]:
        with pytest.raises(ValueError, match=rf"7_o\.h5: {message}"):
            read_only(write_view(tmp_path, **options))
    (tmp_path / FOLDER / "depths" / "7_o.h5").unlink()
    with pytest.raises(FileNotFoundError, match=r"7_o\.h5: expected a file"):
        read_only(tmp_path)


def test_unknown_splits_and_missing_roots_are_errors(tmp_path):
    with pytest.raises(ValueError, match="expected split 'all', got 'train'"):
        MegaDepth(tmp_path).list_samples("train")
    with pytest.raises(ValueError, match="expected samples of split 'all', got none"):
        MegaDepth(tmp_path).list_samples("all")
    with pytest.raises(FileNotFoundError, match="expected the folder of a dataset"):
        MegaDepth(tmp_path / "misspelt").list_samples("all")
    with pytest.raises(ValueError, match="image_list: expected text, got ''"):
        MegaDepthOptions(image_list="")
