"""How a folder of one's own is laid out and what its depth files hold, checked as a whole."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from dav2.data.option_values import check_flag, check_number, check_numbers, check_text
from dav2.data.templates import NameTemplate

KINDS = ("depth", "distance", "inverse_depth", "disparity")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
DEPTH_SUFFIXES = (".png", ".npy", ".npz", ".exr", ".pfm")


@dataclass(frozen=True, slots=True)
class OwnOptions:
    """What must be stated: `kind`, `scale`, and where images and depth are.

    Either `images` and `depth` are templates, as `{scene}/rgb/{frame}.jpg` and
    `{scene}/depth/{frame}.png`; or neither is given and `split_lists` name files of two columns,
    an image and its depth map. In a template `{name}` stands for what may differ within one folder
    or name and `{path}` for any folders. `{scene}` becomes the sample's scene, which must not be in
    a training and a held-out split; without it that is the image's folder. `{split}` makes splits
    of folders.
    """

    kind: str = ""
    """`depth` along the optical axis, `distance` along the ray, `inverse_depth` or `disparity`."""
    scale: int | float | None = None
    """A stored value times this is metres, 1/m for inverse depth, pixels for disparity: 0.001 for
    millimetres, 1 for metres."""
    images: str = ""
    depth: str = ""
    """16-bit PNG, NPY, NPZ of one array, OpenEXR or PFM, told by the suffix."""
    split_lists: Mapping[str, str] = field(default_factory=dict)
    """Split to list, relative to the root: lines of an image as its template finds it, or of two
    columns without templates. With neither lists nor `{split}` the only split is `all`."""
    intrinsics: Sequence[int | float] | None = None
    """fx, fy, cx, cy in pixels. The centre of the upper left pixel is (0.5, 0.5): add 0.5 to cx and
    cy where it is (0, 0), as in OpenCV and ROS."""
    image_size: Sequence[int] | None = None
    """Height and width that `intrinsics` are for; images of another size are refused."""
    baseline_m: int | float | None = None
    """Of disparity."""
    scale_known: bool = True
    """False where depth is right up to one factor only; disparity then needs no baseline."""
    invalid: Sequence[int | float] = ()
    """Stored values that mean not measured. NaN, infinity and what is not above 0 always do, unless
    they are sky."""
    sky_value: int | float | None = None
    """The stored value that means sky, `.inf` too."""
    sky_from: int | float | None = None
    """Instead: stored values from this one on, towards farther, mean sky."""
    exr_channel: str | None = None
    """Which channel of OpenEXR files; None takes the only one."""
    skip_images_without_depth: bool = False
    """Leave them out instead of refusing the whole."""

    def __post_init__(self) -> None:
        """Checks what came from a file, each option alone and all together."""
        if self.kind and self.kind not in KINDS:
            raise ValueError(f"kind: expected {' or '.join(KINDS)}, got {self.kind!r}")
        for name in ("scale", "baseline_m"):
            if getattr(self, name) is not None:
                check_number(getattr(self, name), name=name, above=0)
        check_flag(self.scale_known, name="scale_known")
        check_flag(self.skip_images_without_depth, name="skip_images_without_depth")
        finite = self.invalid
        if isinstance(finite, list | tuple):
            finite = [value for value in finite if value != math.inf]
        check_numbers(finite, name="invalid")
        for name in ("sky_value", "sky_from"):
            if getattr(self, name) not in (None, math.inf):
                check_number(getattr(self, name), name=name)
        if self.sky_value is not None and self.sky_from is not None:
            raise ValueError("sky_from: expected sky_value or sky_from, got both")
        if self.exr_channel is not None:
            check_text(self.exr_channel, name="exr_channel")
        self._check_camera()
        self._check_names()

    def missing(self) -> str:
        """Returns what is still to be stated, or ""."""
        names = [] if self.kind else [f"kind ({', '.join(KINDS)})"]
        if self.scale is None:
            names.append("scale (stored value times this is metres, 1/m or pixels)")
        if not self.images and not self.split_lists:
            names.append("images and depth (as rgb/{frame}.jpg and depth/{frame}.png)")
        return "; ".join(names)

    def _check_camera(self) -> None:
        if (self.intrinsics is None) != (self.image_size is None):
            raise ValueError("image_size: expected intrinsics and image_size together, got one")
        if self.intrinsics is not None:
            check_numbers(self.intrinsics, name="intrinsics", count=4)
            check_numbers(self.image_size, name="image_size", count=2)
            for focal_px in self.intrinsics[:2]:
                check_number(focal_px, name="intrinsics: fx and fy", above=0)
        if self.kind == "distance" and self.intrinsics is None:
            raise ValueError("intrinsics: expected those of the camera for kind distance, got none")
        if self.kind == "disparity" and self.scale_known:
            if self.baseline_m is None or self.intrinsics is None:
                raise ValueError(
                    "baseline_m: expected baseline_m and intrinsics for kind disparity, or "
                    "scale_known: false, got neither"
                )
        elif self.baseline_m is not None:
            raise ValueError(
                "baseline_m: expected it for kind disparity of known scale alone, got "
                f"{self.baseline_m} for kind {self.kind or 'none'}"
            )

    def _check_names(self) -> None:
        if not isinstance(self.split_lists, Mapping):
            raise ValueError(
                f"split_lists: expected the path of a list for each split, got {self.split_lists!r}"
            )
        for split, path in self.split_lists.items():
            check_text(split, name="split_lists")
            check_text(path, name=f"split_lists: {split}")
        if bool(self.images) != bool(self.depth):
            raise ValueError("depth: expected images and depth, or neither, got one of them")
        if not self.images:
            return
        images = NameTemplate(self.images, name="images")
        depth = NameTemplate(self.depth, name="depth")
        if unknown := sorted(depth.placeholders - images.placeholders):
            raise ValueError(
                f"depth: expected placeholders that are in images, {self.images!r}, "
                f"got {{{unknown[0]}}}"
            )
        if self.images == self.depth:
            raise ValueError(
                f"depth: expected other files than images, got {self.depth!r} for both"
            )
        for name, text, known in (
            ("images", self.images, IMAGE_SUFFIXES),
            ("depth", self.depth, DEPTH_SUFFIXES),
        ):
            if PurePosixPath(text).suffix.lower() not in known:
                raise ValueError(f"{name}: expected a file {', '.join(known)}, got {text!r}")
        if "split" in images.placeholders and self.split_lists:
            raise ValueError("split_lists: expected lists or {split} in images, got both")
