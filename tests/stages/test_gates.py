import json
import logging

import pandas as pd
import pytest

from stages import gates
from stages.gates import Check, record, validate


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def frame():
    return pd.DataFrame(
        {
            "sample_id": ["c", "a", "b", "d"],
            "brightness": [0.5, 3.0, 0.25, None],
            "seen": [False, True, False, False],
        }
    )


def checks(*, severity="critical"):
    import great_expectations.expectations as gxe

    return [
        Check(
            "Brightness is usual.",
            "images",
            gxe.ExpectColumnValuesToBeBetween(
                column="brightness", min_value=0, max_value=1, mostly=0.9, severity=severity
            ),
        ),
        Check(
            "There are enough images.",
            "images",
            gxe.ExpectTableRowCountToBeBetween(min_value=3, severity="critical"),
        ),
        Check(
            "No image was seen in training.",
            "images",
            gxe.ExpectColumnValuesToBeInSet(column="seen", value_set=[False], severity="warning"),
        ),
    ]


def test_a_verdict_states_limit_what_was_seen_and_who_offends(folder):
    verdict = validate("data", {"images": frame()}, checks())[""]
    assert verdict["success"] is False
    assert verdict["num_warnings"] == 1
    brightness, count, seen = verdict["expectations"]
    assert brightness["limit"] == "0 to 1 in at least 0.9 of the rows"
    assert brightness["bounds"] == {"min_value": 0, "max_value": 1, "mostly": 0.9}
    assert brightness["seen"] == "1 of 3 rows fail (33.33%)"  # the missing one does not count
    assert brightness["observed"] == 0.333333
    assert brightness["offending"] == [{"sample_id": "a", "value": 3.0}]
    assert (count["success"], count["seen"], count["limit"]) == (True, "4", "at least 3")
    assert seen["offending"] == [{"sample_id": "a", "value": True}]


def test_a_warning_does_not_block(folder):
    verdicts = validate("data", {"images": frame()}, checks(severity="warning"))
    assert verdicts[""]["success"] is True
    assert verdicts[""]["num_warnings"] == 2
    assert record("data", verdicts) is True


def test_verdicts_of_two_runs_are_the_same_bytes(folder):
    texts = []
    for _ in range(2):
        record("data", validate("data", {"images": frame()}, checks()))
        texts.append((gates.FOUND / "data.json").read_bytes())
    assert texts[0] == texts[1]
    assert json.loads(texts[0])["gate"] == "data"


def test_a_failure_is_readable(folder, caplog):
    verdicts = validate("data", {"images": frame()}, checks())
    with caplog.at_level(logging.INFO, logger="stages.gates"):
        assert record("data", verdicts) is False
    assert "critical: Brightness is usual.\n  limit: 0 to 1" in caplog.text
    assert "first: a (3.0)" in caplog.text
    assert "gate data FAILED: 3 expectations, 1 warnings" in caplog.text
    assert ".work/data_docs/data/index.html" in caplog.text


def test_data_docs_fetch_nothing(folder):
    validate("data", {"images": frame()}, checks())
    pages = sorted((gates.DATA_DOCS / "data").rglob("*.html"))
    assert {"index.html", "images.html"} <= {page.name for page in pages}
    for page in pages:
        text = page.read_text()
        assert "http" not in text.replace("http-equiv", ""), page
        assert "<script" not in text
    everything = "".join(page.read_text() for page in pages)
    assert "Brightness is usual." in everything


def test_each_verdict_holds_its_own_expectations(folder):
    import great_expectations.expectations as gxe

    def enough(name, number):
        expectation = gxe.ExpectTableRowCountToBeBetween(min_value=number, severity="critical")
        return Check("Enough.", name, expectation, verdicts=(name,))

    shared = Check("Rows.", "a", enough("a", 2).expectation, verdicts=("a", "b"))
    checks = [enough("a", 1), enough("b", 9), shared]
    verdicts = validate("data", {"a": frame(), "b": frame()}, checks)
    assert [verdicts["a"]["success"], verdicts["b"]["success"]] == [True, False]
    said = {
        name: [entry["says"] for entry in found["expectations"]] for name, found in verdicts.items()
    }
    assert said == {"a": ["Enough.", "Rows."], "b": ["Enough.", "Rows."]}
    assert record("data", verdicts) is False
    assert json.loads((gates.FOUND / "data" / "b.json").read_text())["verdict"] == "b"


def test_an_expectation_that_cannot_be_evaluated_fails(folder):
    import great_expectations.expectations as gxe

    expectation = gxe.ExpectColumnValuesToBeUnique(column="absent", severity="critical")
    verdict = validate("data", {"images": frame()}, [Check("Ids.", "images", expectation)])[""]
    assert verdict["success"] is False
    assert "could not be evaluated" in verdict["expectations"][0]["seen"]


def test_an_empty_table_passes_what_speaks_of_rows_and_fails_its_size(folder):
    verdict = validate("data", {"images": frame().iloc[:0]}, checks())[""]
    brightness, count, seen = verdict["expectations"]
    assert brightness["success"]
    assert brightness["seen"] == "0 of 0 rows fail"
    assert not count["success"]
    assert seen["success"]
