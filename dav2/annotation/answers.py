"""What reviewers answered: their files, and what the majority says."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dav2.annotation.proposals import Point, pair_id

ANSWERS = ("point1", "point2", "skip")
"""`skip`: cannot be told."""
FORMAT = "dav2 pair review 1"


@dataclass(frozen=True, slots=True)
class AskedPair:
    """Two points of an image that reviewers are asked about."""

    image: str
    point1: Point
    point2: Point

    @property
    def pair_id(self) -> str:
        """As `dav2.annotation.proposals.pair_id`."""
        return pair_id(self.image, self.point1, self.point2)

    def asked(self) -> dict[str, Any]:
        """Returns it as a review page takes it."""
        points = {"point1": list(self.point1), "point2": list(self.point2)}
        return {"id": self.pair_id, "image": self.image, **points}


@dataclass(frozen=True, slots=True)
class Review:
    """One reviewer's answers, and the pairs that they added."""

    reviewer: str
    answers: Mapping[str, str]
    """By pair, one of `ANSWERS`; points are named in the order of the asked pair."""
    entered: tuple[AskedPair, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of one pair."""

    pair: AskedPair
    answers: Mapping[str, str]
    """By reviewer."""
    closer: str | None
    """Answer of more than half; None: no such answer, it cannot be told, or too few answered."""
    is_finished: bool
    """Whether enough have answered."""

    @property
    def agreement(self) -> float:
        """Share of reviewers who gave the most frequent answer; 0 without any."""
        counts = Counter(self.answers.values())
        return max(counts.values(), default=0) / max(len(self.answers), 1)


def read_pairs(path: Path) -> list[AskedPair]:
    """Returns the pairs of a `proposals.json`, without what is thought of them.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it does not fit.
    """
    content = _json(path)
    if not isinstance(content, dict) or not isinstance(content.get("pairs"), list):
        raise ValueError(f"{path}: expected an object with a list of pairs, got other JSON")
    return [_pair(entry, where=path) for entry in content["pairs"]]


def read_review(path: Path) -> Review:
    """Returns what a review page exported.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such export.
    """
    content = _json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(
            f"{path}: expected an export of a review page ({FORMAT!r}), got other JSON"
        )
    reviewer, answers = content.get("reviewer"), content.get("answers")
    if not isinstance(reviewer, str) or not reviewer.strip():
        raise ValueError(f"{path}: expected the name of a reviewer, got {reviewer!r}")
    if not isinstance(answers, dict):
        raise ValueError(f"{path}: expected answers by pair, got {answers!r}")
    for name, answer in answers.items():
        if answer not in ANSWERS:
            raise ValueError(f"{path}: {name}: expected {' or '.join(ANSWERS)}, got {answer!r}")
    entered = content.get("entered", [])
    if not isinstance(entered, list):
        raise ValueError(f"{path}: expected a list of entered pairs, got {entered!r}")
    pairs = tuple(_pair(entry, where=path) for entry in entered)
    return Review(reviewer.strip(), answers, pairs)


def judge(
    pairs: Sequence[AskedPair], reviews: Sequence[Review], *, min_answers: int
) -> list[Judged]:
    """Returns what became of each pair, asked or entered by a reviewer, sorted.

    Args:
        pairs: Asked.
        reviews: Several of one reviewer are taken together, a later answer for an earlier one.
        min_answers: Reviewers who must have answered a pair, skipping included.

    Raises:
        ValueError: If an answer is to a pair that is not known.
    """
    known = {pair.pair_id: pair for review in reviews for pair in review.entered}
    known |= {pair.pair_id: pair for pair in pairs}
    answers: dict[str, dict[str, str]] = {name: {} for name in known}
    for review in reviews:
        for name, answer in review.answers.items():
            if name not in known:
                raise ValueError(f"{review.reviewer}: expected answers to known pairs, got {name}")
            given = next((pair for pair in review.entered if pair.pair_id == name), None)
            is_turned = given is not None and given.point1 != known[name].point1
            answers[name][review.reviewer] = _turned(answer) if is_turned else answer
    return [_judged(known[name], answers[name], min_answers) for name in sorted(known)]


def annotations(judged: Sequence[Judged]) -> dict[str, list[dict[str, Any]]]:
    """Returns the pairs that were decided as DA-2K's release has them, the closer point first."""
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in judged:
        if entry.closer is None:
            continue
        ends = [entry.pair.point1, entry.pair.point2]
        near, far = ends if entry.closer == "point1" else ends[::-1]
        pair = {"point1": list(near), "point2": list(far), "closer_point": "point1"}
        found.setdefault(entry.pair.image, []).append(pair)
    return found


def _judged(pair: AskedPair, answers: Mapping[str, str], min_answers: int) -> Judged:
    is_finished = len(answers) >= min_answers
    answer, count = max(Counter(answers.values()).items(), key=lambda e: e[1], default=("", 0))
    has_majority = is_finished and 2 * count > len(answers) and answer != "skip"
    return Judged(pair, answers, answer if has_majority else None, is_finished)


def _turned(answer: str) -> str:
    return {"point1": "point2", "point2": "point1"}.get(answer, answer)


def _pair(entry: Any, *, where: Path) -> AskedPair:
    try:
        image = entry["image"]
        points = [entry[name] for name in ("point1", "point2")]
        ends = [(int(row), int(column)) for row, column in points]
        parts = image.split("/")
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        raise ValueError(
            f"{where}: expected pairs with image, point1 and point2 as [h, w], "
            f"got {json.dumps(entry)[:200]}"
        ) from None
    if len(parts) != 3 or parts[0] != "images" or {"", ".", ".."} & set(parts):
        raise ValueError(f"{where}: expected images/<scenario>/<file>, got {image!r}")
    if min(min(end) for end in ends) < 0 or ends[0] == ends[1]:
        raise ValueError(f"{where}: {image}: expected two points inside the image, got {points}")
    return AskedPair(image, ends[0], ends[1])


def _json(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a file, got nothing there")
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        raise ValueError(f"{path}: expected JSON, got something else") from None
