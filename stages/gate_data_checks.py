"""What data must be like: limits, and the expectations that hold them.

What each expectation catches, how small a fault it notices and what none of them can notice stands
in docs/gates.md, measured.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from stages.gates import Check
from stages.params import Params
from stages.sources import Role

Fraction = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, le=1)]
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
    brightness: tuple[Fraction, Fraction]
    """Of the mean luma, 0 black to 1 white."""
    min_contrast: Annotated[float, Field(ge=0)]
    """Of the standard deviation of luma."""
    modes: Annotated[tuple[str, ...], Field(min_length=1)]
    """How colour is stored, by Pillow's names: neither grey (L) nor CMYK."""
    min_colourfulness: Fraction
    """Of the mean span of the channels: less is grey, stored as colour."""
    min_red_minus_blue: Annotated[float, Field(ge=-1, le=1)]
    """Of its mean in `min_warm` of the images: photographs are warm on the whole, swapped channels
    cold."""
    min_warm: Share


class DepthMapLimits(Params):
    """What the depth maps of a source must be like, whatever its domain."""

    min_valid_fraction: Fraction
    """Share of a map's pixels that must be measured."""
    max_nonfinite_fraction: Fraction
    """Share that may be NaN or infinite outside the sky."""
    min_levels: NonNegativeInt
    """Fewest different depths in most maps: 256 or less went through 8 bits."""
    max_fraction_at_limit: Fraction
    """Share of pixels that may hold the smallest, or the largest, depth of their map."""
    max_planarity_ratio: PositiveFloat
    """How flat planes may be against the same file read as distance or as inverse depth."""
    edge_slack: Fraction
    """By how much a mirrored or shifted depth map may fit the edges of its image better than the
    map itself: in a few images it does by chance."""
    min_aligned: Share
    """Share of a source's images that keep it."""
    min_with_sky: Share
    """Share of an outdoor source's images that show sky, where the source tells it."""


class GateDataParams(Params):
    """What data must be like before anything is trained on it."""

    min_samples: dict[Role, CountLimits]
    images: ImageLimits
    depth_maps: DepthMapLimits
    depth: dict[Domain, DepthLimits]
    mostly: Share
    """Share of a source's samples that must keep each limit on a single sample."""
    usually: Share
    """Share that must keep each limit on what is typical of a source."""
    max_quarantined_fraction: Fraction
    """Share of a source's samples in quarantine above which the gate warns."""
    max_duplicate_fraction: Fraction
    """Share of a role's samples that may look like one of another scene above which it warns."""
    max_other_sizes: Fraction
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


@dataclass(frozen=True, slots=True)
class SourceTable:
    """One source's rows of some splits."""

    name: str
    """Of the table."""
    roles: tuple[Role, ...]
    """That these splits serve: they are judged once for all of them."""
    source: str
    domain: Domain
    has_depth: bool


def role_checks(params: GateDataParams, role: Role) -> Iterator[Check]:
    """Yields what must hold of all samples of a role together."""
    import great_expectations.expectations as gxe

    in_set, unique = gxe.ExpectColumnValuesToBeInSet, gxe.ExpectColumnValuesToBeUnique
    yield count_check(role, role, params.min_samples[role].total, "")
    for says, expectation in (
        (
            "Every sample has an id of its own.",
            unique(column="sample_id", severity="critical"),
        ),
        (
            "No two samples hold the same bytes.",
            unique(column="content_hash", severity="warning"),
        ),
        (
            "Few samples look like one of another scene.",
            in_set(
                column="looks_like_another",
                value_set=[False],
                mostly=1 - params.max_duplicate_fraction,
                severity="warning",
            ),
        ),
        (
            "No sample held out for judging holds the image bytes of a training sample.",
            in_set(column="image_in_training", value_set=[False], severity="critical"),
        ),
        (
            "No sample held out for judging looks like a training sample of another scene.",
            in_set(column="look_in_training", value_set=[False], severity=params.near_leaks),
        ),
        (
            "No scene held out for judging is trained on.",
            in_set(column="scene_in_training", value_set=[False], severity=params.shared_scenes),
        ),
    ):
        yield Check(says, role, expectation, verdicts=(role,))


def image_checks(params: GateDataParams, table: SourceTable) -> Iterator[Check]:
    """Yields what must hold of the images of one source."""
    import great_expectations.expectations as gxe

    limits, source = params.images, table.source
    dark, bright = limits.brightness
    yield _between(
        table,
        f"Images of {source} are large (shorter side).",
        "short_side_px",
        min_value=limits.min_side_px,
        mostly=params.mostly,
        severity="critical",
    )
    for says, column, least, most, share in (
        ("are neither black nor white", "brightness", dark, bright, params.mostly),
        ("show something", "contrast", limits.min_contrast, None, params.mostly),
        ("show colours", "colourfulness", limits.min_colourfulness, None, params.mostly),
        (
            "are warm on the whole, or red and blue are swapped",
            "red_minus_blue",
            limits.min_red_minus_blue,
            None,
            limits.min_warm,
        ),
    ):
        yield _between(
            table,
            f"Images of {source} {says}.",
            column,
            min_value=least,
            max_value=most,
            mostly=share,
            severity="warning",
        )
    yield Check(
        f"Images of {source} are stored in colour.",
        table.name,
        gxe.ExpectColumnValuesToBeInSet(
            column="image_mode",
            value_set=list(limits.modes),
            mostly=params.mostly,
            severity="warning",
        ),
        verdicts=table.roles,
    )


def depth_checks(params: GateDataParams, table: SourceTable) -> Iterator[Check]:
    """Yields what must hold of the depth maps of one source."""
    import great_expectations.expectations as gxe

    source = table.source
    maps, domain = params.maps_of(source), params.depth[table.domain]
    low, high = domain.median_m
    ratio, limit = maps.max_planarity_ratio, maps.max_fraction_at_limit
    mostly, usually = params.mostly, params.usually
    rows: tuple[tuple[str, str, float | None, float | None, float, Severity], ...] = (
        (
            f"Most pixels of {source}'s depth maps are measured.",
            "valid_fraction",
            maps.min_valid_fraction,
            None,
            mostly,
            "critical",
        ),
        (
            f"Few pixels of {source}'s depth maps are NaN or infinite.",
            "nonfinite_fraction",
            None,
            maps.max_nonfinite_fraction,
            mostly,
            "critical",
        ),
        (
            f"Near depth of {source} is in metres (1st percentile, {table.domain}).",
            "depth_p01_m",
            domain.min_m,
            None,
            mostly,
            "critical",
        ),
        (
            f"Far depth of {source} is in metres (99th percentile, {table.domain}).",
            "depth_p99_m",
            None,
            domain.max_m,
            mostly,
            "critical",
        ),
        (
            f"Typical depth of {source} is in metres (median, {table.domain}).",
            "depth_p50_m",
            low,
            high,
            usually,
            "critical",
        ),
        (
            f"Depth maps of {source} did not pass through 8 bits (different depths).",
            "depth_levels",
            maps.min_levels,
            None,
            usually,
            "critical",
        ),
        (
            f"Near depth of {source} is not clipped (pixels at a map's smallest depth).",
            "depth_at_min_fraction",
            None,
            limit,
            mostly,
            "warning",
        ),
        (
            f"Far depth of {source} is not clipped, nor sky given a depth (pixels at the largest).",
            "depth_at_max_fraction",
            None,
            limit,
            mostly,
            "warning",
        ),
        (
            f"{source} holds depth, not inverse depth or disparity (planes are flat).",
            "planarity_over_inverse",
            None,
            ratio,
            usually,
            "critical",
        ),
        (
            f"{source} holds depth along the optical axis, not distance (planes are flat).",
            "planarity_over_distance",
            None,
            ratio,
            usually,
            "critical",
        ),
    )
    for says, column, least, most, share, severity in rows:
        yield _between(
            table,
            says,
            column,
            min_value=least,
            max_value=most,
            mostly=share,
            severity=severity,
        )
    facts: list[tuple[str, str, bool, float, Severity]] = [
        (f"No depth map of {source} is flat.", "depth_constant", False, mostly, "critical"),
        (
            f"Depth maps of {source} lie on their images (steps of depth on edges).",
            "aligned",
            True,
            maps.min_aligned,
            "critical",
        ),
    ]
    if "evaluation" not in table.roles:
        says, share = f"Depth maps of {source} have one size.", 1 - params.max_other_sizes
        facts.append((says, "has_common_size", True, share, "warning"))
    if table.domain == "outdoor":
        says = f"Images of {source} show sky, which the source tells."
        facts.append((says, "shows_sky", True, maps.min_with_sky, "warning"))
    for says, column, value, share, severity in facts:
        expectation = gxe.ExpectColumnValuesToBeInSet(
            column=column, value_set=[value], mostly=share, severity=severity
        )
        yield Check(says, table.name, expectation, verdicts=table.roles)


def source_checks(params: GateDataParams, role: Role) -> Iterator[Check]:
    """Yields what must hold of the counts of a role's sources."""
    import great_expectations.expectations as gxe

    table = f"{role} sources"
    yield Check(
        "Every source named for the role gives samples.",
        table,
        gxe.ExpectColumnValuesToBeBetween(column="samples", min_value=1, severity="critical"),
        verdicts=(role,),
    )
    yield Check(
        "Few samples of each source are in quarantine.",
        table,
        gxe.ExpectColumnValuesToBeBetween(
            column="quarantined_fraction",
            max_value=params.max_quarantined_fraction,
            severity="warning",
        ),
        verdicts=(role,),
    )


def count_check(role: Role, table: str, fewest: int, which: str) -> Check:
    """Returns that a table has enough rows; `which` ends in a space if it is not empty."""
    import great_expectations.expectations as gxe

    expectation = gxe.ExpectTableRowCountToBeBetween(min_value=fewest, severity="critical")
    return Check(
        f"There are enough samples {which}for this role.", table, expectation, verdicts=(role,)
    )


def _between(table: SourceTable, says: str, column: str, **limits: Any) -> Check:
    import great_expectations.expectations as gxe

    expectation = gxe.ExpectColumnValuesToBeBetween(column=column, **limits)
    return Check(says, table.name, expectation, verdicts=table.roles)
