"""The policy of promotion, and the comparison of two models image by image.

Axes: N images.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, assert_never

import numpy as np
import pandas as pd
from jaxtyping import Float64
from pydantic import Field, NonNegativeFloat, PositiveInt

from dav2.metrics.bootstrap import bootstrap_interval
from stages.params import Params

POLICY = Path("mlflow/promotion.yaml")


class PromotionRule(Params):
    """One thing that a challenger must show against the champion."""

    models: str
    """Registered models it is about, as a shell pattern."""
    measures: Annotated[tuple[str, ...], Field(min_length=1)]
    """`<source>/<measure>`, `metric/<source>/<measure>` in metres, `da2k/<scenario>` or `da2k/all`:
    as `metrics.json` has them."""
    better: Literal["higher", "lower"]
    demand: Literal["gain", "hold"]
    """`gain`: the interval of the gain lies above `margin`; `hold`: above -`margin`."""
    margin: NonNegativeFloat


class PromotionParams(Params):
    """When a challenger becomes champion."""

    manual_approval: bool
    num_resamples: PositiveInt
    """Draws behind an interval."""
    rules: Annotated[tuple[PromotionRule, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found of one measure; the numbers are None where it could not be applied."""

    measure: str
    needs: str
    """What had to hold, in words."""
    champion: float | None
    challenger: float | None
    gain: float | None
    """Mean difference over images, positive where the challenger is better."""
    low: float | None
    """Its 95 % interval."""
    high: float | None
    num_images: int
    is_met: bool
    seen: str

    def row(self) -> dict[str, Any]:
        """Returns it as a row of a table."""
        return asdict(self)


def compare(
    params: PromotionParams, name: str, *, challenger: Path, champion: Path
) -> list[Finding]:
    """Returns what every rule for a registered model finds.

    A rule whose measure one of the two lacks is not met: a policy that cannot be applied must not
    let pass.

    Args:
        params: The policy.
        name: Registered model.
        challenger: Folder with the tables of its evaluation.
        champion: The same of the champion, on the same images by the same protocol.

    Raises:
        ValueError: If no rule is about this model.
    """
    rules = [rule for rule in params.rules if fnmatchcase(name, rule.models)]
    if not rules:
        raise ValueError(f"{POLICY}: expected rules for {name}, got none")
    return [
        _judge(rule, measure, challenger, champion, params.num_resamples)
        for rule in rules
        for measure in rule.measures
    ]


def as_table(findings: Sequence[Finding]) -> str:
    """Returns findings as a table in markdown, one row a measure."""
    head = ["", "measure", "champion", "challenger", "gain", "95 % interval", "images", "needs"]
    lines = [head, ["---"] * len(head)]
    for found in findings:
        numbers = [found.champion, found.challenger, found.gain]
        interval = "" if found.low is None else f"{found.low:+.4f} to {found.high:+.4f}"
        lines.append(
            [
                "holds" if found.is_met else "FAILS",
                found.measure,
                *("" if number is None else f"{number:.4f}" for number in numbers),
                interval or found.seen,
                str(found.num_images),
                found.needs,
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _judge(
    rule: PromotionRule, measure: str, challenger: Path, champion: Path, num_resamples: int
) -> Finding:
    sign = 1.0 if rule.better == "higher" else -1.0
    match rule.demand:
        case "gain":
            limit, needs = rule.margin, f"better by more than {rule.margin:g}"
        case "hold":
            limit, needs = -rule.margin, f"worse by less than {rule.margin:g}"
        case _:
            assert_never(rule.demand)
    needs += f"; {rule.better} is better"
    try:
        new, old = _per_image(measure, challenger), _per_image(measure, champion)
        if not new.index.equals(old.index) or not new["count"].equals(old["count"]):
            raise ValueError("measured on other images than the champion")
    except ValueError as error:
        return Finding(measure, needs, None, None, None, None, None, 0, False, str(error))
    counts = new["count"].to_numpy(np.float64)
    sums = sign * (new["sum"] - old["sum"]).to_numpy(np.float64)
    low, high = bootstrap_interval(sums, counts, num_resamples=num_resamples)
    return Finding(
        measure=measure,
        needs=needs,
        champion=_mean(old["sum"].to_numpy(np.float64), counts),
        challenger=_mean(new["sum"].to_numpy(np.float64), counts),
        gain=_mean(sums, counts),
        low=low,
        high=high,
        num_images=len(counts),
        is_met=low > limit,
        seen=f"{low:+.4f} to {high:+.4f}",
    )


def _per_image(measure: str, folder: Path) -> pd.DataFrame:
    """Returns columns `sum` and `count` by sample; raises a `ValueError` if there is no image."""
    match measure.split("/"):
        case ["da2k", scenario]:
            rows = pd.read_parquet(folder / "pairs.parquet")
            rows = rows if scenario == "all" else rows[rows["scenario"] == scenario]
            values = rows.assign(value=rows["correct"].astype(np.float64))
        case ["metric", source, column]:
            values = _dense(folder, "metric", source, column)
        case [source, column]:
            values = _dense(folder, "relative", source, column)
        case _:
            raise ValueError("no such measure")
    if not len(values):
        raise ValueError(f"no image with it in {folder.name}")
    return values.groupby("sample_id", sort=True)["value"].agg(["sum", "count"])


def _dense(folder: Path, protocol: str, source: str, column: str) -> pd.DataFrame:
    rows = pd.read_parquet(folder / "per_image.parquet")
    if column not in rows:
        raise ValueError("no such measure")
    rows = rows[(rows["protocol"] == protocol) & (rows["source"] == source)]
    return rows.assign(value=rows[column]).dropna(subset=["value"])


def _mean(sums: Float64[np.ndarray, " N"], counts: Float64[np.ndarray, " N"]) -> float:
    return float(sums.sum() / counts.sum())
