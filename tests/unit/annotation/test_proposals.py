"""Which pairs are worth asking about, and their balance against the vertical ramp."""

import numpy as np
import pytest

from dav2.annotation.proposals import (
    Proposal,
    balanced_proposals,
    pair_id,
    propose_pairs,
    scenario_of,
)

SIZE = (40, 60)
IMAGE = "images/indoor/a.jpg"
POINTS = np.array([[5, 10], [30, 50], [20, 30]])


def a_map(values) -> np.ndarray:
    prediction = np.full(SIZE, 1.0, dtype=np.float32)
    for (row, column), value in zip(POINTS, values, strict=True):
        prediction[row, column] = value
    return prediction


def proposed(models, *, truth=None, min_ratio=3.0, seed=0) -> list[Proposal]:
    return propose_pairs(
        IMAGE, POINTS, size=SIZE, models=models, truth=truth, min_ratio=min_ratio, seed=seed
    )


def ends(entry: Proposal) -> set[tuple[int, int]]:
    return {entry.point1, entry.point2}


def closer(entry: Proposal) -> tuple[int, int]:
    return entry.point1 if entry.proposed == "point1" else entry.point2


def test_models_that_agree_ask_nothing():
    one, other = a_map([8.0, 1.0, 4.0]), a_map([80.0, 2.0, 9.0])
    assert proposed({"one": one, "other": other}) == []


def test_a_pair_is_asked_where_one_of_three_models_differs():
    agreeing, differing = a_map([8.0, 1.0, 4.0]), a_map([1.0, 8.0, 2.9])
    found = proposed({"a": agreeing, "b": agreeing, "c": differing})
    asked = {frozenset(ends(entry)) for entry in found}
    assert asked == {frozenset({(5, 10), (30, 50)}), frozenset({(30, 50), (20, 30)})}
    entry = next(entry for entry in found if (5, 10) in ends(entry))
    assert closer(entry) == (5, 10)  # as most say
    assert entry.ratio == 8.0
    assert sorted(entry.votes.values()) != ["point1"] * 3


def test_what_models_hold_for_too_near_each_other_is_not_asked():
    one, other = a_map([2.9, 1.0, 0.9]), a_map([1.0, 2.9, 0.9])
    assert proposed({"one": one, "other": other}) == []
    found = proposed({"one": one, "other": other}, min_ratio=2.5)
    assert [ends(entry) for entry in found] == [{(5, 10), (30, 50)}]  # on the third they agree


def test_negative_inverse_depth_moves_its_zero():
    one, other = a_map([3.0, -1.0, 0.0]), a_map([1.0, 8.0, 4.0])
    found = {frozenset(ends(e)): e for e in proposed({"one": one, "other": other})}
    # 4 over a thousandth of the largest, which stands for 0.
    assert found[frozenset({(5, 10), (30, 50)})].ratio == pytest.approx(1000.0)


def test_known_depth_decides_and_models_that_agree_with_it_ask_nothing():
    truth = a_map([8.0, 1.0, 4.0])
    found = proposed({}, truth=truth)
    assert {closer(entry) for entry in found} == {(5, 10), (20, 30)}
    assert all(entry.ratio > 3 for entry in found)
    assert proposed({"right": truth}, truth=truth) == []
    wrong = proposed({"wrong": -truth}, truth=truth)
    assert [closer(e) for e in wrong] == [closer(e) for e in proposed({}, truth=truth)]
    truth[5, 10] = 0.0  # not known
    assert all((5, 10) not in ends(entry) for entry in proposed({}, truth=truth))


def test_the_seed_decides_order_and_which_point_comes_first():
    rng = np.random.default_rng(0)
    points = np.argwhere(np.ones(SIZE, dtype=bool))[::60]
    models = {name: rng.uniform(0.01, 1, SIZE).astype(np.float32) for name in "ab"}
    drawn = [
        propose_pairs(IMAGE, points, size=SIZE, models=models, min_ratio=3.0, seed=seed)
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    first = np.mean([entry.proposed == "point1" for entry in drawn[0]])
    assert 0.35 < first < 0.65  # always naming the first is chance
    assert all(entry.point1[0] != entry.point2[0] for entry in drawn[0])


def test_one_model_alone_cannot_disagree():
    with pytest.raises(ValueError, match=r"expected known depth or two models, got 1 model"):
        proposed({"one": a_map([1.0, 2.0, 3.0])})


def entry(image: str, number: int, *, upper: bool) -> Proposal:
    return Proposal(image, (number, 1), (number + 9, 2), "point1" if upper else "point2", 4.0)


def test_in_each_scenario_half_of_the_pairs_have_the_upper_point_closer():
    images = [f"images/{scenario}/{n}.jpg" for scenario in ("aerial", "indoor") for n in range(3)]
    candidates = {
        image: [
            *(entry(image, number, upper=True) for number in range(5)),
            *(entry(image, 20 + number, upper=False) for number in range(place)),
        ]
        for place, image in enumerate(images)
    }
    chosen = balanced_proposals(candidates, pairs_per_image=2)
    for scenario, count in (("aerial", 6), ("indoor", 6)):
        own = [pair for pair in chosen if scenario_of(pair.image) == scenario]
        assert len(own) == count
        assert 2 * sum(pair.upper_is_closer for pair in own) == count
    assert max(sum(p.image == image for p in chosen) for image in images) <= 3  # they take turns
    assert balanced_proposals({images[0]: candidates[images[0]]}, pairs_per_image=2) == []


def test_reviewers_see_no_answer_and_a_pair_has_one_name():
    pair = entry(IMAGE, 3, upper=True)
    assert set(pair.asked()) == {"id", "image", "point1", "point2"}
    assert pair.described()["proposed"] == "point1"
    assert pair_id(IMAGE, (1, 2), (0, 5)) == pair_id(IMAGE, (0, 5), (1, 2)) == f"{IMAGE}#0,5-1,2"
