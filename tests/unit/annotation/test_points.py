"""Points of objects, and points scattered over smooth parts."""

import numpy as np
import pytest
from PIL import Image

from dav2.annotation.points import deepest, mask_points, scattered_points

SIZE = (20, 30)


def save(path, values, dtype=np.uint8):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(dtype)).save(path)


def two_objects() -> np.ndarray:
    labels = np.zeros(SIZE)
    labels[2:11, 3:12] = 1  # centre 6, 7
    labels[0:20, 20:30] = 300  # up to the border
    labels[15, 1] = 2  # too small
    return labels


def test_each_object_of_a_label_image_gives_its_deepest_point(tmp_path):
    save(tmp_path / "street" / "a.png", two_objects(), np.uint16)
    points = mask_points(tmp_path, "street/a.jpg", size=SIZE, min_area=0.01)
    assert points[1].tolist() == [6, 7]
    row, column = points[0]
    assert 4 <= row <= 15  # as far from the image's border as from the object's
    assert 24 <= column <= 25
    assert len(points) == 2


def test_single_masks_give_the_point_they_were_found_by(tmp_path):
    labels = two_objects()
    save(tmp_path / "a" / "0.png", 255 * (labels == 1))
    save(tmp_path / "a" / "1.png", 255 * (labels == 300))
    header = "id,area,point_input_x,point_input_y\n"
    (tmp_path / "a" / "metadata.csv").write_text(header + "0,81,4.6,9.2\n1,200,0.0,0.0\n")
    points = mask_points(tmp_path, "a.jpg", size=SIZE, min_area=0.01).tolist()
    assert points[1] == [9, 4]  # row is y
    assert 24 <= points[0][1] <= 25  # the prompt of the other lies outside of it


def test_masks_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a: expected a\.png or a folder of masks"):
        mask_points(tmp_path, "a.jpg", size=SIZE, min_area=0.01)
    save(tmp_path / "a.png", np.zeros((20, 31)))
    with pytest.raises(ValueError, match=r"expected 20 x 30 \(height x width\), got 20 x 31"):
        mask_points(tmp_path, "a.jpg", size=SIZE, min_area=0.01)
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="expected one channel of integers, got mode RGB"):
        mask_points(tmp_path, "a.jpg", size=SIZE, min_area=0.01)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "metadata.csv").write_text("name\nx\n")
    with pytest.raises(ValueError, match="expected columns id, point_input_x and point_input_y"):
        mask_points(tmp_path, "b.jpg", size=SIZE, min_area=0.01)


def test_the_deepest_point_of_a_ring_is_on_the_ring():
    mask = np.ones((9, 9), dtype=bool)
    mask[3:6, 3:6] = False
    assert mask[deepest(mask)]


def test_scattered_points_lie_where_depth_is_known_and_smooth():
    inverse = np.full(SIZE, 0.5, dtype=np.float32)
    inverse[:, 15:] = 0.1  # an edge
    inverse[:5] = 0.0
    points = scattered_points(inverse, count=50, rng=np.random.default_rng(0))
    assert len(points) == 50
    assert points[:, 0].min() >= 6
    assert not set(points[:, 1]) & {14, 15}
    assert len({tuple(point) for point in points.tolist()}) == 50
