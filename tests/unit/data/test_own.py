"""A folder of one's own: every kind, unit and format becomes metres, or a message says why not."""

import numpy as np
import OpenEXR
import pytest
from PIL import Image

from dav2.data.own import OwnFolder
from dav2.data.own_options import OwnOptions
from dav2.data.png16 import encode_png16

NAN, INF = float("nan"), float("inf")
SIZE = (2, 3)
STORED = np.array([[1000, 2500, 0], [65535, 500, 4000]], np.uint16)
CAMERA = {"intrinsics": [2, 2, 1.5, 1.0], "image_size": [2, 3]}
MILLIMETRES = {"kind": "depth", "scale": 0.001}
FOLDERS = {"images": "rgb/{frame}.jpg", "depth": "depth/{frame}.png"}


def picture(path, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 50, np.uint8)).save(path)


def write_map(path, values=STORED):
    path.parent.mkdir(parents=True, exist_ok=True)
    match path.suffix:
        case ".png":
            path.write_bytes(encode_png16(values.astype(np.uint16)))
        case ".npy":
            np.save(path, values)
        case ".npz":
            np.savez(path, values)
        case ".pfm":
            height, width = values.shape
            body = values[::-1].astype("<f4").tobytes()
            path.write_bytes(f"Pf\n{width} {height}\n-1\n".encode() + body)
        case ".exr":
            OpenEXR.File({}, {"Z": values.astype(np.float32)}).write(str(path))


def read_map(root, values, suffix=".npy", **options):
    picture(root / "rgb" / "a.jpg", values.shape)
    write_map(root / "depth" / f"a{suffix}", values)
    names = {"images": "rgb/{frame}.jpg", "depth": "depth/{frame}" + suffix}
    reader = OwnFolder(
        root, options=OwnOptions(**{"kind": "depth", "scale": 1, **names, **options})
    )
    return reader.read(reader.list_samples("all")[0])


def test_millimetres_in_png_are_metres(tmp_path):
    sample = read_map(tmp_path, STORED, ".png", scale=0.001, invalid=[65535])

    assert sample.valid.tolist() == [[True, True, False], [False, True, True]]
    assert np.allclose(sample.depth[sample.valid], [1, 2.5, 0.5, 4])
    assert np.isnan(sample.depth[~sample.valid]).all()
    assert sample.depth.dtype == np.float32
    assert (sample.sky, sample.intrinsics, sample.scale_known) == (None, None, True)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".exr", ".pfm"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_floats_are_read_from_every_format(suffix, dtype, tmp_path):
    values = np.array([[1.5, NAN, -1], [0, INF, 8]], dtype)

    sample = read_map(tmp_path, values, suffix)

    assert sample.valid.tolist() == [[True, False, False], [False, False, True]]
    assert sample.depth[sample.valid].tolist() == [1.5, 8]


def test_distance_along_the_ray_becomes_depth(tmp_path):
    # f = 2, centre (1.5, 1): pixel centres lie at x = -0.5, 0, 0.5 and y = -0.25, 0.25.
    x, y = np.meshgrid([-0.5, 0, 0.5], [-0.25, 0.25])

    sample = read_map(tmp_path, 3 * np.sqrt(1 + x**2 + y**2), kind="distance", **CAMERA)

    assert np.allclose(sample.depth, 3, rtol=1e-6)
    camera = sample.intrinsics
    assert (camera.fx_px, camera.fy_px, camera.cx_px, camera.cy_px) == (2, 2, 1.5, 1)


def test_inverse_depth_is_inverted(tmp_path):
    values = np.array([[0.5, 4, 0]], np.float32)

    sample = read_map(tmp_path, values, kind="inverse_depth", scale=0.5, scale_known=False)

    assert sample.depth[0, :2].tolist() == [4, 0.5]
    assert sample.valid.tolist() == [[True, True, False]]
    assert not sample.scale_known


def test_disparity_becomes_metres_by_baseline_and_focal_length(tmp_path):
    values = np.array([[256, 512, 0], [0, 0, 0]], np.uint16)

    metric = read_map(tmp_path, values, kind="disparity", scale=1 / 256, baseline_m=0.5, **CAMERA)
    relative = read_map(tmp_path, values, kind="disparity", scale=1 / 256, scale_known=False)

    assert metric.depth[0, :2].tolist() == [1, 0.5]  # 2 px * 0.5 m / 1 px
    assert metric.scale_known
    assert relative.depth[0, :2].tolist() == [1, 0.5]  # 1 / 1 px, in whatever unit
    assert not relative.scale_known


@pytest.mark.parametrize(
    ("options", "sky"),
    [
        ({"sky_value": 100}, [False, True, False, False]),
        ({"sky_value": INF}, [False, False, False, True]),
        ({"sky_from": 100}, [False, True, True, True]),
        ({"sky_from": 100, "invalid": [INF]}, [False, True, True, False]),
        ({"kind": "inverse_depth", "sky_from": 2}, [True, False, False, False]),
    ],
)
def test_sky_is_a_value_or_what_lies_beyond(options, sky, tmp_path):
    values = np.array([[2, 100, 150, INF]], np.float32)

    sample = read_map(tmp_path, values, **options)

    assert sample.sky.tolist() == [sky]
    assert np.isposinf(sample.depth[sample.sky]).all()
    assert sample.valid[sample.sky].all()
    assert np.isfinite(sample.depth[sample.valid & ~sample.sky]).all()


def test_values_that_leave_float32_are_not_valid(tmp_path):
    values = np.array([[1e300, 1e-300, 2]])

    assert read_map(tmp_path, values).valid.tolist() == [[False, False, True]]
    assert read_map(tmp_path, values, kind="inverse_depth").valid.tolist() == [[False, False, True]]


def test_maps_beside_images_are_no_images(tmp_path):
    for name in ("kitchen/1", "kitchen/2", "hall/1"):
        picture(tmp_path / f"{name}.png")
        write_map(tmp_path / f"{name}_depth.png")
    options = OwnOptions(**MILLIMETRES, images="{scene}/{f}.png", depth="{scene}/{f}_depth.png")

    samples = OwnFolder(tmp_path, options=options).list_samples("all")

    assert [files.sample_id for files in samples] == ["hall/1", "kitchen/1", "kitchen/2"]
    assert [files.scene for files in samples] == ["hall", "kitchen", "kitchen"]
    assert samples[0].depth == "hall/1_depth.png"
    assert OwnFolder(tmp_path, options=options).read(samples[0]).depth[0, 0] == 1


def test_folders_may_be_splits(tmp_path):
    for split in ("train", "val"):
        picture(tmp_path / split / "rgb" / "x" / "1.jpg")
        write_map(tmp_path / split / "depth" / "x" / "1.png")
    options = OwnOptions(
        **MILLIMETRES, images="{split}/rgb/{path}.jpg", depth="{split}/depth/{path}.png"
    )
    reader = OwnFolder(tmp_path, options=options)

    (files,) = reader.list_samples("val")

    assert (files.image, files.scene) == ("val/rgb/x/1.jpg", "val/rgb/x")
    assert [other.image for other in reader.list_samples("train")] == ["train/rgb/x/1.jpg"]
    with pytest.raises(ValueError, match="expected split 'train' or 'val', got 'test'"):
        reader.list_samples("test")


def write_three(root):
    for name in "abc":
        picture(root / "rgb" / f"{name}.jpg")
        write_map(root / "depth" / f"{name}.png")


def test_lists_split_what_the_templates_find(tmp_path):
    write_three(tmp_path)
    (tmp_path / "train.txt").write_text("rgb/c.jpg\n\nrgb/a\n")
    options = OwnOptions(**MILLIMETRES, **FOLDERS, split_lists={"train": "train.txt"})
    reader = OwnFolder(tmp_path, options=options)

    assert [files.sample_id for files in reader.list_samples("train")] == ["rgb/a", "rgb/c"]
    with pytest.raises(ValueError, match="expected split 'train', got 'val'"):
        reader.list_samples("val")
    for text, message in [
        ("rgb/d.jpg", r"line 1: expected one of the 3 images named rgb/\{frame\}\.jpg, got 'rgb/d"),
        ("rgb/a\nrgb/a.jpg", "line 2: expected every sample once, got 'rgb/a' again"),
    ]:
        (tmp_path / "train.txt").write_text(text)
        with pytest.raises(ValueError, match=rf"train\.txt {message}"):
            reader.list_samples("train")
    (tmp_path / "train.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"train\.txt: expected a split list"):
        reader.list_samples("train")


def test_lists_of_pairs_need_no_templates(tmp_path):
    write_three(tmp_path)
    options = OwnOptions(**MILLIMETRES, split_lists={"val": "val.txt"})
    reader = OwnFolder(tmp_path, options=options)
    (tmp_path / "val.txt").write_text("rgb/b.jpg depth/c.png 518.8\nrgb/a.jpg depth/a.png\n")

    samples = reader.list_samples("val")

    assert [(files.image, files.depth, files.scene) for files in samples] == [
        ("rgb/a.jpg", "depth/a.png", "rgb"),
        ("rgb/b.jpg", "depth/c.png", "rgb"),
    ]
    for text, message in [
        ("rgb/a.jpg", "line 1: expected an image and its depth map, got 1 names"),
        ("/data/a.jpg depth/a.png", "line 1: expected a path relative to the root, got '/data/a"),
        ("rgb/a.jpg depth/a.tiff", r"line 1: expected a depth map \.png.*, got 'depth/a\.tiff'"),
        ("a.jpg a.png\na.png a.npy", "line 2: expected every sample once, got 'a' again"),
    ]:
        (tmp_path / "val.txt").write_text(text)
        with pytest.raises(ValueError, match=rf"val\.txt {message}"):
            reader.list_samples("val")


def test_images_without_depth_are_refused_or_left_out_aloud(tmp_path, caplog):
    write_three(tmp_path)
    (tmp_path / "depth" / "b.png").unlink()
    with pytest.raises(
        ValueError,
        match=r"expected depth/\{frame\}\.png for each of 3 images, got none for 1: rgb/b\.jpg; "
        "skip_images_without_depth leaves them out",
    ):
        OwnFolder(tmp_path, options=OwnOptions(**MILLIMETRES, **FOLDERS)).list_samples("all")

    options = OwnOptions(**MILLIMETRES, **FOLDERS, skip_images_without_depth=True)
    samples = OwnFolder(tmp_path, options=options).list_samples("all")

    assert [files.sample_id for files in samples] == ["rgb/a", "rgb/c"]
    assert "1 of 3 images have no depth map and are left out" in caplog.text


def test_templates_that_find_nothing_show_what_there_is(tmp_path):
    picture(tmp_path / "RGB" / "1.png")
    options = OwnOptions(**MILLIMETRES, **FOLDERS)
    with pytest.raises(
        ValueError, match=r"images named rgb/\{frame\}\.jpg, got none among 1 files: RGB/1\.png"
    ):
        OwnFolder(tmp_path, options=options).list_samples("all")
    with pytest.raises(FileNotFoundError, match="expected the folder of a dataset"):
        OwnFolder(tmp_path / "misspelt", options=options).list_samples("all")


def test_what_is_not_stated_is_asked_for(tmp_path):
    write_three(tmp_path)
    with pytest.raises(ValueError, match=r"got no kind \(depth, .*; scale \(.*; images and depth"):
        OwnFolder(tmp_path).list_samples("all")
    with pytest.raises(ValueError, match=r"got no scale \(stored value times this is metres"):
        OwnFolder(tmp_path, options=OwnOptions(kind="depth", **FOLDERS)).list_samples("all")


def test_unusable_maps_name_their_file(tmp_path):
    picture(tmp_path / "rgb" / "a.jpg")
    reader = OwnFolder(tmp_path, options=OwnOptions(**MILLIMETRES, **FOLDERS))
    write_map(tmp_path / "depth" / "a.png")
    (files,) = reader.list_samples("all")
    for values, message in [
        (np.zeros(SIZE), "expected depth.*got zeros alone"),
        (np.ones((3, 2)), r"expected 2 x 3 \(height x width\), got 3 x 2"),
    ]:
        write_map(tmp_path / "depth" / "a.png", values)
        with pytest.raises(ValueError, match=rf"a\.png: {message}"):
            reader.read(files)
    picture(tmp_path / "depth" / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: expected a 16-bit greyscale PNG.*got 8 bits"):
        reader.read(files)
    (tmp_path / "depth" / "a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.png: expected a file"):
        reader.read(files)


def test_images_of_another_size_than_the_camera_are_refused(tmp_path):
    options = {"intrinsics": [2, 2, 1.5, 1], "image_size": [3, 2]}
    with pytest.raises(ValueError, match=r"a\.jpg: expected 3 x 2 .*intrinsics.*got 2 x 3"):
        read_map(tmp_path, np.ones(SIZE), **options)


def test_channels_of_openexr_are_chosen_by_name(tmp_path):
    picture(tmp_path / "rgb" / "a.jpg")
    (tmp_path / "depth").mkdir()
    channels = {"A": np.ones(SIZE, np.float32), "V": np.full(SIZE, 7, np.float32)}
    OpenEXR.File({}, channels).write(str(tmp_path / "depth" / "a.exr"))
    names = {"images": "rgb/{frame}.jpg", "depth": "depth/{frame}.exr"}
    for channel, expected in (("V", 7), ("A", 1)):
        options = OwnOptions(kind="depth", scale=1, **names, exr_channel=channel)
        reader = OwnFolder(tmp_path, options=options)
        assert (reader.read(reader.list_samples("all")[0]).depth == expected).all()
