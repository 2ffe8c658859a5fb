"""DIML's sample release, written by hand: millimetres, outdoors with a confidence."""

import numpy as np
import pytest
from PIL import Image

from dav2.data.diml import Diml, DimlOptions
from dav2.data.png16 import encode_png16

STORED = np.array([[1500, 0, 65501], [2, 65500, 713]], np.uint16)
CONFIDENCE = np.array([[255, 255, 255], [127, 128, 0]], np.uint8)


def write(root, image, depth, stored=STORED):
    for name in (image, depth):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((2, 3, 3), 100, np.uint8)).save(root / image)
    (root / depth).write_bytes(encode_png16(stored))
    return root


def write_indoor(root, scene="indoor/test/HR/3", name="in_k_01", **values):
    depth = f"{scene}/depth_filled/{name}_depth_filled.png"
    return write(root, f"{scene}/color/{name}_c.png", depth, **values)


def write_outdoor(root, scene="outdoor/train/HR", name="0001", **values):
    (root / scene / "confidencemap").mkdir(parents=True, exist_ok=True)
    Image.fromarray(CONFIDENCE).save(root / scene / "confidencemap" / f"{name}.png")
    return write(root, f"{scene}/outleft/{name}.png", f"{scene}/depthmap/{name}.png", **values)


def read_only(root, split, **options):
    reader = Diml(root, options=DimlOptions(**options))
    (files,) = reader.list_samples(split)
    return reader.read(files)


def test_millimetres_are_metres_indoors(tmp_path):
    sample = read_only(write_indoor(tmp_path), "indoor_test")

    assert sample.valid.tolist() == [[True, False, False], [True, True, True]]
    assert np.allclose(sample.depth[sample.valid], [1.5, 0.002, 65.5, 0.713])
    assert sample.depth.dtype == np.float32
    assert (sample.sky, sample.intrinsics, sample.scale_known) == (None, None, True)
    assert (sample.sample_id, sample.scene) == ("indoor/test/HR/3/in_k_01", "indoor/test/HR/3")


def test_depth_outdoors_counts_where_it_is_sure_enough(tmp_path):
    write_outdoor(tmp_path)

    everything = read_only(tmp_path, "outdoor_train")
    sure = read_only(tmp_path, "outdoor_train", min_confidence=128)

    assert everything.valid.tolist() == [[True, False, False], [True, True, True]]
    assert sure.valid.tolist() == [[True, False, False], [False, True, False]]


def test_splits_and_resolutions_are_folders(tmp_path):
    write_outdoor(tmp_path, name="2")
    write_outdoor(tmp_path, name="1")
    write_outdoor(tmp_path, scene="outdoor/train/LR", name="3")
    write_outdoor(tmp_path, scene="outdoor/test/HR", name="4")

    (small,) = Diml(tmp_path, options=DimlOptions(resolution="LR")).list_samples("outdoor_train")
    large = Diml(tmp_path, options=DimlOptions(min_confidence=1)).list_samples("outdoor_train")

    assert (small.image, small.extra) == ("outdoor/train/LR/outleft/3.png", ())
    assert [files.sample_id for files in large] == ["outdoor/train/HR/1", "outdoor/train/HR/2"]
    assert large[0].depth == "outdoor/train/HR/depthmap/1.png"
    assert large[0].extra == ("outdoor/train/HR/confidencemap/1.png",)


def test_unusable_files_are_named(tmp_path):
    for stored, message in [
        (STORED * 0, "expected depth.*got zeros alone"),
        (np.ones((3, 2), np.uint16), r"expected 2 x 3 \(height x width\), got 3 x 2"),
    ]:
        write_indoor(tmp_path, stored=stored)
        with pytest.raises(ValueError, match=rf"in_k_01_depth_filled\.png: {message}"):
            read_only(tmp_path, "indoor_test")
    write_outdoor(tmp_path)
    (tmp_path / "outdoor/train/HR/confidencemap/0001.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"confidencemap/0001\.png: expected a file"):
        read_only(tmp_path, "outdoor_train", min_confidence=1)


def test_unknown_splits_folders_and_options_are_errors(tmp_path):
    write_indoor(tmp_path)
    with pytest.raises(ValueError, match=r"expected split 'indoor_train' or .*, got 'train'"):
        Diml(tmp_path).list_samples("train")
    with pytest.raises(FileNotFoundError, match="outdoor/test/HR: expected the folder of a datase"):
        Diml(tmp_path).list_samples("outdoor_test")
    with pytest.raises(FileNotFoundError, match="misspelt: expected the folder of a dataset"):
        Diml(tmp_path / "misspelt").list_samples("indoor_test")
    (tmp_path / "indoor/test/HR/3/color/in_k_01_c.png").unlink()
    with pytest.raises(ValueError, match="expected samples of split 'indoor_test', got none"):
        Diml(tmp_path).list_samples("indoor_test")
    with pytest.raises(ValueError, match="resolution: expected 'HR' or 'LR', got 'MR'"):
        DimlOptions(resolution="MR")
    with pytest.raises(ValueError, match="min_confidence: expected a number above 0, got 0"):
        DimlOptions(min_confidence=0)
