"""ImageNet-21K (Deng et al. 2009; winter 2021 release): photographs by synset.

Axes: H height, W width (pixels).
The release, `winter21_whole`, holds 13,153,500 images in one tar a synset (19,167 of them):
`nXXXXXXXX.tar` with `nXXXXXXXX_N.JPEG`. Its WebDataset form is read by `dav2.data.webdataset`.
Unverified: that every image carries the name of the tar it lies in; others are refused.
"""

import re
from collections.abc import Iterator

from dav2.data.photographs import PhotographReader
from dav2.data.sample import SampleFiles


class ImageNet21k(PhotographReader):
    """Reads `<synset>.tar`, in place, and `<synset>/`; the synset is a sample's scene.

    Any part of the release will do: the number of images is not checked, as no list comes with it.
    Names end in `.JPEG` whatever the format; what is neither JPEG, PNG nor WebP is unreadable.
    """

    _dataset = "imagenet21k"
    _layout = "<synset>/<synset>_N.JPEG, in a folder or a tar of the synset's name"
    _pattern = re.compile(r"(?:.+/)?(?P<scene>n\d{8})/(?P<id>(?P=scene)_\d+)\.JPEG")

    def list_samples(self, split: str) -> Iterator[SampleFiles]:
        """Yields all photographs; the only split is `all`."""
        self._refuse_split(split, "all")
        return self._stream(split)
