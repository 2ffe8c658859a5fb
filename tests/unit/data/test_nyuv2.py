"""NYU's labelled file and BTS's folders, written by hand: metres, zero where nothing was seen."""

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from dav2.data.nyuv2 import Nyuv2, Nyuv2Options
from dav2.data.png16 import encode_png16

HEIGHT, WIDTH, NUM = 6, 10, 4
SCENES = ["kitchen_0004", "bedroom_0010", "office_0001a", "study_0002"]
FILE = "nyu_depth_v2_labeled.mat"


def stored_arrays(num=NUM, height=HEIGHT, width=WIDTH):
    """Image i shows row, column and i in its channels; depth is i + row + column / 16 metres."""
    number, column, row = np.indices((num, width, height))
    images = np.stack([row, column, number], axis=1).astype(np.uint8)
    measured = (number + row + column / 16).astype(np.float32)  # 0 at the corner of the first
    return {"images": images, "rawDepths": measured, "depths": measured + np.float32(0.5)}


def write_labelled(root, arrays=None, scenes=SCENES, splits=None):
    root.mkdir(exist_ok=True)
    with h5py.File(root / FILE, "w", userblock_size=512) as file:
        for key, values in (arrays or stored_arrays()).items():
            file[key] = values
        for name in set(scenes):
            file[f"#refs#/{name}"] = np.array([[ord(unit)] for unit in name], np.uint16)
        names = {name: file[f"#refs#/{name}"].ref for name in set(scenes)}
        references = [[names[name] for name in scenes]]
        file.create_dataset("scenes", data=references, dtype=h5py.ref_dtype)
    splits = splits or {"trainNdxs": [[1], [4]], "testNdxs": [[3], [2]]}
    savemat(root / "splits.mat", splits, do_compression=True)
    return root


def write_view(root, stored, folder="official_splits/test/kitchen", number="00045"):
    folder = root / folder
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*stored.shape, 3), 90, np.uint8)).save(folder / f"rgb_{number}.jpg")
    (folder / f"sync_depth_{number}.png").write_bytes(encode_png16(stored.astype(np.uint16)))


def test_splits_number_the_labelled_images_from_one(tmp_path):
    reader = Nyuv2(write_labelled(tmp_path))

    test, train = reader.list_samples("test"), reader.list_samples("train")

    assert [files.sample_id for files in test] == ["0002", "0003"]
    assert [files.scene for files in test] == ["bedroom_0010", "office_0001a"]
    assert [files.sample_id for files in train] == ["0001", "0004"]
    assert test[0].image == f"{FILE}#images/2"
    assert test[0].depth == f"{FILE}#rawDepths/2"


def test_a_labelled_image_and_its_metres_are_turned_upright(tmp_path):
    reader = Nyuv2(write_labelled(tmp_path))

    sample = reader.read(reader.list_samples("test")[1])

    assert sample.image.shape == (HEIGHT, WIDTH, 3)
    assert sample.image[5, 9].tolist() == [5, 9, 2]
    assert sample.depth[5, 8] == 7.5
    assert sample.depth.dtype == np.float32
    assert sample.valid.all()
    assert sample.sky is None
    assert sample.intrinsics is None  # not the published size
    assert sample.scale_known


def test_zero_is_a_hole_that_in_painted_depth_fills(tmp_path):
    write_labelled(tmp_path)
    measured = Nyuv2(tmp_path)
    filled = Nyuv2(tmp_path, options=Nyuv2Options(depth="filled"))

    with_hole = measured.read(measured.list_samples("train")[0])
    without = filled.read(filled.list_samples("train")[0])

    assert (~with_hole.valid).nonzero() == (np.array([0]), np.array([0]))
    assert without.valid.all()
    assert without.depth[0, 0] == 0.5


def test_hashes_are_made_of_one_array_not_of_the_file(tmp_path):
    reader = Nyuv2(write_labelled(tmp_path))
    (files, _) = reader.list_samples("test")

    image = np.frombuffer(reader.read_bytes(files.image), np.uint8)
    depth = np.frombuffer(reader.read_bytes(files.depth), np.float32)

    assert (image.reshape(HEIGHT, WIDTH, 3) == reader.read_image(files)).all()
    assert (depth.reshape(HEIGHT, WIDTH) == reader.read(files).depth).all()


def test_the_published_size_has_the_published_camera(tmp_path):
    arrays = stored_arrays(1, 480, 640)
    reader = Nyuv2(write_labelled(tmp_path, arrays, SCENES[:1], {"testNdxs": [[1]]}))

    camera = reader.read(reader.list_samples("test")[0]).intrinsics

    assert (camera.fx_px, camera.fy_px) == (518.8579, 519.46961)
    assert (camera.cx_px, camera.cy_px) == pytest.approx((325.08245, 253.23617))


def test_folders_hold_millimetres(tmp_path):
    write_view(tmp_path, np.array([[0, 1500, 65535]]))
    write_view(tmp_path, np.ones((2, 3)), folder="official_splits/train/office", number="00001")
    write_view(tmp_path, np.ones((2, 3)), folder="official_splits/test/kitchen/dense")
    reader = Nyuv2(tmp_path)

    (files,) = reader.list_samples("test")
    sample = reader.read(files)

    assert (files.sample_id, files.scene) == ("kitchen/00045", "kitchen")
    assert sample.depth[0].tolist() == pytest.approx([0, 1.5, 65.535])
    assert sample.valid.tolist() == [[False, True, True]]
    assert len(reader.read_bytes(files.image)) == (tmp_path / files.image).stat().st_size


def test_all_images_must_have_the_published_split(tmp_path):
    arrays = stored_arrays(1449, 1, 1)
    lists = {"trainNdxs": np.arange(1, 796)[:, None], "testNdxs": np.arange(796, 1450)[:, None]}
    reader = Nyuv2(write_labelled(tmp_path, arrays, ["a"] * 1449, lists))
    assert len(reader.list_samples("test")) == 654

    write_labelled(tmp_path, arrays, ["a"] * 1449, {**lists, "testNdxs": [[3]]})
    with pytest.raises(ValueError, match="expected the 654 samples of the published split 'test'"):
        reader.list_samples("test")


@pytest.mark.parametrize(
    ("arrays", "got"),
    [
        ({"images": np.zeros((4, 10, 6, 3), np.uint8)}, "images of 4 x 10 x 6 x 3 uint8 values"),
        ({"images": np.zeros((4, 3, 10, 6), np.float32)}, "images of 4 x 3 x 10 x 6 float32"),
        ({"rawDepths": np.ones((4, 10, 6), np.int16)}, "rawDepths of 4 x 10 x 6 int16 values"),
        ({"rawDepths": np.ones((1, 10, 6), np.float32)}, "1 rawDepths, none of number 2"),
        ({"images": np.zeros((4, 3, 100, 60), np.uint8)}, "100 x 60 pixels; 1 to 1000 are"),
    ],
)
def test_other_arrays_are_refused_before_they_are_read(arrays, got, tmp_path):
    write_labelled(tmp_path, {**stored_arrays(), **arrays})
    reader = Nyuv2(tmp_path, max_pixels=1000)

    with pytest.raises(ValueError, match=f"mat: expected NYU's labelled images, got {got}"):
        reader.read(reader.list_samples("test")[0])


def test_depth_that_does_not_fit_the_image_is_refused(tmp_path):
    write_labelled(tmp_path, {**stored_arrays(), "rawDepths": np.ones((4, 6, 10), np.float32)})
    reader = Nyuv2(tmp_path)
    with pytest.raises(ValueError, match=r"rawDepths/2: expected 6 x 10 values.*got 10 x 6"):
        reader.read(reader.list_samples("test")[0])

    write_labelled(tmp_path, {**stored_arrays(), "rawDepths": np.zeros((4, 10, 6), np.float32)})
    with pytest.raises(ValueError, match=r"expected depth with .* measured .*got zeros alone"):
        reader.read(reader.list_samples("test")[0])


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"trainNdxs": [[1]]}, "lists images as testNdxs, got something else or damaged"),
        ({"testNdxs": [[1, 2], [3, 4]]}, "lists images as testNdxs, got no list"),
        ({"testNdxs": [[1.5]]}, "got no whole numbers"),
        ({"testNdxs": [[2], [2]]}, "got an image twice"),
        ({"testNdxs": [[5]]}, "expected numbers of images from 1 to 4, got 5"),
        ({"testNdxs": [["a"]]}, "got no whole numbers"),
    ],
)
def test_other_split_lists_are_refused(splits, message, tmp_path):
    write_labelled(tmp_path, splits=splits)

    with pytest.raises(ValueError, match=rf"splits\.mat: .*{message}"):
        Nyuv2(tmp_path).list_samples("test")


def test_damaged_files_are_refused_in_one_line(tmp_path):
    reader = Nyuv2(write_labelled(tmp_path))
    files = reader.list_samples("test")[0]
    whole = (tmp_path / FILE).read_bytes()
    for damaged in (b"", whole[:700], whole[: len(whole) // 2], b"\0" * 2000):
        (tmp_path / FILE).write_bytes(damaged)
        with pytest.raises(ValueError, match=r"mat: expected a whole MATLAB v7\.3 \(HDF5\) file"):
            reader.read(files)
    (tmp_path / FILE).write_bytes(whole)
    lists = (tmp_path / "splits.mat").read_bytes()
    for end in range(0, len(lists), 7):
        (tmp_path / "splits.mat").write_bytes(lists[:end])
        with pytest.raises(ValueError, match=r"splits\.mat: expected a MATLAB v5 file"):
            reader.list_samples("test")


def test_missing_scenes_and_unknown_parts_are_refused(tmp_path):
    reader = Nyuv2(write_labelled(tmp_path, scenes=SCENES[:3]))
    with pytest.raises(ValueError, match=r"got scenes of shape \(1, 3\) for 4 images"):
        reader.list_samples("test")
    with pytest.raises(ValueError, match=r"expected images/<number>, .*got another part"):
        reader.read_bytes(f"{FILE}#labels/1")
    write_labelled(tmp_path, scenes=["a" * 300] * 4)
    with pytest.raises(ValueError, match="got a scene named by 300 uint16 values"):
        reader.list_samples("test")
    with h5py.File(tmp_path / FILE, "a") as file:
        del file["scenes"], file["rawDepths"]
    with pytest.raises(ValueError, match="got no arrays images and scenes"):
        reader.list_samples("test")
    with pytest.raises(ValueError, match="got no array rawDepths"):
        reader.read_bytes(f"{FILE}#rawDepths/1")


def test_nothing_to_read_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected the folder of a dataset"):
        Nyuv2(tmp_path / "misspelt").list_samples("test")
    with pytest.raises(ValueError, match="expected split 'train' or 'test', got 'val'"):
        Nyuv2(tmp_path).list_samples("val")
    with pytest.raises(ValueError, match="expected samples of split 'test', got none"):
        Nyuv2(tmp_path).list_samples("test")
    with pytest.raises(ValueError, match="for in-painted depth, got none"):
        Nyuv2(tmp_path, options=Nyuv2Options(depth="filled")).list_samples("test")
    with pytest.raises(ValueError, match="depth: expected 'measured' or 'filled', got 'raw'"):
        Nyuv2Options(depth="raw")
    with pytest.raises(FileNotFoundError, match=r"mat: expected a file, got nothing there"):
        Nyuv2(tmp_path).read_bytes(f"{FILE}#images/1")
