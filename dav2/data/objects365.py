"""Objects365 (Shao et al. 2019, doi:10.1109/ICCV.2019.00852), second version: photographs.

Axes: H height, W width (pixels).
The release has `train/patch0.tar.gz` to `patch50.tar.gz` (1,742,289 images), `val/images/v1/
patch0.tar.gz` to `patch15.tar.gz` and `val/images/v2/patch16.tar.gz` to `patch43.tar.gz`, to be
gunzipped; files are `objects365_v1_NNNNNNNN.jpg` or `objects365_v2_NNNNNNNN.jpg`. This layout is
known from public code only. The annotations (`zhiyuan_objv2_*.json`) are not read.
"""

import re
from collections.abc import Iterator

from dav2.data.photographs import PhotographReader
from dav2.data.sample import SampleFiles


class Objects365(PhotographReader):
    """Reads `{train,val}/**/patchN.tar`, in place, and `{train,val}/**/*.jpg`.

    The patch is a sample's scene, "" without one. Any part of the release will do: the number of
    images is not checked, as the annotations that list them are not read.
    """

    _dataset = "objects365"
    _layout = "{train,val}/.../objects365_v{1,2}_NNNNNNNN.jpg"
    _pattern = re.compile(
        r"(?P<split>train|val)/(?:(?:.+/)?(?P<scene>patch\d+)/|.+/)?"
        r"(?P<id>objects365_v[12]_\d{8})\.jpg"
    )

    def list_samples(self, split: str) -> Iterator[SampleFiles]:
        """Yields the photographs of a split: `train` or `val`."""
        self._refuse_split(split, "train", "val")
        return self._stream(split)
