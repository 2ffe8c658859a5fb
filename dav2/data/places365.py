"""Places365 (Zhou et al. 2018, doi:10.1109/TPAMI.2017.2723009): photographs by kind of place.

Axes: H height, W width (pixels).
The standard release has 1.8 million training images, the challenge release some 8 million; the
authors of Depth Anything trained on 6.5 million without saying which.
Unverified: the names of the validation and test files (`val_256/Places365_val_00000001.jpg`), and
that the challenge release has the folders of the standard one. Other names are refused.
"""

import re
from collections.abc import Iterator

from dav2.data.photographs import PhotographReader
from dav2.data.sample import SampleFiles


class Places365(PhotographReader):
    """Reads both forms of the release, each in folders or in tars, in place.

    Easy format: `{train,val}/<class>/*.jpg`, at any depth. Original: `data_{256,large}/a/airfield/
    00000001.jpg` (training) and `{val,test}_{256,large}/Places365_{val,test}_00000001.jpg`. The
    class is a sample's scene; the original validation and test images have none. One form and size
    under a root: two would be the same images twice. The numbers of images are not checked, as the
    lists that tell them are not part of the images' archives.
    """

    _dataset = "places365"
    _layout = (
        "{train,val}/<class>/*.jpg, data_{256,large}/<letter>/<class>/NNNNNNNN.jpg or "
        "{val,test}_{256,large}/Places365_{val,test}_NNNNNNNN.jpg"
    )
    _pattern = re.compile(
        r"(?:.+/)?(?P<id>"
        r"(?P<split>train|val)/(?P<scene>[^/]+)/[^/]+"
        r"|data_(?:256|large)/(?P<class>[a-z]/[^/]+(?:/[^/]+)?)/\d{8}"
        r"|(?P<held_out>val|test)_(?:256|large)/Places365_(?P=held_out)_\d{8}"
        r")\.jpg"
    )

    def list_samples(self, split: str) -> Iterator[SampleFiles]:
        """Yields the photographs of a split: `train`, `val` or `test`."""
        self._refuse_split(split, "train", "val", "test")
        return self._stream(split)

    def _split_and_scene(self, match: re.Match[str]) -> tuple[str, str]:
        split = match["split"] or match["held_out"] or "train"
        return split, match["scene"] or match["class"] or ""
