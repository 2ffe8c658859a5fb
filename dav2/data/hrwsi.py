"""HR-WSI (Xian et al., CVPR 2020): stereo photographs from the web with disparity by optical flow.

Axes: H height, W width (pixels).
Ground truth is an 8-bit PNG, larger where nearer, known up to scale and shift, as the cameras are
not: only losses that ignore both may use it. A stored value v is given as inverse depth v + 1,
the shift being arbitrary, so that the farthest value, 0, has a depth, too. The mask tells where
forward and backward flow agree (issue 5 of the authors' repository). Sky is not told apart.
Unverified: the layout, and that of a mask what is not 0 is valid, are those of public loaders;
other bit depths or colours are refused.
"""

import re

import numpy as np
from jaxtyping import UInt8

from dav2.data.grey8 import decode_grey8
from dav2.data.reader import FileReader, check_measured, check_samples
from dav2.data.sample import DepthSample, SampleFiles

_IMAGE = re.compile(r"[^/]+/imgs/(?P<name>[^/]+)\.jpg")


class Hrwsi(FileReader):
    """Reads `<split>/imgs/*.jpg`, `<split>/gts/*.png` and `<split>/valid_masks/*.png`.

    Splits are `train` and `val`, 20,378 and 400 images in the release. It brings no list, so that
    no count is checked; every image is a scene of its own.
    """

    def list_samples(self, split: str) -> list[SampleFiles]:
        """Returns the images of a split."""
        self._check_root()
        self._refuse_split(split, "train", "val")
        samples = [
            SampleFiles(
                sample_id=f"{split}/{image['name']}",
                scene=f"{split}/{image['name']}",
                image=file.path,
                depth=f"{split}/gts/{image['name']}.png",
                extra=(f"{split}/valid_masks/{image['name']}.png",),
            )
            for file in self._storage.list_files(f"{split}/imgs")
            if (image := _IMAGE.fullmatch(file.path))
        ]
        return check_samples(samples, where=self._storage.where(split), split=split)

    def read(self, files: SampleFiles) -> DepthSample:
        """Returns one image; its inverse depth is the stored value plus 1."""
        image = self.read_image(files)
        assert files.depth is not None
        size = (image.shape[0], image.shape[1])
        stored = self._grey(files.depth, size)
        valid = self._grey(files.extra[0], size) > 0
        where = self._storage.where(files.depth)
        if stored.min() == stored.max():
            raise ValueError(f"{where}: expected disparity that varies, got {stored.min()} alone")
        check_measured(stored, valid, None, where=where)
        return DepthSample(
            sample_id=files.sample_id,
            dataset="hrwsi",
            scene=files.scene,
            image=image,
            depth=np.float32(1) / (stored.astype(np.float32) + 1),
            valid=valid,
            sky=None,
            intrinsics=None,
            scale_known=False,
        )

    def _grey(self, path: str, size: tuple[int, int]) -> UInt8[np.ndarray, "H W"]:
        return decode_grey8(self.read_bytes(path), size=size, where=self._storage.where(path))
