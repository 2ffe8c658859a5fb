"""Majorities and the export of reviewed pairs."""

import json

import pytest

from dav2.annotation.answers import (
    FORMAT,
    AskedPair,
    Review,
    annotations,
    judge,
    read_pairs,
    read_review,
)

PAIRS = [AskedPair(f"images/indoor/{name}.jpg", (1, 2), (30, 4)) for name in "abcd"]
IDS = [pair.pair_id for pair in PAIRS]


def review(name: str, answers: str, *entered: AskedPair) -> Review:
    """Answers as letters: 1, 2, s, and - for none."""
    said = {"1": "point1", "2": "point2", "s": "skip"}
    given = {
        pair: said[letter] for pair, letter in zip(IDS, answers, strict=True) if letter in said
    }
    return Review(name, given, entered)


def closer_of(judged) -> list:
    return [entry.closer for entry in judged]


def test_more_than_half_decide_and_skipping_counts_against():
    reviews = [review("a", "12s1"), review("b", "12s2"), review("c", "21ss")]
    judged = judge(PAIRS, reviews, min_answers=3)
    assert closer_of(judged) == ["point1", "point2", None, None]
    assert [entry.agreement for entry in judged] == pytest.approx([2 / 3, 2 / 3, 1.0, 1 / 3])
    assert all(entry.is_finished for entry in judged)


def test_two_who_differ_decide_nothing_and_one_alone_is_not_enough():
    judged = judge(PAIRS, [review("a", "1111"), review("b", "12--")], min_answers=2)
    assert closer_of(judged) == ["point1", None, None, None]
    assert [entry.is_finished for entry in judged] == [True, True, False, False]
    alone = judge(PAIRS, [review("a", "1111")], min_answers=1)
    assert closer_of(alone) == ["point1"] * 4


def test_a_reviewers_later_file_replaces_answers_of_the_earlier():
    judged = judge(PAIRS, [review("a", "1---"), review("a", "2---")], min_answers=1)
    assert judged[0].answers == {"a": "point2"}


def test_an_added_pair_is_the_same_whichever_of_its_points_came_first():
    added, turned = (
        AskedPair("images/indoor/z.jpg", (5, 5), (9, 9)),
        AskedPair("images/indoor/z.jpg", (9, 9), (5, 5)),
    )
    name = added.pair_id
    reviews = [
        Review("a", {name: "point1"}, (added,)),
        Review("b", {name: "point2"}, (turned,)),
    ]
    (judged,) = judge([], reviews, min_answers=2)
    (pair,) = annotations([judged])["images/indoor/z.jpg"]
    assert pair == {"point1": [5, 5], "point2": [9, 9], "closer_point": "point1"}
    with pytest.raises(ValueError, match=r"b: expected answers to known pairs, got .*z\.jpg"):
        judge([], [Review("b", {name: "point2"}, ())], min_answers=1)


def test_annotations_are_those_of_the_release_the_closer_point_first():
    judged = judge(PAIRS, [review("a", "12s-")], min_answers=1)
    assert annotations(judged) == {
        "images/indoor/a.jpg": [{"point1": [1, 2], "point2": [30, 4], "closer_point": "point1"}],
        "images/indoor/b.jpg": [{"point1": [30, 4], "point2": [1, 2], "closer_point": "point1"}],
    }


GOOD = {"format": FORMAT, "reviewer": "a", "answers": {}, "entered": []}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "expected an export of a review page"),
        ({**GOOD, "format": "other"}, "expected an export of a review page"),
        ({**GOOD, "reviewer": " "}, "expected the name of a reviewer, got ' '"),
        ({**GOOD, "answers": []}, "expected answers by pair"),
        ({**GOOD, "answers": {"x": "maybe"}}, "x: expected point1 or point2 or skip, got 'maybe'"),
        ({**GOOD, "entered": {}}, "expected a list of entered pairs"),
        ({**GOOD, "entered": [{"image": "images/a/b.jpg"}]}, "expected pairs with image, point1"),
        (
            {**GOOD, "entered": [{"image": "images/../b", "point1": [0, 0], "point2": [1, 1]}]},
            "expected images/<scenario>/<file>",
        ),
        (
            {**GOOD, "entered": [{"image": "images/a/b", "point1": [0, 0], "point2": [0, 0]}]},
            "expected two points inside the image",
        ),
    ],
)
def test_what_is_no_export_is_refused(tmp_path, content, message):
    path = tmp_path / "review.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_review(path)


def test_files_that_are_missing_or_no_json_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.json: expected a file"):
        read_review(tmp_path / "none.json")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(ValueError, match=r"x\.json: expected JSON, got something else"):
        read_pairs(tmp_path / "x.json")
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ValueError, match="expected an object with a list of pairs"):
        read_pairs(tmp_path / "x.json")
