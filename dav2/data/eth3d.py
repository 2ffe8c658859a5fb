"""ETH3D high-resolution (Schöps et al., CVPR 2017): photographs with depth from a laser scanner.

Axes: H height, W width (pixels).
Depth is metres along the optical axis, for the photographs as taken, distorted by their lens. A map
has no header: float32, little-endian, row by row, as many as the photograph has pixels (published:
4032 x 6048); inf where the scanner saw nothing.
"""

import re

import numpy as np

from dav2.data.images import EncodedImage
from dav2.data.reader import FileReader, check_count, check_measured, check_samples
from dav2.data.sample import DepthSample, SampleFiles

_VIEW = re.compile(r"(?P<scene>[^/]+)/images/dslr_images/(?P<name>[^/]+)\.JPG")
_BYTES_PER_PIXEL = 4
# The training scenes on www.eth3d.net, counted in the list of Lotus: 454 photographs.
_PUBLISHED_COUNTS = {
    "courtyard": 38,
    "delivery_area": 44,
    "electro": 45,
    "facade": 76,
    "kicker": 31,
    "meadow": 15,
    "office": 26,
    "pipes": 14,
    "playground": 38,
    "relief": 31,
    "relief_2": 31,
    "terrace": 23,
    "terrains": 42,
}


class Eth3d(FileReader):
    """Reads `<scene>/images/dslr_images/*.JPG` with `<scene>/ground_truth_depth/dslr_images/*.JPG`.

    The latter are depth maps, whatever their suffix. The only split is `train`, of which depth is
    public; photographs without depth are left out. Where all 13 scenes are there the split must
    have the published 454 samples. There are no intrinsics, as the lens is no pinhole.

    Unverified: whether a photograph is stored turned; one that is would not fit its depth and is
    refused.
    """

    def list_samples(self, split: str) -> list[SampleFiles]:
        """Returns the photographs with depth; the only split is `train`."""
        found = {file.path for file in self._storage.list_files()}
        self._refuse_split(split, "train")
        samples = []
        for path in found:
            view = _VIEW.fullmatch(path)
            if view is None:
                continue
            depth = f"{view['scene']}/ground_truth_depth/dslr_images/{view['name']}.JPG"
            if depth in found:
                samples.append(
                    SampleFiles(
                        sample_id=f"{view['scene']}/{view['name']}",
                        scene=view["scene"],
                        image=path,
                        depth=depth,
                    )
                )
        where = self._storage.where()
        if {files.scene for files in samples} == set(_PUBLISHED_COUNTS):
            check_count(samples, sum(_PUBLISHED_COUNTS.values()), where=where, split=split)
        return check_samples(samples, where=where, split=split)

    def read(self, files: SampleFiles) -> DepthSample:
        """Returns one photograph; valid is where depth is finite and above zero."""
        photograph, name = self.read_bytes(files.image), self._storage.where(files.image)
        encoded = EncodedImage(photograph, max_pixels=self._max_pixels, where=name)
        header = encoded.header()
        if header.format != "JPEG":
            raise ValueError(f"{name}: expected a JPEG, as all are, got {header.format}")
        if header.orientation != 1:
            raise ValueError(
                f"{name}: expected a JPEG stored as its depth map is, got one that EXIF turns "
                f"(orientation {header.orientation})"
            )
        image = encoded.decode()
        assert files.depth is not None
        where = self._storage.where(files.depth)
        data = self.read_bytes(files.depth)
        size = (image.shape[0], image.shape[1])
        if len(data) != _BYTES_PER_PIXEL * size[0] * size[1]:
            raise ValueError(
                f"{where}: expected {size[0]} x {size[1]} float32 values, as the image has pixels, "
                f"got {len(data)} bytes"
            )
        depth = np.frombuffer(data, "<f4").reshape(size).astype(np.float32)
        valid = np.isfinite(depth) & (depth > 0)
        check_measured(depth, valid, None, where=where)
        return DepthSample(
            sample_id=files.sample_id,
            dataset="eth3d",
            scene=files.scene,
            image=image,
            depth=depth,
            valid=valid,
            sky=None,
            intrinsics=None,
        )
