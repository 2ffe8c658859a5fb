"""The expectations that hold data to the limits of `gate_data`.

What each expectation catches, how small a fault it notices and what none of them can notice stands
in docs/gates.md, measured.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stages.gate_data_params import Domain, GateDataParams, Severity
from stages.gates import Check
from stages.sources import Role


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
