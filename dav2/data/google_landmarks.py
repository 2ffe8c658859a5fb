"""Google Landmarks v2 (Weyand et al. 2020, arXiv:2004.01804): photographs of landmarks.

Axes: H height, W width (pixels).
The release has `train/images_000.tar` to `train/images_499.tar` with 4,132,914 images, and `index/`
and `test/` of the same form. An image lies under the first three characters of its id:
`0/1/2/0123456789abcdef.jpg`. The tables (`train.csv`: which landmark) are not read.
"""

import re
from collections.abc import Iterator

from dav2.data.photographs import PhotographReader
from dav2.data.sample import SampleFiles


class GoogleLandmarks(PhotographReader):
    """Reads `<split>/images_NNN.tar`, in place, and the same unpacked below `<split>/`.

    A split is a folder of the root, as in the bucket of the release: `train`, `index`, `test`. The
    scene of a sample is the folder of three characters. Any part of the release will do: the number
    of images is not checked, as the tables that list them are not read.
    """

    _dataset = "google_landmarks"
    _layout = "<a>/<b>/<c>/<id>.jpg, where a, b, c begin an id of 16 hexadecimal digits"
    _pattern = re.compile(
        r"(?:.+/)?(?P<scene>(?P<a>[0-9a-f])/(?P<b>[0-9a-f])/(?P<c>[0-9a-f]))/"
        r"(?P<id>(?P=a)(?P=b)(?P=c)[0-9a-f]{13})\.jpg"
    )

    def list_samples(self, split: str) -> Iterator[SampleFiles]:
        """Yields the photographs of a split: `train`, `index` or `test`."""
        self._refuse_split(split, "train", "index", "test")
        return self._stream(split, folder=split)
