"""Hypersim's layout, written by hand: ray distance becomes metres along the optical axis."""

import csv
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from dav2.data.hypersim import Hypersim, HypersimOptions

NAN = np.nan
SPLITS = [
    "scene_name,camera_name,frame_id,included_in_public_release,exclude_reason,split_partition_name",
    "ai_001_001,cam_00,12,True,,train",
    "ai_001_001,cam_00,3,True,,train",
    "ai_001_001,cam_01,0,False,people,train",
    "ai_002_001,cam_00,0,True,,val",
    "ai_003_001,cam_00,0,False,people,",
]
# Half the width is 1 and half the height 1.5 of the distance to the image plane.
STRAIGHT = [1.0, 0, 0, 0, 1.5, 0, 0, 0, -1.0]
# The same lens shifted: the optical axis meets the image plane right of and above its centre.
SHIFTED = [1.0, 0, -0.5, 0, 1.5, -0.75, 0, 0, -1.0]
TILTED = [1.0, 0, 0, 0, 1.5, 0, 0, 0.2, -1.0]


def write_root(root: Path, camera=STRAIGHT, splits=SPLITS) -> Path:
    root.mkdir(exist_ok=True)
    (root / "metadata_images_split_scene_v1.csv").write_text("\n".join(splits) + "\n")
    with (root / "metadata_camera_parameters.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        names = [f"M_cam_from_uv_{row}{column}" for row in range(3) for column in range(3)]
        writer.writerow(["scene_name", "settings_output_img_width", *names])
        for scene in ("ai_001_001", "ai_002_001"):
            writer.writerow([scene, 4, *camera])
    return root


def write_frame(root: Path, distance, entity=None, frame="ai_001_001/images/scene_cam_00", name=3):
    distance = np.asarray(distance)
    preview = root / f"{frame}_final_preview"
    geometry = root / f"{frame}_geometry_hdf5"
    preview.mkdir(parents=True, exist_ok=True)
    geometry.mkdir(parents=True, exist_ok=True)
    image = np.full((*distance.shape, 3), 128, np.uint8)
    Image.fromarray(image).save(preview / f"frame.{name:04d}.tonemap.jpg")
    maps = {"depth_meters": distance, "render_entity_id": entity}
    for kind, values in maps.items():
        if values is not None:
            with h5py.File(geometry / f"frame.{name:04d}.{kind}.hdf5", "w") as file:
                file.create_dataset("dataset", data=values)


def read_only_frame(root: Path, **options):
    reader = Hypersim(root, options=HypersimOptions(**options))
    files = {sample.sample_id: sample for sample in reader.list_samples("train")}
    return reader.read(files["ai_001_001/cam_00/0003"])


def test_lists_public_frames_of_a_split_by_the_csv(tmp_path):
    root = write_root(tmp_path / "root")
    write_frame(root, np.ones((2, 4), np.float16), entity=np.ones((2, 4), np.int32))

    samples = Hypersim(root).list_samples("train")

    assert [sample.sample_id for sample in samples] == [
        "ai_001_001/cam_00/0003",
        "ai_001_001/cam_00/0012",
    ]
    geometry = "ai_001_001/images/scene_cam_00_geometry_hdf5/frame.0003"
    assert samples[0].image == (
        "ai_001_001/images/scene_cam_00_final_preview/frame.0003.tonemap.jpg"
    )
    assert samples[0].depth == f"{geometry}.depth_meters.hdf5"
    assert samples[0].extra == (
        f"{geometry}.render_entity_id.hdf5",
        "metadata_camera_parameters.csv",
    )
    assert samples[1].extra == ("metadata_camera_parameters.csv",)  # has no entities
    assert {sample.scene for sample in samples} == {"ai_001_001"}


def test_a_plane_seen_straight_on_has_one_depth_in_metres(tmp_path):
    # Pixel centres of 2 x 4 lie at x = +-0.75, +-0.25 and y = +-0.75 on a plane one metre away;
    # the rays to a plane at 2 m are twice as long as those.
    root = write_root(tmp_path / "root")
    x, y = np.meshgrid([-0.75, -0.25, 0.25, 0.75], [0.75, -0.75])
    write_frame(root, (2 * np.sqrt(1 + x**2 + y**2)).astype(np.float32))

    sample = read_only_frame(root)

    assert np.allclose(sample.depth, 2, rtol=1e-6)
    assert sample.depth.dtype == np.float32
    assert sample.valid.all()
    assert sample.sky is None
    assert sample.scale_known
    assert sample.image.shape == (2, 4, 3)


def test_half_floats_of_the_release_are_read_as_they_are(tmp_path):
    root = write_root(tmp_path / "root")
    x, y = np.meshgrid([-0.75, -0.25, 0.25, 0.75], [0.75, -0.75])
    write_frame(root, (2 * np.sqrt(1 + x**2 + y**2)).astype(np.float16))

    sample = read_only_frame(root)

    assert np.allclose(sample.depth, 2, rtol=1e-3)  # half a unit in the last place is 5e-4


def test_a_shifted_lens_uses_the_scenes_own_camera(tmp_path):
    # x of the pixel centres moves by -0.5, y by -0.75: straight rays would give other depths.
    root = write_root(tmp_path / "root", camera=SHIFTED)
    x, y = np.meshgrid([-1.25, -0.75, -0.25, 0.25], [0.0, -1.5])
    write_frame(root, (3 * np.sqrt(1 + x**2 + y**2)).astype(np.float32))

    sample = read_only_frame(root)

    assert np.allclose(sample.depth, 3, rtol=1e-6)
    # x = 0 lies where u = 0.5: three quarters of 4 pixels. y = 0 where v = 0.5: a quarter of 2.
    assert (sample.intrinsics.cx_px, sample.intrinsics.cy_px) == pytest.approx((3, 0.5))
    assert (sample.intrinsics.fx_px, sample.intrinsics.fy_px) == pytest.approx((2, 2 / 3))


def test_a_tilted_lens_has_no_pinhole_intrinsics(tmp_path):
    root = write_root(tmp_path / "root", camera=TILTED)
    write_frame(root, np.ones((2, 4), np.float32))

    sample = read_only_frame(root)

    assert sample.intrinsics is None
    # Upper row: ray (x, 0.75, 0.2 * 0.5 - 1), of which 0.9 points forward.
    expected = 0.9 / np.sqrt(0.25**2 + 0.75**2 + 0.9**2)
    assert sample.depth[0, 1] == pytest.approx(expected, rel=1e-6)


def test_constant_focal_length_gives_the_depth_of_public_code(tmp_path):
    # z = distance f / sqrt(x^2 + y^2 + f^2) in pixels, f = 886.81 at a width of 1024.
    root = write_root(tmp_path / "root", camera=SHIFTED)
    (root / "metadata_camera_parameters.csv").unlink()
    write_frame(root, np.full((2, 4), 5, np.float32))

    sample = read_only_frame(root, constant_focal_length=True)

    focal = 886.81 * 4 / 1024
    assert sample.depth[0, 0] == pytest.approx(
        5 * focal / np.sqrt(1.5**2 + 0.5**2 + focal**2), rel=1e-6
    )
    assert sample.intrinsics.fx_px == pytest.approx(focal)
    assert sample.intrinsics.fy_px == pytest.approx(focal)


def test_no_geometry_is_sky_and_nan_elsewhere_is_invalid(tmp_path):
    root = write_root(tmp_path / "root")
    write_frame(
        root,
        np.array([[NAN, 2, NAN, 0], [np.inf, 2, 2, -1]], np.float32),
        entity=np.array([[-1, 7, 7, 7], [7, 7, -1, 7]], np.int32),
    )

    sample = read_only_frame(root)

    assert sample.sky.tolist() == [[True, False, False, False], [False, False, True, False]]
    assert sample.valid.tolist() == [[True, True, False, False], [False, True, True, False]]
    assert np.isposinf(sample.depth[sample.sky]).all()
    inverse = sample.inverse_depth()
    assert (inverse > 0).tolist() == [[False, True, False, False], [False, True, False, False]]


@pytest.mark.parametrize(
    ("distance", "got"),
    [(np.full((2, 4), NAN), "NaN alone"), (np.zeros((2, 4)), "zeros alone")],
)
def test_an_empty_distance_map_is_refused_even_beside_sky(distance, got, tmp_path):
    root = write_root(tmp_path / "root")
    entity = np.ones((2, 4), np.int32)
    entity[0, 0] = -1
    write_frame(root, distance.astype(np.float32), entity=entity)

    with pytest.raises(ValueError, match=rf"frame\.0003\.depth_meters\.hdf5: expected.*got {got}"):
        read_only_frame(root)


def test_maps_of_another_size_than_the_image_are_refused(tmp_path):
    root = write_root(tmp_path / "root")
    write_frame(root, np.ones((2, 4), np.float32))
    write_frame(tmp_path / "other", np.ones((4, 2), np.float32))
    name = "ai_001_001/images/scene_cam_00_geometry_hdf5/frame.0003.depth_meters.hdf5"
    (root / name).write_bytes((tmp_path / "other" / name).read_bytes())

    with pytest.raises(ValueError, match=r"expected 2 x 4 float values.*got 4 x 2") as caught:
        read_only_frame(root)
    assert str(caught.value).startswith(str(root / name))


def test_a_scene_without_a_camera_is_refused(tmp_path):
    root = write_root(tmp_path / "root")
    write_frame(root, np.ones((2, 4), np.float32))
    table = root / "metadata_camera_parameters.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:1]) + "\n")

    with pytest.raises(ValueError, match="expected a row for scene ai_001_001, got none"):
        read_only_frame(root)


def test_damaged_tables_are_refused_in_one_line(tmp_path):
    root = write_root(tmp_path / "root", camera=["wide", *STRAIGHT[1:]])
    write_frame(root, np.ones((2, 4), np.float32))

    with pytest.raises(ValueError, match="expected numbers in M_cam_from_uv of ai_001_001"):
        read_only_frame(root)
    with pytest.raises(ValueError, match=r"expected a split of train, val, got 'trian'"):
        Hypersim(root).list_samples("trian")
    write_root(root, splits=[SPLITS[0], "a,cam_00,x,True,,train"])
    with pytest.raises(ValueError, match="expected a number of a frame, got 'x'"):
        Hypersim(root).list_samples("train")
    write_root(root, splits=["scene,camera", "a,b"])
    with pytest.raises(ValueError, match="expected a column scene_name, got none of that name"):
        Hypersim(root).list_samples("train")
    with pytest.raises(FileNotFoundError, match="expected the folder of a dataset"):
        Hypersim(tmp_path / "misspelt").list_samples("train")
    (root / "metadata_images_split_scene_v1.csv").unlink()
    with pytest.raises(FileNotFoundError, match="csv: expected a file, got nothing there"):
        Hypersim(root).list_samples("train")


def test_linear_colour_is_tone_mapped_where_there_is_geometry(tmp_path):
    root = write_root(tmp_path / "root")
    entity = np.array([[1, 1, 1, -1], [1, 1, 1, -1]], np.int32)
    write_frame(root, np.ones((2, 4), np.float32), entity)
    colour = np.full((2, 4, 3), 8.0, np.float16)
    colour[:, 3] = 1000  # the sky, which decides nothing
    folder = root / "ai_001_001/images/scene_cam_00_final_hdf5"
    folder.mkdir()
    with h5py.File(folder / "frame.0003.color.hdf5", "w") as file:
        file.create_dataset("dataset", data=colour)

    sample = read_only_frame(root, image="tone_mapped")

    assert sample.image[:, :3].tolist() == [[[204] * 3] * 3] * 2  # 0.8 of 255
    assert (sample.image[:, 3] == 255).all()
    assert sample.sky.tolist() == (entity == -1).tolist()
    with h5py.File(folder / "frame.0003.color.hdf5", "w") as file:
        file.create_dataset("dataset", data=colour[..., 0])
    with pytest.raises(ValueError, match=r"color.hdf5: expected H x W x 3 float values, got 2 x 4"):
        read_only_frame(root, image="tone_mapped")
    (
        root / "ai_001_001/images/scene_cam_00_geometry_hdf5/frame.0003.render_entity_id.hdf5"
    ).unlink()
    with h5py.File(folder / "frame.0003.color.hdf5", "w") as file:
        file.create_dataset("dataset", data=colour)
    with pytest.raises(FileNotFoundError, match=r"render_entity_id.hdf5: expected a file"):
        read_only_frame(root, image="tone_mapped")


def test_linear_colour_above_the_limit_is_refused_by_its_header(tmp_path):
    root = write_root(tmp_path / "root")
    write_frame(root, np.ones((2, 4), np.float32), np.ones((2, 4), np.int32))
    folder = root / "ai_001_001/images/scene_cam_00_final_hdf5"
    folder.mkdir()
    with h5py.File(folder / "frame.0003.color.hdf5", "w") as file:
        file.create_dataset("dataset", (10**6, 10**6, 3), np.float16, chunks=(100, 100, 3))
    reader = Hypersim(root, max_pixels=50, options=HypersimOptions(image="tone_mapped"))
    files = {sample.sample_id: sample for sample in reader.list_samples("train")}

    with pytest.raises(ValueError, match="expected 1 to 50 pixels, got 1000000 x 1000000"):
        reader.read(files["ai_001_001/cam_00/0003"])


def test_an_unknown_form_of_images_is_refused():
    with pytest.raises(ValueError, match="image: expected preview or tone_mapped, got 'hdr'"):
        HypersimOptions(image="hdr")


@pytest.mark.parametrize("entry", [(0, 0.0), (4, np.nan), (8, 1e-9), (1, 1e300)])
def test_a_matrix_that_is_no_camera_is_refused(entry, tmp_path):
    camera = list(STRAIGHT)
    camera[entry[0]] = entry[1]
    root = write_root(tmp_path / "root", camera=camera)
    write_frame(root, np.ones((2, 4), np.float32))

    with pytest.raises(ValueError, match=r"expected the camera of ai_001_001 .*a matrix that is n"):
        read_only_frame(root)
