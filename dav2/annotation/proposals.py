"""Proposes pairs of points: those on which models disagree, or those that known depth tells apart.

Axes: H height, W width (pixels), N points, 2 row and column.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float, Int

Point = tuple[int, int]
"""Row and column."""

MIN_DISTANCE = 0.05
"""Of the points of a pair, as a share of the image's diagonal: nearer ones cannot be told apart."""
_SMALLEST_SHARE = 1e-3
"""Of a map's largest inverse depth: what is below counts as this, so that ratios are finite."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Two points, in an order that says nothing, and what is thought of them."""

    image: str
    """`images/<scenario>/<file>`, as DA-2K has it."""
    point1: Point
    point2: Point
    proposed: str
    """`point1` or `point2`: thought closer, by known depth or by most models."""
    ratio: float
    """Of their depths: known, or the largest that a model predicts."""
    votes: Mapping[str, str] = field(default_factory=dict)
    """Which point each model thinks closer."""

    @property
    def pair_id(self) -> str:
        """Names the pair; the same two points of an image are the same pair."""
        return pair_id(self.image, self.point1, self.point2)

    @property
    def upper_is_closer(self) -> bool:
        """Whether the point thought closer is the upper one."""
        first_is_upper = self.point1[0] < self.point2[0]
        return first_is_upper == (self.proposed == "point1")

    def asked(self) -> dict[str, Any]:
        """Returns what a reviewer may see: no hint of an answer."""
        return {
            "id": self.pair_id,
            "image": self.image,
            "point1": list(self.point1),
            "point2": list(self.point2),
        }

    def described(self) -> dict[str, Any]:
        """Returns all of it, JSON-able."""
        votes = dict(sorted(self.votes.items()))
        thought = {"proposed": self.proposed, "ratio": round(self.ratio, 3), "votes": votes}
        return self.asked() | thought


def pair_id(image: str, one: Point, other: Point) -> str:
    """Returns the name of a pair, whichever of its points comes first."""
    ends = sorted([tuple(one), tuple(other)])
    return f"{image}#" + "-".join(f"{row},{column}" for row, column in ends)


def propose_pairs(
    image: str,
    points: Int[np.ndarray, "N 2"],
    *,
    size: tuple[int, int],
    models: Mapping[str, Float[np.ndarray, "H W"]],
    truth: Float[np.ndarray, "H W"] | None = None,
    min_ratio: float,
    seed: int,
) -> list[Proposal]:
    """Returns all pairs worth asking about, in an order that the seed decides.

    As for DA-2K (Yang et al. 2024, arXiv:2406.09414, section 6), where models vote on pairs of
    objects, pairs are kept on which at least one model differs from the others, or from known
    depth. Without models, known depth alone decides. Of both kinds the ratio of depths must be
    large enough for a person to tell: that of known depth, else the largest that a model predicts.

    Args:
        image: As a proposal has it.
        points: Candidates; each pair of them is considered.
        size: Height and width of the image.
        models: For each its prediction, inverse depth up to scale: 0 is infinitely far. Values
            below 0, of a map of unknown shift, move its zero to its minimum.
        truth: Inverse depth, 1/m, 0 where not known; None: not known anywhere.
        min_ratio: Smallest ratio of depths.
        seed: Decides order, and which point comes first.

    Raises:
        ValueError: If there is neither truth nor a second model.
    """
    if truth is None and len(models) < 2:
        raise ValueError(f"{image}: expected known depth or two models, got {len(models)} model(s)")
    values = {name: _at(points, prediction) for name, prediction in models.items()}
    known = None if truth is None else truth[points[:, 0], points[:, 1]].astype(np.float64)
    rng = np.random.default_rng(_seed(image, seed))
    diagonal = float(np.hypot(*size))
    pairs = list(combinations(range(len(points)), 2))
    found = []
    for place in rng.permutation(len(pairs)):
        first, second = pairs[place] if rng.integers(2) else pairs[place][::-1]
        apart = np.hypot(*(points[first] - points[second]))
        if apart < MIN_DISTANCE * diagonal or points[first][0] == points[second][0]:
            continue
        if known is not None and min(known[first], known[second]) <= 0:
            continue
        votes = {name: _closer(at[first], at[second]) for name, at in values.items()}
        if known is not None:
            proposed, ratio = _closer(known[first], known[second]), _ratio(known, first, second)
            is_disputed = not votes or set(votes.values()) != {proposed}
        else:
            ratios = {name: _ratio(at, first, second) for name, at in values.items()}
            surest = max(ratios, key=lambda name: ratios[name])
            proposed, ratio = _majority(votes, votes[surest]), ratios[surest]
            is_disputed = len(set(votes.values())) > 1
        if is_disputed and ratio > min_ratio:
            ends = [(int(row), int(column)) for row, column in points[[first, second]]]
            found.append(Proposal(image, ends[0], ends[1], proposed, ratio, votes))
    return found


def balanced_proposals(
    candidates: Mapping[str, Sequence[Proposal]], *, pairs_per_image: int
) -> list[Proposal]:
    """Returns proposals of which, in each scenario, half have the upper point closer.

    No vertical ramp then does better than chance on them. Images take turns, so that none gives
    more than it must.

    Args:
        candidates: For each image what `propose_pairs` returned.
        pairs_per_image: How many on average; fewer where a scenario lacks one kind.
    """
    scenarios: dict[str, list[str]] = {}
    for image in sorted(candidates):
        scenarios.setdefault(scenario_of(image), []).append(image)
    chosen: list[Proposal] = []
    for images in scenarios.values():
        kinds = []
        for is_upper in (True, False):
            queues = [
                [entry for entry in candidates[image] if entry.upper_is_closer == is_upper]
                for image in images
            ]
            longest = max(map(len, queues), default=0)
            kinds.append(
                [queue[rank] for rank in range(longest) for queue in queues if rank < len(queue)]
            )
        count = min(len(images) * pairs_per_image // 2, *map(len, kinds))
        chosen += [entry for kind in kinds for entry in kind[:count]]
    return sorted(chosen, key=lambda entry: entry.pair_id)


def scenario_of(image: str) -> str:
    """Returns the scenario of `images/<scenario>/<file>`."""
    return image.split("/")[1]


def _at(
    points: Int[np.ndarray, "N 2"], prediction: Float[np.ndarray, "H W"]
) -> Float[np.ndarray, " N"]:
    """Returns a prediction at the points, 0 at infinity, kept off 0."""
    values = prediction.astype(np.float64)
    values = values - min(0.0, float(values.min()))
    smallest = _SMALLEST_SHARE * float(values.max())
    at: Float[np.ndarray, " N"] = np.maximum(values[points[:, 0], points[:, 1]], smallest)
    return at


def _closer(first: float, second: float) -> str:
    return "point1" if first > second else "point2"


def _ratio(values: Float[np.ndarray, " N"], first: int, second: int) -> float:
    high, low = max(values[first], values[second]), min(values[first], values[second])
    return float(high / low) if low > 0 else 1.0


def _majority(votes: Mapping[str, str], otherwise: str) -> str:
    first = sum(vote == "point1" for vote in votes.values())
    if 2 * first == len(votes):
        return otherwise
    return "point1" if 2 * first > len(votes) else "point2"


def _seed(image: str, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{image}".encode()).digest()[:8], "big")
