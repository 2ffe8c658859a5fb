"""What the layouts hold when their own readers open them."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from dav2.data.diode import Diode
from dav2.data.hypersim import Hypersim
from dav2.data.vkitti2 import VirtualKitti2
from dav2.rendering.frame import pixel_rays
from dav2.rendering.layouts import (
    vkitti_paths,
    write_diode_view,
    write_hypersim_frame,
    write_hypersim_tables,
    write_jpeg,
    write_vkitti_frame,
)

HEIGHT, WIDTH = 6, 9


def picture(height=HEIGHT, width=WIDTH):
    return np.random.default_rng(0).integers(255, size=(height, width, 3), dtype=np.uint8)


def test_hypersim_distance_reads_back_as_planar_depth(tmp_path):
    depth = np.random.default_rng(1).uniform(1, 9, (HEIGHT, WIDTH)).astype(np.float32)
    distance = depth * np.linalg.norm(pixel_rays(HEIGHT, WIDTH, 60.0), axis=-1)
    distance[2, 3] = np.inf
    entity = np.where(np.isinf(distance), -1, 4).astype(np.int32)
    write_hypersim_frame(
        tmp_path,
        scene="ai_001_002",
        frame=7,
        image=picture(),
        distance=distance.astype(np.float32),
        entity=entity,
    )
    frames = [("ai_001_002", 7, "val")]
    write_hypersim_tables(tmp_path, frames, fov_deg=60.0, height=HEIGHT, width=WIDTH)
    reader = Hypersim(tmp_path)
    sample = reader.read(reader.list_samples("val")[0])
    measured = ~sample.sky
    assert sample.sky.sum() == 1
    assert sample.sky[2, 3]
    np.testing.assert_allclose(sample.depth[measured], depth[measured], rtol=1e-5)
    # 60 degrees over 9 pixels: 4.5 / tan 30.
    assert sample.intrinsics.fx_px == pytest.approx(7.794229)
    assert sample.intrinsics.fy_px == pytest.approx(7.794229)


def test_virtual_kitti_depth_is_stored_in_centimetres(tmp_path):
    depth = np.full((HEIGHT, WIDTH), 12.3449, dtype=np.float32)
    depth[0] = np.inf
    depth[1] = 655.4
    depth[2] = 655.34
    write_vkitti_frame(
        tmp_path, scene="Scene01", weather="fog", frame=3, image=picture(), depth=depth
    )
    image, stored = vkitti_paths("Scene01", "fog", 3)
    values = np.array(Image.open(tmp_path / stored))
    assert values.dtype == np.uint16
    assert (values[:2] == 65535).all()
    assert (values[2] == 65534).all()
    assert (values[3:] == 1234).all()
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "test.txt").write_text(f"{image} {stored}\n")
    reader = VirtualKitti2(tmp_path)
    sample = reader.read(reader.list_samples("test")[0])
    assert sample.sky[:2].all()
    assert not sample.sky[2:].any()
    np.testing.assert_allclose(sample.depth[3:], 12.34, rtol=1e-6)


def test_diode_masks_the_sky(tmp_path):
    depth = np.full((HEIGHT, WIDTH), 2.5, dtype=np.float32)
    depth[:2] = np.inf
    stem = "val/outdoor/scene_00001/scan_00002/00001_00002_outdoor_000_000"
    write_diode_view(tmp_path, stem, image=picture(), depth=depth, valid=np.isfinite(depth))
    reader = Diode(tmp_path)
    sample = reader.read(reader.list_samples("val")[0])
    np.testing.assert_array_equal(sample.image, picture())
    np.testing.assert_array_equal(sample.valid, np.isfinite(depth))
    np.testing.assert_array_equal(sample.depth[2:], 2.5)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_turned_photograph_opens_upright(tmp_path, orientation):
    image = np.zeros((16, 48, 3), dtype=np.uint8)
    image[:8, :24] = 255
    write_jpeg(tmp_path / "a.jpg", image, quality=95, orientation=orientation)
    stored = Image.open(tmp_path / "a.jpg")
    assert stored.size == ((48, 16) if orientation in (1, 3) else (16, 48))
    upright = np.asarray(ImageOps.exif_transpose(stored)).astype(int)
    assert np.abs(upright - image).mean() < 6


def test_the_same_frame_gives_the_same_files(tmp_path):
    for name in ("a", "b"):
        write_hypersim_frame(
            tmp_path / name,
            scene="ai_001_001",
            frame=0,
            image=picture(),
            distance=np.ones((HEIGHT, WIDTH), dtype=np.float32),
            entity=np.zeros((HEIGHT, WIDTH), dtype=np.int32),
        )
    first = sorted(path for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(first) == 3
    for path in first:
        other = tmp_path / "b" / path.relative_to(tmp_path / "a")
        assert path.read_bytes() == other.read_bytes()
