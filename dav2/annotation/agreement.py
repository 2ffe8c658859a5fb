"""How far reviewers agree.

Axes: S subjects, C categories.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Int

from dav2.annotation.answers import ANSWERS, Judged
from dav2.annotation.proposals import scenario_of


def cohen_kappas(judged: Sequence[Judged]) -> dict[str, float | None]:
    """Returns Cohen's kappa of every two reviewers over the pairs that both answered.

    None where it is not defined: no pair in common, or one answer to all of them.
    """
    from sklearn.metrics import cohen_kappa_score

    reviewers = sorted({name for entry in judged for name in entry.answers})
    found: dict[str, float | None] = {}
    for one, other in combinations(reviewers, 2):
        both = [
            (entry.answers[one], entry.answers[other])
            for entry in judged
            if one in entry.answers and other in entry.answers
        ]
        is_defined = len({answer for pair in both for answer in pair}) > 1
        value = cohen_kappa_score(*zip(*both, strict=True)) if is_defined else None
        found[f"{one}, {other}"] = None if value is None else float(value)
    return found


def fleiss_kappa(counts: Int[np.ndarray, "S C"]) -> float | None:
    """Returns Fleiss' kappa: agreement of several raters beyond chance.

    Fleiss 1971 (Measuring nominal scale agreement among many raters), equations 1 to 7.

    Args:
        counts: Raters who put each subject into each category; the same number for each subject.

    Returns:
        1 where all agree; None where it is not defined: no subject, one rater, or one category.

    Raises:
        ValueError: If subjects have different numbers of raters.
    """
    raters = counts.sum(axis=1)
    if len(set(raters.tolist())) > 1:
        raise ValueError(f"kappa: expected as many raters for each subject, got {set(raters)}")
    if not len(counts) or raters[0] < 2 or np.count_nonzero(counts.sum(axis=0)) < 2:
        return None
    number = int(raters[0])
    observed = ((counts**2).sum(axis=1) - number) / (number * (number - 1))
    expected = float(((counts.sum(axis=0) / counts.sum()) ** 2).sum())
    return (float(observed.mean()) - expected) / (1 - expected)


def agreement(judged: Sequence[Judged]) -> dict[str, Any]:
    """Returns how far reviewers agree, JSON-able: by pair, two by two, and all together."""
    reviewers = sorted({name for entry in judged for name in entry.answers})
    all_answered = [entry for entry in judged if len(entry.answers) == len(reviewers)]
    counts = np.array(
        [[list(e.answers.values()).count(answer) for answer in ANSWERS] for e in all_answered],
        dtype=np.int64,
    ).reshape(-1, len(ANSWERS))
    fleiss = fleiss_kappa(counts)
    decided = [entry for entry in judged if entry.closer is not None]
    scenarios = Counter(scenario_of(entry.pair.image) for entry in decided)
    upper = Counter(scenario_of(entry.pair.image) for entry in decided if _upper_is_closer(entry))
    return {
        "reviewers": {name: sum(name in e.answers for e in judged) for name in reviewers},
        "num_pairs": {
            "decided": len(decided),
            "without_majority": sum(e.is_finished and e.closer is None for e in judged),
            "unfinished": sum(not entry.is_finished for entry in judged),
        },
        "mean_agreement": (
            round(float(np.mean([e.agreement for e in judged if e.is_finished])), 6)
            if any(e.is_finished for e in judged)
            else None
        ),
        "fleiss_kappa": None if fleiss is None else round(fleiss, 6),
        "cohen_kappa": {
            name: None if value is None else round(value, 6)
            for name, value in cohen_kappas(judged).items()
        },
        "scenarios": {
            name: {"pairs": count, "upper_is_closer": upper[name]}
            for name, count in sorted(scenarios.items())
        },
        "pairs": [
            {
                "id": entry.pair.pair_id,
                "answers": dict(sorted(entry.answers.items())),
                "agreement": round(entry.agreement, 6),
                "closer_point": entry.closer,
                "finished": entry.is_finished,
            }
            for entry in judged
        ],
    }


def _upper_is_closer(entry: Judged) -> bool:
    first_is_upper = entry.pair.point1[0] < entry.pair.point2[0]
    return first_is_upper == (entry.closer == "point1")
