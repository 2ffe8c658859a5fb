"""Middlebury's two layouts, written by hand: disparity in pixels, known up to one factor."""

import numpy as np
import pytest
from PIL import Image

from dav2.data.middlebury import Middlebury

INF = np.inf
DISPARITY = np.array([[4, 10, INF], [0, 8, 5]], np.float32)


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((2, 3, 3), 40, np.uint8)).save(path)


def write_official(root, disparity=DISPARITY):
    picture(root / "Adirondack" / "im0.png")
    body = disparity[::-1].astype("<f4").tobytes()  # rows from the bottom up
    height, width = disparity.shape
    path = root / "Adirondack" / "disp0.pfm"
    path.write_bytes(f"Pf\n{width} {height}\n-0.003922\n".encode() + body)


def write_small(root, disparity=DISPARITY):
    picture(root / "motorcycle_left.png")
    np.savez_compressed(root / "motorcycle_disp.npz", disparity)


@pytest.mark.parametrize("write", [write_official, write_small])
def test_inverse_depth_is_disparity_in_both_layouts(write, tmp_path):
    write(tmp_path)
    reader = Middlebury(tmp_path)

    (files,) = reader.list_samples("all")
    sample = reader.read(files)

    assert not sample.scale_known
    assert sample.valid.tolist() == [[True, True, False], [False, True, True]]
    assert np.allclose(sample.inverse_depth(), [[4, 10, 0], [0, 8, 5]])
    assert np.allclose(sample.depth[sample.valid], [0.25, 0.1, 0.125, 0.2])
    assert sample.sky is None


def test_both_layouts_are_listed_and_images_without_disparity_left_out(tmp_path):
    write_official(tmp_path)
    write_small(tmp_path)
    picture(tmp_path / "Piano" / "im0.png")
    picture(tmp_path / "Adirondack" / "im1.png")

    ids = [files.sample_id for files in Middlebury(tmp_path).list_samples("all")]

    assert ids == ["Adirondack", "motorcycle"]


@pytest.mark.parametrize("write", [write_official, write_small])
def test_unusable_disparity_names_its_file(write, tmp_path):
    reader = Middlebury(tmp_path)
    write(tmp_path, np.full((2, 3), INF, np.float32))
    with pytest.raises(ValueError, match=r"disp.*expected depth with .*no usable value in 6"):
        reader.read(reader.list_samples("all")[0])
    write(tmp_path, np.ones((3, 2), np.float32))
    with pytest.raises(ValueError, match=r"disp.*expected 2 x 3 .*got 3 x 2"):
        reader.read(reader.list_samples("all")[0])


def test_nothing_to_read_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="expected samples of split 'all', got none"):
        Middlebury(tmp_path).list_samples("all")
    with pytest.raises(ValueError, match="expected split 'all' of Middlebury, got 'test'"):
        Middlebury(tmp_path).list_samples("test")
    with pytest.raises(FileNotFoundError, match="misspelt: expected the folder of a dataset"):
        Middlebury(tmp_path / "misspelt").list_samples("all")
