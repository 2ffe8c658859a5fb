"""Kappas worked out by hand, and what the merged reviews report."""

import json

import numpy as np
import pytest

from dav2.annotation.agreement import agreement, cohen_kappas, fleiss_kappa
from dav2.annotation.answers import AskedPair, Review, judge

PAIRS = [AskedPair(f"images/indoor/{name}.jpg", (1, 2), (30, 4)) for name in "abcd"]
IDS = [pair.pair_id for pair in PAIRS]


def review(name: str, answers: str) -> Review:
    """Answers as letters: 1, 2, s, and - for none."""
    said = {"1": "point1", "2": "point2", "s": "skip"}
    given = {
        pair: said[letter] for pair, letter in zip(IDS, answers, strict=True) if letter in said
    }
    return Review(name, given, ())


def test_fleiss_kappa_of_a_table_worked_out_by_hand():
    # Three raters, two subjects: P_1 = 1, P_2 = 1/3, mean 2/3; p = (5/6, 1/6), P_e = 26/36.
    counts = np.array([[3, 0, 0], [2, 1, 0]])
    assert fleiss_kappa(counts) == pytest.approx((2 / 3 - 26 / 36) / (1 - 26 / 36))
    assert fleiss_kappa(np.array([[3, 0], [0, 3]])) == 1.0
    assert fleiss_kappa(np.array([[3, 0], [3, 0]])) is None  # one category: chance is certain
    assert fleiss_kappa(np.array([[1, 0], [0, 1]])) is None  # one rater
    assert fleiss_kappa(np.zeros((0, 3), dtype=np.int64)) is None
    with pytest.raises(ValueError, match="expected as many raters for each subject"):
        fleiss_kappa(np.array([[2, 0], [0, 3]]))


def test_cohens_kappa_of_two_reviewers_worked_out_by_hand():
    # Agree on 3 of 4; a says 1 twice and 2 twice, b 1 once: P_e = 1/2 1/4 + 1/2 3/4 = 1/2.
    judged = judge(PAIRS, [review("a", "1122"), review("b", "1222")], min_answers=2)
    assert cohen_kappas(judged) == {"a, b": pytest.approx((3 / 4 - 1 / 2) / (1 - 1 / 2))}
    same = judge(PAIRS, [review("a", "1111"), review("b", "1111")], min_answers=2)
    assert cohen_kappas(same) == {"a, b": None}


def test_agreement_counts_pairs_and_what_a_vertical_ramp_would_get():
    reviews = [review("a", "112s"), review("b", "12--")]
    found = agreement(judge(PAIRS, reviews, min_answers=2))
    assert found["reviewers"] == {"a": 4, "b": 2}
    assert found["num_pairs"] == {"decided": 1, "without_majority": 1, "unfinished": 2}
    assert found["scenarios"] == {"indoor": {"pairs": 1, "upper_is_closer": 1}}
    assert found["mean_agreement"] == 0.75
    json.dumps(found, allow_nan=False)
