"""SA-1B (Kirillov et al. 2023, arXiv:2304.02643): photographs, read without their masks.

Axes: H height, W width (pixels).
The release is 1000 tars `sa_000000.tar` to `sa_000999.tar` with 11,185,362 images, each flat:
`sa_N.jpg` beside `sa_N.json` (masks, not read). The shorter side has 1500 pixels.
"""

import re
from collections.abc import Iterator

from dav2.data.photographs import PhotographReader
from dav2.data.sample import SampleFiles


class Sa1b(PhotographReader):
    """Reads `sa_N.jpg` in tars, in place, and in folders; any part of the release will do.

    A sample's scene is its tar or folder, "" at the root; the scenes say nothing of the content.
    The number of images is not checked, as no list of them comes with the release.
    """

    _dataset = "sa1b"
    _layout = "sa_N.jpg"
    _pattern = re.compile(r"(?:(?P<scene>.+)/)?(?P<id>sa_\d+)\.jpg")

    def list_samples(self, split: str) -> Iterator[SampleFiles]:
        """Yields all photographs; the only split is `all`."""
        self._refuse_split(split, "all")
        return self._stream(split)
