"""Virtual KITTI 2 (Cabon et al. 2020, arXiv:2001.10773): driving scenes in ten variations.

Axes: H height, W width (pixels).
Depth is a 16-bit PNG in centimetres along the optical axis; 65535 (655.35 m) is the sky.
"""

import re
from pathlib import PurePosixPath

import numpy as np

from dav2.data.png16 import decode_png16
from dav2.data.reader import FileReader, check_measured, check_samples, decode_text
from dav2.data.sample import DepthSample, Intrinsics, SampleFiles

_SCENES = {"train": ("Scene02", "Scene06", "Scene18", "Scene20"), "val": ("Scene01",)}
_FRAME = re.compile(r"(?P<scene>[^/]+)/[^/]+/frames/rgb/Camera_[^/]+/rgb_[^/]+\.jpg")
_SKY = 65535
_CENTIMETRES = np.float32(100)
# The dataset's intrinsic.txt, the same for every frame of 375 x 1242 pixels. Its centre, (620.5,
# 187), counts from the middle of the first pixel, ours from its corner.
_PUBLISHED_SIZE = (375, 1242)
_PUBLISHED_CAMERA = Intrinsics(fx_px=725.0087, fy_px=725.0087, cx_px=621.0, cy_px=187.5)


class VirtualKitti2(FileReader):
    """Reads `SceneXX/<variation>/frames/{rgb,depth}/Camera_X/{rgb_,depth_}00000.{jpg,png}`.

    A split is `splits/<split>.txt` where the root has one: lines of an image and its depth map, as
    the released metric models were trained. Otherwise Marigold's rule: `train` is Scene02, 06, 18
    and 20, `val` is Scene01.
    """

    def list_samples(self, split: str) -> list[SampleFiles]:
        """Returns the frames of a split."""
        self._check_root()
        listed = f"splits/{split}.txt"
        samples = []
        if self._storage.status(listed) is not None:
            where = self._storage.where(listed)
            samples = _listed_samples(decode_text(self.read_bytes(listed), where=where), where)
        elif split in _SCENES:
            for file in self._storage.list_files():
                frame = _FRAME.fullmatch(file.path)
                if frame and frame["scene"] in _SCENES[split]:
                    samples.append(_sample(file.path, where=file.path))
        else:
            raise ValueError(
                f"{self._storage.where()}: expected split 'train', 'val' or one listed as "
                f"{split}.txt in splits/, got {split!r}"
            )
        return check_samples(samples, where=self._storage.where(), split=split)

    def read(self, files: SampleFiles) -> DepthSample:
        """Returns one frame; zero centimetres are not valid."""
        image = self.read_image(files)
        assert files.depth is not None
        where = self._storage.where(files.depth)
        stored = decode_png16(self.read_bytes(files.depth), size=image.shape[:2], where=where)
        sky = stored == _SKY
        valid = stored > 0
        depth = np.where(sky, np.float32(np.inf), stored / _CENTIMETRES)
        check_measured(stored, valid, sky, where=where)
        return DepthSample(
            sample_id=files.sample_id,
            dataset="vkitti2",
            scene=files.scene,
            image=image,
            depth=depth,
            valid=valid,
            sky=sky,
            intrinsics=_PUBLISHED_CAMERA if image.shape[:2] == _PUBLISHED_SIZE else None,
        )


def _listed_samples(text: str, where: str) -> list[SampleFiles]:
    samples = []
    for number, line in enumerate(text.splitlines(), start=1):
        names = line.split()
        if not names:
            continue
        if len(names) != 2:
            raise ValueError(
                f"{where} line {number}: expected an image and a depth map, got {len(names)} names"
            )
        samples.append(_sample(names[0], names[1], where=f"{where} line {number}"))
    return samples


def _sample(image: str, depth: str | None = None, *, where: str) -> SampleFiles:
    """Names a frame `Scene01/clone/Camera_0/00000`; its depth lies beside it unless given."""
    path = PurePosixPath(image)
    if len(path.parts) != 6 or path.parts[2:4] != ("frames", "rgb"):
        raise ValueError(
            f"{where}: expected SceneXX/<variation>/frames/rgb/Camera_X/rgb_NNNNN.jpg, "
            f"got {image!r}"
        )
    scene, variation, frames, _, camera, name = path.parts
    number = PurePosixPath(name).stem.removeprefix("rgb_")
    return SampleFiles(
        sample_id=f"{scene}/{variation}/{camera}/{number}",
        scene=scene,
        image=image,
        depth=depth or f"{scene}/{variation}/{frames}/depth/{camera}/depth_{number}.png",
    )
