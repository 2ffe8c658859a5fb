"""Parameters of `gate_data`: limits that data must keep.

What each catches and how small a fault it notices stands in docs/gates.md, measured.
"""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from stages.params import Params
from stages.sources import Role

_Fraction = Annotated[float, Field(ge=0, le=1)]
_Share = Annotated[float, Field(gt=0, le=1)]
Domain = Literal["indoor", "outdoor", "mixed"]
Severity = Literal["critical", "warning"]


class DepthLimits(Params):
    """Metres between which a domain's depth lies."""

    min_m: PositiveFloat
    """Of the 1st percentile of an image's measured depth without sky."""
    max_m: PositiveFloat
    """Of the 99th percentile."""
    median_m: tuple[PositiveFloat, PositiveFloat]
    """Of the median, in most of a source's images: a wrong unit moves all of them."""


class CountLimits(Params):
    """Fewest samples of a role."""

    total: NonNegativeInt
    """Over all splits; 0 allows a role without samples."""
    splits: dict[str, PositiveInt]
    """For single splits."""


class ImageLimits(Params):
    """What the images of a source must be like."""

    min_side_px: PositiveInt
    """Of the shorter side."""
    brightness: tuple[_Fraction, _Fraction]
    """Of the mean luma, 0 black to 1 white."""
    min_contrast: Annotated[float, Field(ge=0)]
    """Of the standard deviation of luma."""
    modes: Annotated[tuple[str, ...], Field(min_length=1)]
    """How colour is stored, by Pillow's names: neither grey (L) nor CMYK."""
    min_colourfulness: _Fraction
    """Of the mean span of the channels: less is grey, stored as colour."""
    min_red_minus_blue: Annotated[float, Field(ge=-1, le=1)]
    """Of its mean in `min_warm` of the images: photographs are warm on the whole, swapped channels
    cold."""
    min_warm: _Share


class DepthMapLimits(Params):
    """What the depth maps of a source must be like, whatever its domain."""

    min_valid_fraction: _Fraction
    """Share of a map's pixels that must be measured."""
    max_nonfinite_fraction: _Fraction
    """Share that may be NaN or infinite outside the sky."""
    min_levels: NonNegativeInt
    """Fewest different depths in most maps: 256 or less went through 8 bits."""
    max_fraction_at_limit: _Fraction
    """Share of pixels that may hold the smallest, or the largest, depth of their map."""
    max_planarity_ratio: PositiveFloat
    """How flat planes may be against the same file read as distance or as inverse depth."""
    edge_slack: _Fraction
    """By how much a mirrored or shifted depth map may fit the edges of its image better than the
    map itself: in a few images it does by chance."""
    min_aligned: _Share
    """Share of a source's images that keep it."""
    min_with_sky: _Share
    """Share of an outdoor source's images that show sky, where the source tells it."""


class GateDataParams(Params):
    """What data must be like before anything is trained on it."""

    min_samples: dict[Role, CountLimits]
    images: ImageLimits
    depth_maps: DepthMapLimits
    depth: dict[Domain, DepthLimits]
    mostly: _Share
    """Share of a source's samples that must keep each limit on a single sample."""
    usually: _Share
    """Share that must keep each limit on what is typical of a source."""
    max_quarantined_fraction: _Fraction
    """Share of a source's samples in quarantine above which the gate warns."""
    max_duplicate_fraction: _Fraction
    """Share of a role's samples that may look like one of another scene above which it warns."""
    max_other_sizes: _Fraction
    """Share of a source's depth maps whose size is not its commonest above which it warns."""
    shared_scenes: Severity
    """What a scene both in a training and in a held-out split means."""
    near_leaks: Severity
    """What an image held out for judging means that looks like a training sample."""
    exceptions: dict[str, DepthMapLimits] = Field(default_factory=dict)
    """Limits of single sources, in place of `depth_maps`: laser scans measure few pixels."""

    def maps_of(self, source: str) -> DepthMapLimits:
        """Returns the limits on the depth maps of a source."""
        return self.exceptions.get(source, self.depth_maps)
