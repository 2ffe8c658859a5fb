"""BlendedMVS and BlendedMVG (Yao et al. 2019, arXiv:1911.10127): textured models, re-rendered.

Axes: H height, W width (pixels).
Depth is a portable float map along the optical axis, 0 where the model has a hole, in a unit of
each scene's own: `scale_known` is False. Some maps are empty throughout, as the authors say, and
are refused one by one when read. The sky is a hole like any other. Unverified: whether the
camera's principal point counts from the corner of the first pixel, as taken here, or its middle.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dav2.data.arrays import decode_pfm
from dav2.data.images import MAX_PIXELS
from dav2.data.lists import check_published, read_list
from dav2.data.option_values import check_text
from dav2.data.reader import FileReader, check_measured, check_samples, decode_text
from dav2.data.sample import DepthSample, Intrinsics, SampleFiles
from dav2.data.storage import Storage

# Of the images with a dark background (`_masked.jpg`) none is read.
_IMAGE = re.compile(r"(?P<folder>(?:.+/)?(?P<scene>[^/]+))/blended_images/(?P<frame>\d{8})\.jpg")
_CAMERA = re.compile(r"\bintrinsic\s+(?P<numbers>(?:\S+\s+){8}\S+)")
# Lines of the lists in the authors' repository.
_PUBLISHED_SCENES = {
    "BlendedMVG.txt": 502,
    "BlendedMVG_training.txt": 495,
    "BlendedMVS.txt": 113,
    "BlendedMVS_training.txt": 106,
    "validation_list.txt": 7,
}


@dataclass(frozen=True, slots=True)
class BlendedMvsOptions:
    """How it is split. A list of one's own goes under another name than a published one."""

    train_list: str = "BlendedMVG_training.txt"
    """Scenes to train on, relative to the root; for BlendedMVS alone `BlendedMVS_training.txt`."""
    val_list: str = "validation_list.txt"

    def __post_init__(self) -> None:
        """Checks what came from a file."""
        check_text(self.train_list, name="train_list")
        check_text(self.val_list, name="val_list")


class BlendedMvs(FileReader):
    """Reads `<scene>/blended_images/00000000.jpg`, low or high resolution, unmasked.

    Depth is `<scene>/rendered_depth_maps/00000000.pfm`, the camera `<scene>/cams/00000000_cam.txt`
    where there is one. Splits: `train` and `val` are the scenes of the authors' lists, `all` every
    scene found, which needs no list. A published list must have its published number of scenes,
    and every listed scene must be there; the number of images (115K by the paper of Depth Anything
    V2) is not checked, as the authors state none exactly.
    """

    def __init__(
        self,
        root: Path | str | Storage,
        *,
        max_pixels: int = MAX_PIXELS,
        options: BlendedMvsOptions = BlendedMvsOptions(),
    ) -> None:
        """Prepares to read; opens nothing."""
        super().__init__(root, max_pixels=max_pixels)
        self._lists = {"train": options.train_list, "val": options.val_list}

    def list_samples(self, split: str) -> list[SampleFiles]:
        """Returns the unmasked images of `all`, `train` or `val`."""
        self._check_root()
        self._refuse_split(split, "all", *self._lists)
        where = self._storage.where()
        if split == "all":
            return check_samples(self._find(), where=where, split=split)
        scenes = self._listed_scenes(self._lists[split])
        samples = [files for files in self._find() if files.scene in scenes]
        if missing := sorted(set(scenes) - {files.scene for files in samples}):
            raise ValueError(
                f"{scenes[missing[0]]}: expected images of scene {missing[0]} in {where}, "
                f"got none; {len(missing)} of {len(scenes)} scenes are missing"
            )
        return check_samples(samples, where=where, split=split)

    def read(self, files: SampleFiles) -> DepthSample:
        """Returns one image; valid is where the depth is finite and above zero."""
        image = self.read_image(files)
        assert files.depth is not None
        where = self._storage.where(files.depth)
        size = (image.shape[0], image.shape[1])
        depth = decode_pfm(self.read_bytes(files.depth), size=size, where=where)
        valid = np.isfinite(depth) & (depth > 0)
        check_measured(depth, valid, None, where=where)
        return DepthSample(
            sample_id=files.sample_id,
            dataset="blendedmvs",
            scene=files.scene,
            image=image,
            depth=depth,
            valid=valid,
            sky=None,
            intrinsics=self._intrinsics(files.extra[0]) if files.extra else None,
            scale_known=False,
        )

    def _listed_scenes(self, path: str) -> dict[str, str]:
        """Returns the scenes of a list, each with the line that names it."""
        lines = read_list(self._storage, path, columns="one scene", num_names=range(1, 2))
        scenes = {line.names[0]: line.where for line in lines}
        if path in _PUBLISHED_SCENES:
            check_published(
                len(scenes),
                (_PUBLISHED_SCENES[path],),
                what="scenes",
                where=self._storage.where(path),
            )
        return scenes

    def _find(self) -> Iterator[SampleFiles]:
        """Yields the samples below the root, in one pass over its files."""
        images = []
        cameras = set()
        for file in self._storage.list_files():
            if file.path.endswith("_cam.txt"):
                cameras.add(file.path)
            elif match := _IMAGE.fullmatch(file.path):
                images.append(match)
        for match in images:
            folder, frame = match["folder"], match["frame"]
            camera = f"{folder}/cams/{frame}_cam.txt"
            yield SampleFiles(
                sample_id=f"{folder}/{frame}",
                scene=match["scene"],
                image=match.string,
                depth=f"{folder}/rendered_depth_maps/{frame}.pfm",
                extra=(camera,) if camera in cameras else (),
            )

    def _intrinsics(self, path: str) -> Intrinsics:
        """Returns the camera of a file in MVSNet's format: a 3 x 3 matrix below `intrinsic`."""
        where = self._storage.where(path)
        match = _CAMERA.search(decode_text(self.read_bytes(path), where=where))
        try:
            numbers = [float(number) for number in match["numbers"].split()] if match else []
        except ValueError:
            numbers = []
        if len(numbers) != 9 or not np.isfinite(numbers).all() or min(numbers[0], numbers[4]) <= 0:
            raise ValueError(f"{where}: expected nine numbers below 'intrinsic', got other text")
        return Intrinsics(fx_px=numbers[0], fy_px=numbers[4], cx_px=numbers[2], cy_px=numbers[5])
