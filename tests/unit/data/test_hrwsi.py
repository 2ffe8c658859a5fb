"""HR-WSI's layout, written by hand: disparity in 8 bits, up to scale and shift, with a mask."""

import numpy as np
import pytest
from PIL import Image

from dav2.data.hrwsi import Hrwsi

STORED = np.array([[0, 1, 255], [3, 7, 9]], np.uint8)
MASK = np.array([[255, 255, 255], [0, 1, 0]], np.uint8)


def write_view(root, stored=STORED, mask=MASK, split="train", name="a_1"):
    for kind in ("imgs", "gts", "valid_masks"):
        (root / split / kind).mkdir(parents=True, exist_ok=True)
    image = np.full((2, 3, 3), 110, np.uint8)
    Image.fromarray(image).save(root / split / "imgs" / f"{name}.jpg")
    Image.fromarray(stored).save(root / split / "gts" / f"{name}.png")
    Image.fromarray(mask).save(root / split / "valid_masks" / f"{name}.png")
    return root


def read_only(root):
    reader = Hrwsi(root)
    return reader.read(reader.list_samples("train")[0])


def test_inverse_depth_is_the_stored_value_plus_one(tmp_path):
    sample = read_only(write_view(tmp_path))

    assert sample.valid.tolist() == [[True, True, True], [False, True, False]]
    assert np.allclose(sample.inverse_depth(), [[1, 2, 256], [0, 8, 0]])
    assert np.isfinite(sample.depth).all()
    assert sample.depth.dtype == np.float32
    assert (sample.sky, sample.intrinsics, sample.scale_known) == (None, None, False)


def test_splits_are_folders(tmp_path):
    write_view(tmp_path, name="b")
    write_view(tmp_path)
    write_view(tmp_path, split="val", name="c")

    samples = Hrwsi(tmp_path).list_samples("train")

    assert [files.sample_id for files in samples] == ["train/a_1", "train/b"]
    assert samples[0].scene != samples[1].scene
    assert samples[0].image == "train/imgs/a_1.jpg"
    assert (samples[0].depth, samples[0].extra) == (
        "train/gts/a_1.png",
        ("train/valid_masks/a_1.png",),
    )
    assert len(Hrwsi(tmp_path).list_samples("val")) == 1


def test_unusable_files_are_named(tmp_path):
    for options, message in [
        ({"mask": MASK * 0}, r"gts/a_1\.png: expected depth.*got no usable value in 6 pixels"),
        ({"stored": STORED * 0 + 7}, r"gts/a_1\.png: expected disparity that varies, got 7 alone"),
        ({"stored": STORED.astype(np.uint16)}, r"gts/a_1\.png: .*got 16 bits of colour type 0"),
        ({"mask": MASK.T.copy()}, r"valid_masks/a_1\.png: expected 2 x 3 .*got 3 x 2"),
    ]:
        with pytest.raises(ValueError, match=message):
            read_only(write_view(tmp_path, **options))
    (tmp_path / "train" / "valid_masks" / "a_1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"valid_masks/a_1\.png: expected a file"):
        read_only(tmp_path)


def test_unknown_splits_and_missing_folders_are_errors(tmp_path):
    write_view(tmp_path)
    with pytest.raises(ValueError, match="expected split 'train' or 'val', got 'test'"):
        Hrwsi(tmp_path).list_samples("test")
    with pytest.raises(FileNotFoundError, match="val/imgs: expected the folder of a dataset"):
        Hrwsi(tmp_path).list_samples("val")
    with pytest.raises(FileNotFoundError, match="misspelt: expected the folder of a dataset"):
        Hrwsi(tmp_path / "misspelt").list_samples("train")
    (tmp_path / "train" / "imgs" / "a_1.jpg").unlink()
    with pytest.raises(ValueError, match="expected samples of split 'train', got none"):
        Hrwsi(tmp_path).list_samples("train")
