import numpy as np
import pytest

from dav2.prediction.points import encode_ply, find_focal, relative_to_depth

POINT = np.dtype([(a, "<f4") for a in "xyz"] + [(c, "u1") for c in ("red", "green", "blue")])


def test_focal_length_of_exif_relates_diagonals():
    # 3000 x 4000 has a diagonal of 5000 pixels, film one of 43.2666 mm: 26 mm is 3004.6 pixels.
    focal = find_focal((3000, 4000), focal_35mm=26.0)
    assert focal.length_px == pytest.approx(3004.6, abs=0.05)
    assert focal.source == "exif"
    assert find_focal((4000, 3000), focal_35mm=26.0) == focal


def test_a_given_focal_length_wins():
    focal = find_focal((30, 40), given_px=77.0, focal_35mm=26.0)
    assert (focal.length_px, focal.source) == (77.0, "given")


def test_an_unknown_camera_sees_60_degrees_along_the_longer_side():
    # 500 / tan(30 degrees)
    focal = find_focal((1000, 700))
    assert focal.length_px == pytest.approx(866.0254)
    assert focal.source == "assumed"


def test_relative_depth_becomes_1_at_the_nearest_and_10_at_the_farthest():
    depth = relative_to_depth(np.array([[7, 3, 5]], np.float32))
    # Half way: inverse depth (1 + 0.1) / 2 = 0.55.
    assert depth.dtype == np.float32
    assert np.allclose(depth, [[1, 10, 1 / 0.55]])


def test_scale_and_shift_of_relative_depth_do_not_matter():
    values = np.random.default_rng(0).random((5, 7), np.float32)
    assert np.allclose(relative_to_depth(values), relative_to_depth(3 * values + 2), rtol=1e-4)


def test_constant_relative_depth_lies_at_1():
    assert (relative_to_depth(np.full((2, 3), 4, np.float32)) == 1).all()


def test_points_lie_on_the_rays_of_their_pixels():
    depth = np.array([[2, 2, 2, 2], [4, 4, 4, 4]], np.float32)
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    header, _, body = encode_ply(depth, image, focal_px=2.0, comment="metres").partition(
        b"end_header\n"
    )
    assert header.decode().splitlines() == [
        "ply",
        "format binary_little_endian 1.0",
        "comment metres",
        "comment x right, y down, z forward",
        "element vertex 8",
        "property float x",
        "property float y",
        "property float z",
        "property uchar red",
        "property uchar green",
        "property uchar blue",
    ]
    points = np.frombuffer(body, POINT)
    # Upper left: (0.5 - 2) / 2 * 2 m to the right, (0.5 - 1) / 2 * 2 m down.
    assert points[0].tolist() == (-1.5, -0.5, 2.0, 0, 1, 2)
    # Lower right: (3.5 - 2) / 2 * 4 m, (1.5 - 1) / 2 * 4 m.
    assert points[7].tolist() == (3.0, 1.0, 4.0, 21, 22, 23)
