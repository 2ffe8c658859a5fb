"""Predictions paired with images by path: depth, inverse depth or disparity, up to scale or not."""

import jaxtyping
import numpy as np
import pytest
from PIL import Image

from dav2.data.png16 import encode_png16
from dav2.data.predictions import Predictions, PredictionsOptions

VALUES = np.array([[0.5, 4, 0], [np.nan, -1, 2]], np.float32)


def write_image(root, name="a.jpg", folder="images"):
    path = root / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((2, 3, 3), 60, np.uint8)).save(path)


def write_map(root, name="a.npy", values=VALUES, folder="predictions"):
    path = root / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".npy"):
        np.save(path, values)
    elif name.endswith(".npz"):
        np.savez_compressed(path, values)
    else:
        path.write_bytes(encode_png16(values))


def read_only(root, **options):
    reader = Predictions(root, options=PredictionsOptions(**options))
    (files,) = reader.list_samples("all")
    return reader.read(files)


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_inverse_depth_comes_back_and_has_no_scale(name, tmp_path):
    write_image(tmp_path)
    write_map(tmp_path, name)

    sample = read_only(tmp_path)

    assert sample.valid.tolist() == [[True, True, False], [False, False, True]]
    assert sample.depth[sample.valid].tolist() == [2, 0.25, 0.5]
    assert sample.inverse_depth().tolist() == [[0.5, 4, 0], [0, 0, 2]]
    assert not sample.scale_known
    assert sample.sky is None
    assert sample.intrinsics is None
    assert sample.depth.dtype == np.float32


def test_depth_in_millimetres_is_metres(tmp_path):
    write_image(tmp_path, "room/b.png")
    write_map(tmp_path, "room/b.png", np.array([[1500, 0, 250], [1, 65535, 1000]], np.uint16))

    sample = read_only(tmp_path, quantity="depth", values_per_unit=1000, scale_known=True)

    assert (sample.sample_id, sample.scene) == ("room/b", "room")
    assert sample.depth.ravel().tolist() == pytest.approx([1.5, 0, 0.25, 0.001, 65.535, 1])
    assert sample.valid.tolist() == [[True, False, True], [True, True, True]]
    assert sample.scale_known


def test_disparity_is_read_up_to_scale(tmp_path):
    write_image(tmp_path)
    write_map(tmp_path, values=np.array([[10, 20, 0], [5, 40, 1]], np.int32))

    sample = read_only(tmp_path, quantity="disparity")

    assert sample.depth[sample.valid].tolist() == pytest.approx([0.1, 0.05, 0.2, 0.025, 1])
    assert not sample.scale_known


def test_what_float32_cannot_hold_is_not_valid(tmp_path):
    write_image(tmp_path)
    write_map(tmp_path, values=np.array([[1e-300, 1e300, np.inf], [1, 1, 1]], np.float64))

    assert read_only(tmp_path).valid.tolist() == [[False, False, False], [True, True, True]]
    assert read_only(tmp_path, quantity="depth").valid.tolist() == [
        [False, False, False],
        [True, True, True],
    ]


def test_folders_are_paired_by_relative_path(tmp_path):
    for name in ("b.jpg", "x/a.png", "y/a.webp"):
        write_image(tmp_path, name, "photos/val")
    for name in ("b.npz", "x/a.npy", "y/a.npy", "z.npy", "y/.a.npy"):
        write_map(tmp_path, name, folder="out/model")
    (tmp_path / "out" / "model" / "log.txt").write_text("done")
    reader = Predictions(
        tmp_path, options=PredictionsOptions(images="photos/val", maps="out/model")
    )

    samples = reader.list_samples("all")

    assert [(files.sample_id, files.depth) for files in samples] == [
        ("b", "out/model/b.npz"),
        ("x/a", "out/model/x/a.npy"),
        ("y/a", "out/model/y/a.npy"),
    ]
    assert [files.scene for files in samples] == ["", "x", "y"]


def test_an_image_without_a_map_or_with_two_is_an_error(tmp_path):
    write_image(tmp_path, "a.jpg")
    write_image(tmp_path, "b.jpg")
    write_map(tmp_path, "a.npy")
    with pytest.raises(ValueError, match=r"images/b\.jpg: expected a map predictions/b .*got none"):
        Predictions(tmp_path).list_samples("all")
    write_map(tmp_path, "b.npy")
    write_map(tmp_path, "b.npz")
    with pytest.raises(ValueError, match=r"b\.npz: expected one file .*got predictions/b\.npy too"):
        Predictions(tmp_path).list_samples("all")
    write_image(tmp_path, "a.png")
    (tmp_path / "predictions" / "b.npz").unlink()
    with pytest.raises(ValueError, match=r"images/a\.png: .*got images/a\.jpg too"):
        Predictions(tmp_path).list_samples("all")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((4, 6), np.float32), r"a\.npy: expected 2 x 3 float .*got 4 x 6"),
        (np.full((2, 3), np.nan), r"a\.npy: expected depth with .*got NaN alone"),
        (np.zeros((2, 3), bool), r"a\.npy: expected 2 x 3 float or .*got 2 x 3 bool"),
    ],
)
def test_unusable_maps_are_refused(values, message, tmp_path):
    write_image(tmp_path)
    write_map(tmp_path, values=values)

    with pytest.raises(ValueError, match=message):
        read_only(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": ""}, "images: expected text, got ''"),
        ({"images": "a//b"}, "images: expected a folder below the root, got 'a//b'"),
        ({"maps": "../other"}, "maps: expected a folder below the root, got '../other'"),
        ({"maps": "/other"}, "maps: expected a folder below the root, got '/other'"),
        ({"maps": "images"}, "maps: expected another folder than that of images, got images"),
        ({"quantity": "metres"}, "quantity: expected depth or inverse_depth or disparity, got 'm"),
        ({"values_per_unit": 0}, "values_per_unit: expected a number above 0, got 0"),
        ({"values_per_unit": np.inf}, "values_per_unit: expected a number above 0, got inf"),
        ({"values_per_unit": True}, "values_per_unit: expected a number above 0, got True"),
        (
            {"quantity": "disparity", "scale_known": True},
            "scale_known: expected false for disparity",
        ),
    ],
)
def test_other_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        PredictionsOptions(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"maps": ["a"]}, r"maps: expected text, got \['a'\]"),
        ({"values_per_unit": "256"}, "values_per_unit: expected a number above 0, got '256'"),
        ({"scale_known": "yes"}, "scale_known: expected true or false, got 'yes'"),
    ],
)
def test_options_of_another_type_are_refused(options, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as outside of tests

    with pytest.raises(ValueError, match=message):
        PredictionsOptions(**options)


def test_nothing_to_read_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="misspelt: expected the folder of a dataset"):
        Predictions(tmp_path / "misspelt").list_samples("all")
    write_image(tmp_path / "photos")
    with pytest.raises(FileNotFoundError, match="photos/predictions: expected the folder"):
        Predictions(tmp_path / "photos").list_samples("all")
    write_map(tmp_path)
    with pytest.raises(ValueError, match="expected split 'all', got 'test'"):
        Predictions(tmp_path).list_samples("test")
    (tmp_path / "images").mkdir()
    with pytest.raises(ValueError, match="expected samples of split 'all', got none"):
        Predictions(tmp_path).list_samples("all")


def test_a_value_next_to_nothing_is_no_depth(tmp_path):
    write_image(tmp_path)
    write_map(tmp_path, values=np.array([[5e-324, 1, 2], [1, 1, 4]]))

    assert read_only(tmp_path).valid.tolist() == [[False, True, True], [True, True, True]]
