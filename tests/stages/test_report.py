"""The page is made of what the stages left, whole or partial."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from dav2.data.files import write_json
from dav2.data.shards import write_index
from stages.report import main
from tests.fixtures.report_project import verdict

ARGUMENTS = (Path("reports/index.html"), Path("data"), Path("reports"))


def page(**options):
    main(*ARGUMENTS, **options)
    return ARGUMENTS[0].read_text(encoding="utf-8")


def test_the_page_shows_every_part(report_project):
    text = page()
    headings = ["In short", "What changed since the champion", "Accuracy and cost", "Results"]
    headings += ["Which point is closer", "Depth in metres", "Side by side", "Worst cases"]
    headings += ["Gates", "Data", "Pseudo-labels", "Training", "Pipeline and times", "Models"]
    assert "of the 5 samples kept, of 5" in text
    assert re.findall(r"<h2 id=.*?>(.*?)</h2>", text) == [*headings, "Provenance"]
    assert text.count("calibration of metric, indoor") == 1
    assert "<dt>alignment</dt><dd>inverse depth</dd>" in text
    for name in (
        "teacher",
        "student, pseudo-labels",
        "student, synthetic",
        "pixel mean",
        "thin structures",
    ):
        assert name in text
    assert "This report is partial" not in text


def test_the_worst_labels_are_shown_with_what_was_measured(report_project):
    path = Path("data/training/pseudo/manifest.parquet")
    index = pd.read_parquet(path)
    index[["flip_inconsistency", "scale_inconsistency"]] = np.nan
    index["zero_fraction"] = [0.0, 0.25, 0.125]
    index["ramp_correlation"] = [0.1, -0.2, 0.375]
    write_index(index, path)
    shown = page().split("The worst by ")[1:]
    assert [text.partition(",")[0] for text in shown] == ["zero fraction", "ramp correlation"]
    captions = [re.findall(r"<figcaption>([\d.]+)</figcaption>", text) for text in shown]
    assert captions[0] == ["0.250", "0.125"]
    assert captions[1][:2] == ["0.375", "0.100"]
    assert shown[0].index("wild-1") < shown[0].index("wild-2")


def test_the_page_fetches_nothing_and_names_no_place(report_project):
    text = page()
    addresses = re.findall(r'(?:src|href|action)="([^"]*)"', text) + re.findall(
        r"url\(([^)]*)\)", text
    )
    outside = {a for a in addresses if not a.startswith(("#", "data:"))}
    samples = {address for address in outside if address.startswith("../raw/")}
    assert outside - samples == {"../.work/report_facts.html"}
    assert all((Path("reports") / address).is_file() for address in samples)
    assert "http" not in text.replace("http-equiv", "")
    assert str(report_project) not in text


def test_two_pages_are_the_same_bytes(report_project):
    def written():
        page()
        files = [Path("reports/index.html"), Path("reports/report.md")]
        files += [path for path in Path("reports/plots").rglob("*") if path.is_file()]
        return {path: path.read_bytes() for path in files}

    first = written()
    assert len(first) == 2 + 4 + 3 + 2 * 4
    Path(".work/runs.jsonl").write_text('{"stage": "evaluate@teacher", "seconds": 1}\n')
    assert written() == first


def test_texts_from_data_are_escaped(report_project):
    text = page()
    assert "<b>text</b>" not in text
    assert "&lt;b&gt;text&lt;/b&gt;" in text


def test_a_missing_result_is_refused_in_a_line_and_named_in_a_partial_page(report_project):
    shutil.rmtree("reports/evaluation/teacher")
    with pytest.raises(
        SystemExit, match="report: expected all results, got no evaluation of teacher"
    ):
        main(*ARGUMENTS)
    assert not ARGUMENTS[0].exists()
    text = page(partial=True)
    assert "This report is partial" in text
    assert "evaluation of teacher" in text


def test_the_text_for_a_pull_request_has_the_tables_and_says_what_is_missing(report_project):
    page()
    text = Path("reports/report.md").read_text(encoding="utf-8")
    assert "## wild_eval\n" in text
    tables = [line for line in text.splitlines() if line.startswith("| student, pseudo-labels |")]
    assert len(tables) == 3  # two sources and the annotated pairs
    columns = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(columns) == 5
    assert all(len({line.count("|") for line in lines}) == 1 for lines in columns)
    assert "protocol default/relative" in text
    shutil.rmtree("reports/evaluation")
    page(partial=True)
    text = Path("reports/report.md").read_text(encoding="utf-8")
    assert "**Partial.** Not there yet: evaluation of teacher" in text
    assert list(Path("reports/plots").rglob("*.csv")) == []


def test_a_partial_page_shows_a_gate_that_failed(report_project):
    for folder in ("reports", "data/gated", "data/training"):
        shutil.rmtree(folder)
    write_json(verdict("data", "labelled", success=False), Path(".work/gates/data/labelled.json"))
    text = page(partial=True)
    assert "Not passed: data labelled." in text
    assert "not passed</span>" in text
    assert 'class="stage fail"' in text
    assert "<code>x-1</code>" in text


def test_samples_that_a_failed_gate_names_are_shown(report_project):
    offending = [{"sample_id": "wild-0_jpg", "value": 0.25}, {"sample_id": "gone", "value": 1.0}]
    failed = verdict("data", "unlabelled", success=False)
    failed["expectations"][0] |= {"offending": offending, "success": False}
    write_json(failed, Path(".work/gates/data/unlabelled.json"))

    text = page(partial=True)

    gates_part = text.split('<section id="gates"')[1].split("</section>")[0]
    assert gates_part.count("<img") == 1
    assert 'title="wild-0_jpg"' in gates_part
    assert "0.25" in gates_part


def test_a_failure_of_an_earlier_run_is_not_in_the_page_of_a_later_one(report_project):
    write_json(verdict("data", "labelled", success=False), Path(".work/gates/data/labelled.json"))
    assert "Not passed" not in page()


def test_hashes_come_from_the_lock_for_what_the_stage_depends_on_alone(report_project):
    outs = [
        {"path": path, "md5": digit * 32, "size": 2_000_000}
        for path, digit in (
            ("data/training/pseudo", "a"),
            ("raw/rooms", "b"),
            ("models/teacher.safetensors", "c"),
        )
    ]
    lock = {"stages": {"label": {"outs": outs}}}
    with Path("dvc.lock").open("w") as stream:
        YAML(typ="safe").dump(lock, stream)
    text = page()
    assert "a" * 32 in text
    assert "b" * 32 not in text
    assert "c" * 32 not in text
    assert "2.0 MB" in text
