"""Hypersim (Roberts et al. 2021, arXiv:2011.02523): rendered rooms with exact distance.

Axes: H height, W width (pixels); h, w those of a reduced image.
The files hold the distance along each pixel's ray, not depth. Ray directions come from each scene's
own camera matrix: some scenes use a shifted or tilted lens, for which the constant focal length of
most public code is wrong by up to 15 %.
"""

import csv
import io
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Float64, UInt8

from dav2.data.arrays import decode_hdf5, decode_hdf5_colour
from dav2.data.images import MAX_PIXELS
from dav2.data.option_values import check_flag
from dav2.data.reader import FileReader, check_measured, check_samples, decode_text
from dav2.data.sample import DepthSample, Intrinsics, SampleFiles
from dav2.data.storage import Storage
from dav2.data.tone_mapping import tone_map

_SPLIT_FILE = "metadata_images_split_scene_v1.csv"
_CAMERA_FILE = "metadata_camera_parameters.csv"
_SPLIT_COLUMNS = (
    "scene_name",
    "camera_name",
    "frame_id",
    "included_in_public_release",
    "split_partition_name",
)
_ENTITY_SUFFIX = ".render_entity_id.hdf5"
_NO_GEOMETRY = -1
_MAX_ENTRY = 1e6  # of a camera's matrix; published ones are near 1
_MAX_FACTORS = 16  # of 3 MB each at the published size
# 60 degrees over 1024 pixels.
_CONSTANT_FOCAL_PX = 886.81
_CONSTANT_FOCAL_WIDTH_PX = 1024


@dataclass(frozen=True, slots=True)
class HypersimOptions:
    """How the frames are read."""

    constant_focal_length: bool = False
    """Convert with 886.81 px in every scene, as the authors of Depth Anything V2 do, instead of
    each scene's own camera."""
    image: str = "preview"
    """`preview`: the JPEG previews, as the authors of Depth Anything V2 use them; `tone_mapped`:
    linear colour (`_final_hdf5/frame.IIII.color.hdf5`), tone-mapped as Hypersim's authors
    recommend, which needs the entities."""

    def __post_init__(self) -> None:
        """Checks what came from a file."""
        check_flag(self.constant_focal_length, name="constant_focal_length")
        if self.image not in ("preview", "tone_mapped"):
            raise ValueError(f"image: expected preview or tone_mapped, got {self.image!r}")


class Hypersim(FileReader):
    """Reads images and ray distances of the frames in the public release.

    The root holds the scenes (`ai_VVV_NNN/images/...`), `metadata_images_split_scene_v1.csv` (which
    frames are public, and their split) and `metadata_camera_parameters.csv`.
    """

    def __init__(
        self,
        root: Path | str | Storage,
        *,
        max_pixels: int = MAX_PIXELS,
        options: HypersimOptions = HypersimOptions(),
    ) -> None:
        """Prepares to read; opens nothing."""
        super().__init__(root, max_pixels=max_pixels)
        self._constant_focal_length = options.constant_focal_length
        self._tone_maps = options.image == "tone_mapped"
        self._cameras: Mapping[str, Float64[np.ndarray, "3 3"]] | None = None
        self._factors: OrderedDict[tuple[bytes, int, int], Float32[np.ndarray, "H W"]] = (
            OrderedDict()
        )

    def list_samples(self, split: str) -> list[SampleFiles]:
        """Returns the public frames of a split of the CSV file: `train`, `val` or `test`."""
        # The release comes in parts: many copies lack the entities. Then nothing is known of sky.
        entities = {
            file.path for file in self._storage.list_files() if file.path.endswith(_ENTITY_SUFFIX)
        }
        where = self._storage.where(_SPLIT_FILE)
        samples = []
        partitions = set()
        for row in self._rows(_SPLIT_FILE, _SPLIT_COLUMNS):
            partitions.add(row["split_partition_name"])
            if row["split_partition_name"] == split and row["included_in_public_release"] == "True":
                samples.append(self._sample(row, entities))
        if split not in partitions:
            known = ", ".join(sorted(partitions - {""}))
            raise ValueError(f"{where}: expected a split of {known or 'any name'}, got {split!r}")
        return check_samples(samples, where=where, split=split)

    def read(self, files: SampleFiles) -> DepthSample:
        """Returns one frame. No geometry along a ray is sky; NaN elsewhere is not valid."""
        image = self.read_image(files)
        assert files.depth is not None
        height, width = image.shape[:2]
        distance = self._array(files.depth, (height, width), "f").astype(np.float32)
        sky = None
        entities = [name for name in files.extra if name.endswith(_ENTITY_SUFFIX)]
        if entities:
            sky = self._array(entities[0], (height, width), "i") == _NO_GEOMETRY
        depth = distance * self._depth_over_distance(files.scene, height, width)
        with np.errstate(invalid="ignore"):
            valid = np.isfinite(depth) & (depth > 0)
        if sky is not None:
            depth = np.where(sky, np.float32(np.inf), depth)
            valid |= sky
        check_measured(distance, valid, sky, where=self._storage.where(files.depth))
        return DepthSample(
            sample_id=files.sample_id,
            dataset="hypersim",
            scene=files.scene,
            image=image,
            depth=depth,
            valid=valid,
            sky=sky,
            intrinsics=self._intrinsics(files.scene, height, width),
        )

    def read_image(self, files: SampleFiles) -> UInt8[np.ndarray, "H W 3"]:
        """Returns the frame's preview, or its linear colour tone-mapped."""
        if not self._tone_maps:
            return super().read_image(files)
        colour = decode_hdf5_colour(
            self.read_bytes(files.image),
            max_pixels=self._max_pixels,
            where=self._storage.where(files.image),
        )
        (entity,) = (name for name in files.extra if name.endswith(_ENTITY_SUFFIX))
        geometry = self._array(entity, colour.shape[:2], "i") != _NO_GEOMETRY
        return tone_map(colour, geometry)

    def _sample(self, row: Mapping[str, str], entities: set[str]) -> SampleFiles:
        scene, camera = row["scene_name"], row["camera_name"]
        if not row["frame_id"].isdecimal():
            raise ValueError(
                f"{self._storage.where(_SPLIT_FILE)}: expected a number of a frame, "
                f"got {row['frame_id']!r} in {scene}"
            )
        frame = int(row["frame_id"])
        images = f"{scene}/images/scene_{camera}"
        geometry = f"{images}_geometry_hdf5/frame.{frame:04d}"
        entity = f"{geometry}{_ENTITY_SUFFIX}"
        extra = (entity,) if self._tone_maps or entity in entities else ()
        image = "final_preview", "tonemap.jpg"
        if self._tone_maps:
            image = "final_hdf5", "color.hdf5"
        return SampleFiles(
            sample_id=f"{scene}/{camera}/{frame:04d}",
            scene=scene,
            image=f"{images}_{image[0]}/frame.{frame:04d}.{image[1]}",
            depth=f"{geometry}.depth_meters.hdf5",
            extra=extra if self._constant_focal_length else (*extra, _CAMERA_FILE),
        )

    def _array(self, path: str, size: tuple[int, int], kinds: str) -> npt.NDArray[Any]:
        where = self._storage.where(path)
        return decode_hdf5(self.read_bytes(path), size=size, kinds=kinds, where=where)

    def _depth_over_distance(
        self, scene: str, height: int, width: int
    ) -> Float32[np.ndarray, "H W"]:
        """Returns what a ray's distance is multiplied by to give depth, for each pixel."""
        camera = self._camera(scene, height, width)
        key = (camera.tobytes(), height, width)  # most scenes share one camera
        if key not in self._factors:
            rays = camera @ _image_plane(height, width)
            factor = -rays[2] / np.linalg.norm(rays, axis=0)
            self._factors[key] = factor.reshape(height, width).astype(np.float32)
            if len(self._factors) > _MAX_FACTORS:
                self._factors.popitem(last=False)
        return self._factors[key]

    def _camera(self, scene: str, height: int, width: int) -> Float64[np.ndarray, "3 3"]:
        if self._constant_focal_length:
            focal_px = _CONSTANT_FOCAL_PX * width / _CONSTANT_FOCAL_WIDTH_PX
            return np.diag([width / 2 / focal_px, height / 2 / focal_px, -1.0])
        if self._cameras is None:
            self._cameras = self._read_cameras()
        if scene not in self._cameras:
            raise ValueError(
                f"{self._storage.where(_CAMERA_FILE)}: expected a row for scene {scene}, got none"
            )
        return self._cameras[scene]

    def _intrinsics(self, scene: str, height: int, width: int) -> Intrinsics | None:
        """Returns the pinhole camera, or None where the lens is tilted or skewed."""
        camera = self._camera(scene, height, width) / -self._camera(scene, height, width)[2, 2]
        off_axis = [camera[0, 1], camera[1, 0], camera[2, 0], camera[2, 1]]
        if np.abs(off_axis).max() > 1e-6:
            return None
        # x = m00 u + m02 with u = 2 column / W - 1; y likewise, pointing up.
        fx_px = width / 2 / camera[0, 0]
        fy_px = height / 2 / camera[1, 1]
        return Intrinsics(
            fx_px=float(fx_px),
            fy_px=float(fy_px),
            cx_px=float(width / 2 - fx_px * camera[0, 2]),
            cy_px=float(height / 2 + fy_px * camera[1, 2]),
        )

    def _read_cameras(self) -> Mapping[str, Float64[np.ndarray, "3 3"]]:
        """Returns M_cam_from_uv of every scene: image plane to camera (x right, y up, z back)."""
        names = [f"M_cam_from_uv_{row}{column}" for row in range(3) for column in range(3)]
        cameras = {}
        for row in self._rows(_CAMERA_FILE, ("scene_name", *names)):
            try:
                values = [float(row[name]) for name in names]
            except ValueError:
                raise ValueError(
                    f"{self._storage.where(_CAMERA_FILE)}: expected numbers in M_cam_from_uv of "
                    f"{row['scene_name']}, got other text"
                ) from None
            camera = np.array(values).reshape(3, 3)
            diagonal = np.abs(np.diag(camera))
            if not (np.abs(camera) < _MAX_ENTRY).all() or diagonal.min() < 1 / _MAX_ENTRY:
                raise ValueError(
                    f"{self._storage.where(_CAMERA_FILE)}: expected the camera of "
                    f"{row['scene_name']} in M_cam_from_uv, got a matrix that is none: {values}"
                )
            cameras[row["scene_name"]] = camera
        return cameras

    def _rows(self, path: str, needed: tuple[str, ...]) -> Iterator[dict[str, str]]:
        where = self._storage.where(path)
        text = decode_text(self.read_bytes(path), where=where)
        reader = csv.DictReader(io.StringIO(text, newline=""), restval="")
        missing = [name for name in needed if name not in (reader.fieldnames or [])]
        if missing:
            raise ValueError(f"{where}: expected a column {missing[0]}, got none of that name")
        yield from reader


def _image_plane(height: int, width: int) -> Float64[np.ndarray, "3 HW"]:
    """Returns (u, v, 1) of the pixel centres: u from -1 left to 1 right, v from 1 top to -1."""
    u = (np.arange(width) + 0.5) * 2 / width - 1
    v = 1 - (np.arange(height) + 0.5) * 2 / height
    grid = np.broadcast_arrays(u[None], v[:, None], np.ones(1))
    return np.stack([axis.ravel() for axis in grid])
