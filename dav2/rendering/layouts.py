"""Writes rendered frames in the layouts of published datasets.

Axes: H height, W width (pixels).
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8
from PIL import Image

VKITTI_SKY = 65535
_ROTATIONS = {
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}
"""What undoes the turn that a reader makes for each EXIF orientation."""


def write_hypersim_frame(
    folder: Path,
    *,
    scene: str,
    frame: int,
    image: UInt8[np.ndarray, "H W 3"],
    distance: Float32[np.ndarray, "H W"],
    entity: Int32[np.ndarray, "H W"],
) -> None:
    """Writes the tone-mapped preview, distance along the rays and entity numbers of a frame.

    Args:
        folder: The dataset's root.
        scene: As `ai_001_002`.
        frame: Its number.
        image: The preview.
        distance: Metres along each pixel's ray; NaN is written where nothing is hit.
        entity: -1 where nothing is hit.
    """
    import h5py

    images = folder / scene / "images"
    preview = images / "scene_cam_00_final_preview" / f"frame.{frame:04d}.tonemap.jpg"
    write_jpeg(preview, image, quality=95)
    geometry = images / "scene_cam_00_geometry_hdf5"
    geometry.mkdir(parents=True, exist_ok=True)
    measured = np.where(np.isfinite(distance), distance, np.float32(np.nan))
    for name, values in (("depth_meters", measured), ("render_entity_id", entity)):
        with h5py.File(geometry / f"frame.{frame:04d}.{name}.hdf5", "w") as file:
            file.create_dataset("dataset", data=values, compression="gzip", track_times=False)


def write_hypersim_tables(
    folder: Path,
    frames: Sequence[tuple[str, int, str]],
    *,
    fov_deg: float,
    height: int,
    width: int,
) -> None:
    """Writes which frame belongs to which split, and each scene's camera.

    Args:
        folder: The dataset's root.
        frames: Scene, number and split of each.
        fov_deg: Angle across the width.
        height: Pixels.
        width: Pixels.
    """
    with (folder / "metadata_images_split_scene_v1.csv").open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(
            ["scene_name", "camera_name", "frame_id", "included_in_public_release",
             "exclude_reason", "split_partition_name"]
        )  # fmt: skip
        writer.writerows(
            [scene, "cam_00", frame, True, "", split] for scene, frame, split in frames
        )
    half = float(np.tan(np.deg2rad(fov_deg) / 2))
    matrix = np.diag([half, half * height / width, -1.0])
    with (folder / "metadata_camera_parameters.csv").open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        names = [f"M_cam_from_uv_{row}{column}" for row in range(3) for column in range(3)]
        writer.writerow(
            ["scene_name", "settings_output_img_height", "settings_output_img_width",
             "settings_units_info_meters_scale", "settings_camera_fov", *names]
        )  # fmt: skip
        fov = float(np.deg2rad(fov_deg))
        for scene in sorted({scene for scene, _, _ in frames}):
            cells = [float(value) for value in matrix.ravel()]
            writer.writerow([scene, float(height), float(width), 1.0, fov, *cells])


def write_vkitti_frame(
    folder: Path,
    *,
    scene: str,
    weather: str,
    frame: int,
    image: UInt8[np.ndarray, "H W 3"],
    depth: Float32[np.ndarray, "H W"],
) -> None:
    """Writes an image and its depth as 16-bit centimetres; what is farther is sky.

    Args:
        folder: The dataset's root.
        scene: As `Scene01`.
        weather: Virtual KITTI's name of a variation.
        frame: Its number.
        image: The picture.
        depth: Planar metres; inf for the sky.
    """
    rgb, stored = vkitti_paths(scene, weather, frame)
    write_jpeg(folder / rgb, image, quality=95)
    path = folder / stored
    path.parent.mkdir(parents=True, exist_ok=True)
    centimetres = np.rint(np.minimum(depth.astype(np.float64) * 100, VKITTI_SKY))
    Image.fromarray(np.maximum(centimetres, 1).astype(np.uint16)).save(path, compress_level=6)


def vkitti_paths(scene: str, weather: str, frame: int) -> tuple[str, str]:
    """Returns where an image and its depth map lie, relative to the root."""
    frames = f"{scene}/{weather}/frames"
    return (
        f"{frames}/rgb/Camera_0/rgb_{frame:05d}.jpg",
        f"{frames}/depth/Camera_0/depth_{frame:05d}.png",
    )


def write_diode_view(
    folder: Path,
    stem: str,
    *,
    image: UInt8[np.ndarray, "H W 3"],
    depth: Float32[np.ndarray, "H W"],
    valid: Bool[np.ndarray, "H W"],
) -> None:
    """Writes an image, its depth (metres, H x W x 1, 0 where not valid) and the mask.

    Args:
        folder: The dataset's root.
        stem: `val/<indoors|outdoor>/scene_NNNNN/scan_NNNNN/<name>`.
        image: The picture.
        depth: Planar metres.
        valid: False for the sky.
    """
    path = folder / f"{stem}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, compress_level=6)
    measured = np.where(valid, depth, np.float32(0))[..., None]
    np.save(folder / f"{stem}_depth.npy", measured)
    np.save(folder / f"{stem}_depth_mask.npy", valid.astype(np.float32))


def write_jpeg(
    path: Path, image: UInt8[np.ndarray, "H W 3"], *, quality: int, orientation: int = 1
) -> None:
    """Writes a JPEG; with an EXIF orientation, the pixels lie as that camera stored them.

    Args:
        path: Its parent is created.
        image: Upright.
        quality: JPEG quality.
        orientation: EXIF tag: 1, 3, 6 or 8.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(image)
    if orientation == 1:
        picture.save(path, "JPEG", quality=quality)
        return
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.transpose(_ROTATIONS[orientation]).save(path, "JPEG", quality=quality, exif=exif)
