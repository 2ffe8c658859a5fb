"""Dataset cards say what a source holds, by its manifest."""

import json
from xml.etree import ElementTree

import pandas as pd
import pytest

from dav2.data.manifest import MANIFEST_SCHEMA, write_manifest
from stages.params import validate
from stages.report_cards import dataset_card
from stages.sources import SourceParams

SOURCE = {
    "reader": "folder",
    "root": "photos",
    "watch": "photos",
    "domain": "mixed",
    "roles": {"unlabelled": ["all"]},
}


def card(tmp_path, rows, **stated):
    path = tmp_path / "manifest.parquet"
    filled = [
        dict.fromkeys(MANIFEST_SCHEMA.names)
        | {"sample_id": f"a-{number}", "source": "a", "dataset": "folder", "domain": "mixed"}
        | {"split": "all", "scene": "", "image": "a.jpg", "extra": "[]", "decoder": "0"}
        | {"width": 30, "height": 20, "bytes": 500_000, "brightness": 0.5}
        | row
        for number, row in enumerate(rows)
    ]
    write_manifest(pd.DataFrame(filled), path)
    found = dataset_card(validate(SOURCE | stated, SourceParams, where="photos"), path)
    return dict(found["facts"]), found["charts"]


def test_a_card_of_photographs_has_no_depth(tmp_path):
    rows = [{"exif_orientation": 6, "exif_focal_35mm": 28.0}, {"width": 40}, {}]

    facts, charts = card(tmp_path, rows, licence="CC BY 4.0", origin="a walk")

    assert facts == {
        "licence": "CC BY 4.0",
        "origin": "a walk",
        "images": "3 in 1 scenes, 1.5 MB",
        "size (width x height)": "30 x 20 (2), 40 x 20 (1)",
        "turned by EXIF": "1",
        "35 mm focal length": "28 to 28 mm, median 28 (1 images tell it)",
    }
    assert [title for title, _ in charts] == ["brightness of its images"]


def test_what_nobody_stated_is_said_so_and_many_sizes_are_counted(tmp_path):
    facts, _ = card(tmp_path, [{"width": 30 + number} for number in range(5)])

    assert facts["licence"] == "not stated in params.yaml"
    assert facts["size (width x height)"].endswith("(1) and 2 others")


@pytest.mark.parametrize(("sky", "told"), [(0.25, "25% sky"), (None, "sky not told")])
def test_a_card_of_depth_tells_its_range_and_what_is_measured(tmp_path, sky, told):
    depth = {"depth": "a.npy", "valid_fraction": 0.8, "sky_fraction": sky}
    metres = {"depth_p01_m": 0.5, "depth_p50_m": 4.0, "depth_p99_m": 80.0}

    facts, charts = card(tmp_path, [depth | metres] * 4)

    assert facts["depth"] == "0.5 to 80 m in nine of ten images"
    assert facts["of its pixels"] == f"80% measured, {told}"
    assert [title for title, _ in charts][1:] == ["median depth of its images"]
    for _, chart in charts:
        ElementTree.fromstring(chart)


def test_depth_of_an_unknown_scale_has_no_metres(tmp_path):
    facts, charts = card(tmp_path, [{"depth": "a.pfm", "valid_fraction": 1.0}])

    assert facts["depth"] == "known up to a factor"
    assert len(charts) == 1
    assert "inf" not in json.dumps(facts)
