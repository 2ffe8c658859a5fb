"""What stands side by side, where predictions err, the worst cases and the quality of labels."""

import base64
import io
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from dav2.data.shards import write_index
from stages.matrix import MatrixParams
from stages.params import load
from stages.report_comparisons import comparisons, judge_of, worst_cases
from stages.report_evidence import PictureOptions
from stages.report_labels import label_quality
from stages.report_pictures import error_colours, error_uri
from stages.report_results import read_models
from stages.sources import locations

OPTIONS = PictureOptions(40, 80)
GATED = Path("data/gated/evaluation.parquet")
EVALUATION = Path("reports/evaluation")


def shown():
    models, _ = read_models(EVALUATION, load("matrix", MatrixParams))
    return models[:3]


def test_too_far_is_red_too_near_is_blue_and_what_has_no_truth_is_transparent():
    true = np.array([[1.0, 1.0, 1.0, 0.0, 1.0]], np.float32)
    predicted = np.array([[0.25, 1.0, 4.0, 1.0, 1.0]], np.float32)
    valid = np.array([[True, True, True, True, False]])
    address = error_uri(predicted, true, valid=valid, side_px=8)
    data = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    picture = Image.open(io.BytesIO(data)).convert("RGBA")
    far, right, near, *unknown = (picture.getpixel((x, 0)) for x in range(5))
    assert far[:3] == error_colours()[-1]
    assert near[:3] == error_colours()[0]
    assert far[0] > far[2]
    assert near[2] > near[0]
    assert min(right[:3]) > 240
    assert [pixel[3] for pixel in unknown] == [0, 0]


def test_each_prediction_with_a_truth_has_its_error(report_project):
    options = {"first": {"wild_eval"}, "options": OPTIONS}
    found = comparisons(EVALUATION, GATED, shown(), locations(), **options)
    assert [group["source"] for group in found] == ["wild_eval", "pairs", "rooms"]
    cells = found[0]["samples"][0]["cells"]
    assert [bool(cell.error) for cell in cells] == [False, False, True, True, True]
    assert not any(cell.error for cell in found[1]["samples"][0]["cells"])


def test_the_worst_cases_are_the_largest_errors_of_the_judge_with_links_to_files(report_project):
    models = shown()
    judge = judge_of(models)
    assert judge.name == "student-vits-pseudo"
    options = {"first": set(), "options": OPTIONS}
    rooms, wild = worst_cases(EVALUATION, GATED, models, locations(), **options)
    dense = judge.per_image[judge.per_image["source"] == "rooms"]
    ranked = dense.sort_values("abs_rel_inverse", ascending=False)["sample_id"].tolist()
    assert [sample["name"] for sample in rooms["samples"]] == ranked
    sample = wild["samples"][0]
    assert (Path("reports") / sample["link"]).is_file()
    assert [label for _, label, _ in sample["numbers"]] == [model.label for model in models]
    assert [cell.label for cell in sample["cells"]] == ["image", "truth", judge.label]


def test_a_worst_case_without_a_kept_prediction_or_a_file_of_ours_says_less(report_project):
    models = shown()
    models[1].pictures = {}
    places = {
        name: type(place)(place.reader, str(Path(place.root).resolve()))
        for name, place in locations().items()
    }
    rooms, _ = worst_cases(EVALUATION, GATED, models, places, first=set(), options=OPTIONS)
    sample = rooms["samples"][0]
    assert sample["link"] == ""
    assert not sample["kept"]
    assert [cell.label for cell in sample["cells"]] == ["image", "truth"]


def test_the_quality_of_labels_leaves_out_what_was_not_measured(report_project):
    folder = Path("data/training/pseudo")
    index = pd.read_parquet(folder / "manifest.parquet")
    index[["scale_inconsistency"]] = np.nan
    index["flip_inconsistency"] = [0.01, 0.02, 0.09]
    write_index(index, folder / "manifest.parquet")
    found = {entry["name"]: entry for entry in label_quality(folder)}
    assert list(found) == ["flip inconsistency", "zero fraction", "ramp correlation"]
    assert found["flip inconsistency"]["numbers"].startswith("median 0.020, of 95 % below 0.083")
