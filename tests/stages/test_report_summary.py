"""The summary says in words what the evaluations and gates found."""

from pathlib import Path

import pytest

from stages.matrix import MatrixParams
from stages.params import load
from stages.report_results import MEASURES, read_models
from stages.report_summary import gate_findings, summarise, tiles
from stages.report_tables import beaten_by, difference
from tests.fixtures.report_project import verdict


def matrix():
    return load("matrix", MatrixParams)


def test_the_summary_says_who_wins(report_project):
    models, missing = read_models(Path("reports/evaluation"), matrix())
    assert missing == []
    relative = [model for model in models if model.tone != "metric"]
    findings = summarise(relative, ["rooms", "wild_eval"], unseen=["wild_eval"])
    assert findings[0].tone == "pass"
    assert findings[0].headline.startswith("Pseudo-labels beat synthetic images on unseen images (")
    assert findings[0].headline.endswith("95 % intervals over images, one training seed).")
    assert all(text.startswith("wild_eval") for text in findings[0].details)


@pytest.mark.parametrize(
    ("verdicts", "tone", "words"),
    [
        ("+++.", "pass", "beat"),
        ("++..", "warn", "no clear difference"),
        ("+...", "warn", "no clear difference"),
        ("+++-", "warn", "better in some, worse in others"),
        ("-...", "warn", "no clear difference"),
        ("---.", "fail", "are worse"),
    ],
)
def test_a_student_beats_the_control_only_in_most_measures(
    report_project, monkeypatch, verdicts, tone, words
):
    models, _ = read_models(Path("reports/evaluation"), matrix())
    by_name = {model.name: model for model in models}
    pair = [by_name["student-vits-pseudo"], by_name["student-vits-synthetic"]]
    keys = ("pair_accuracy", "delta1", "abs_rel_inverse", "boundary_f1")

    def difference(one, other, source, key):
        sign = {"+": 1, "-": -1, ".": 0}[verdicts[keys.index(key)]]
        gain = -sign if key == "abs_rel_inverse" else sign
        return (gain, gain - 0.5, gain + 0.5)

    monkeypatch.setattr("stages.report_summary.difference", difference)
    finding = summarise(pair, ["wild_eval"], unseen=["wild_eval"])[0]
    assert finding.tone == tone
    assert words in finding.headline
    assert "one training seed" in finding.headline


def test_the_summary_says_when_the_control_wins(report_project):
    models, _ = read_models(Path("reports/evaluation"), matrix())
    by_name = {model.name: model for model in models}
    one, other = by_name["student-vits-pseudo"], by_name["student-vits-synthetic"]
    one.per_image, other.per_image = other.per_image, one.per_image
    findings = summarise([one, other], ["wild_eval"], unseen=["wild_eval"])
    assert findings[0].tone == "fail"
    assert findings[0].headline.startswith("Pseudo-labels are worse than synthetic images")


def test_equal_students_make_no_clear_difference(report_project):
    models, _ = read_models(Path("reports/evaluation"), matrix())
    by_name = {model.name: model for model in models}
    one, other = by_name["student-vits-pseudo"], by_name["student-vits-synthetic"]
    one.per_image = other.per_image
    finding = summarise([one, other], ["wild_eval"], unseen=["wild_eval"])[0]
    assert finding.headline.startswith("Pseudo-labels make no clear difference")
    assert difference(one, other, "wild_eval", "delta1") == (0.0, 0.0, 0.0)


def test_a_ramp_that_wins_is_named(report_project):
    models, _ = read_models(Path("reports/evaluation"), matrix())
    by_name = {model.name: model for model in models}
    teacher, ramp = by_name["teacher"], by_name["trivial-ramp"]
    measure = next(entry for entry in MEASURES if entry.key == "delta1")
    assert beaten_by(teacher, models, "wild_eval", measure) == ""
    ramp.metrics = ramp.metrics | {"wild_eval": {"delta1": 0.9999, "num_images": 5}}
    teacher.metrics = teacher.metrics | {"wild_eval": {"delta1": 0.9, "num_images": 5}}
    assert beaten_by(teacher, models, "wild_eval", measure) == "ramp"
    finding = summarise([teacher, ramp], ["wild_eval"], unseen=[])[0]
    assert finding.tone == "warn"
    assert finding.details == ("wild_eval, δ1 %: ramp (100.0) is no worse than teacher (90.0).",)


def test_gates_are_summed_up():
    assert gate_findings([]) == []
    (good,) = gate_findings([verdict("data"), verdict("teacher")])
    assert (good.tone, good.headline) == ("pass", "All gates passed: 2 expectations.")
    (bad,) = gate_findings([verdict("data", "labelled", success=False), verdict("teacher")])
    assert (bad.tone, bad.headline) == ("fail", "Not passed: data labelled.")
    assert bad.details == ("Images are large. Limit at least 84, seen 3.",)


def test_the_largest_numbers_are_gates_accuracy_and_who_wins(report_project):
    models, _ = read_models(Path("reports/evaluation"), matrix())
    relative = [model for model in models if model.tone != "metric"]
    findings = summarise(relative, ["wild_eval"], unseen=["wild_eval"])
    verdicts = [verdict("data", success=False), verdict("teacher") | {"num_warnings": 1}]
    gates, pairs, control, annotated = tiles(relative, findings, verdicts, source="wild_eval")
    assert (gates.tone, gates.value, gates.note) == ("fail", "1 failed", "2 verdicts, 1 warning")
    assert (pairs.value, pairs.says) == ("100.0 %", "pairs in order on wild_eval")
    assert pairs.note == "student, pseudo-labels, 95 % 100.0 to 100.0"
    assert (control.tone, control.value) == ("pass", "better")
    assert annotated.value == "100.0 %"


def test_without_models_and_verdicts_there_is_no_number():
    assert tiles([], [], [], source=None) == []
    (gates,) = tiles([], [], [verdict("data")], source=None)
    assert (gates.tone, gates.value, gates.note) == ("pass", "passed", "1 verdict")
