import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from ruamel.yaml import YAML

from dav2.data.manifest import MANIFEST_SCHEMA, read_manifest, write_manifest
from dav2.data.measurement import measure_sample
from dav2.data.open import open_dataset
from stages import gate_data, gates
from stages.gate_data import main
from stages.params import load

ARGUMENTS = (
    Path("data/ingest"),
    Path("data/training/synthetic"),
    Path("data/gated"),
    Path("reports/gates/data"),
    Path("reports/gates/synthetic.json"),
)
SOURCES = {
    "studio": (
        "hypersim",
        "indoor",
        {"labelled": ["train", "val"], "metric_indoor": ["train", "val"], "evaluation": ["test"]},
    ),
    "drive": (
        "vkitti2",
        "outdoor",
        {"labelled": ["train", "val"], "metric_outdoor": ["train", "val"], "evaluation": ["test"]},
    ),
    "wild": ("folder", "mixed", {"unlabelled": ["all"]}),
    "pairs": ("da2k", "mixed", {"evaluation": ["test"]}),
}
LIMITS = {
    "min_samples": {
        "labelled": {"total": 8, "splits": {"train": 4, "val": 2}},
        "unlabelled": {"total": 2, "splits": {}},
        "metric_indoor": {"total": 1, "splits": {}},
        "metric_outdoor": {"total": 1, "splits": {}},
        "evaluation": {"total": 3, "splits": {}},
    },
    "min_side_px": 84,
    "brightness": [0.05, 0.95],
    "min_contrast": 0.01,
    "min_valid_fraction": 0.3,
    "depth": {
        "indoor": {"min_m": 0.1, "max_m": 50.0},
        "outdoor": {"min_m": 0.5, "max_m": 500.0},
        "mixed": {"min_m": 0.1, "max_m": 500.0},
    },
    "mostly": 0.9,
    "max_quarantined_fraction": 0.2,
    "shared_scenes": "critical",
}


def rows(source, split, count, *, scene=None, labelled=True):
    depth = {
        "valid_fraction": 0.9,
        "sky_fraction": 0.0,
        "nonfinite_fraction": 0.0,
        "depth_p01_m": 1.0,
        "depth_p50_m": 4.0,
        "depth_p99_m": 9.0,
        "depth_constant": False,
    }
    return [
        dict.fromkeys(MANIFEST_SCHEMA.names)
        | {
            "sample_id": f"{source}-{split}_{number}",
            "source": source,
            "dataset": SOURCES[source][0],
            "domain": SOURCES[source][1],
            "split": split,
            "scene": scene or f"{split}{number}",
            "image": f"{split}/{number}.jpg",
            "extra": "[]",
            "width": 168,
            "height": 126,
            "bytes": 10,
            "content_hash": f"{source}{split}{number}",
            "image_hash": f"image {source}{split}{number}",
            "decoder": "0" * 16,
            "brightness": 0.5,
            "contrast": 0.2,
            "sharpness": 0.1,
        }
        | (depth if labelled else {})
        for number in range(count)
    ]


class Project:
    """A project with four ingested sources, which a test may spoil before it runs the gate."""

    def __init__(self):
        self.good = {
            "studio": rows("studio", "train", 4)
            + rows("studio", "val", 2)
            + rows("studio", "test", 2),
            "drive": rows("drive", "train", 4) + rows("drive", "val", 2) + rows("drive", "test", 2),
            "wild": rows("wild", "all", 5, labelled=False),
            "pairs": rows("pairs", "test", 3, labelled=False),
        }
        self.quarantined = {name: [] for name in self.good}
        self.limits = json.loads(json.dumps(LIMITS))
        self.sources = dict(SOURCES)

    def write(self):
        sources = {
            name: {"reader": reader, "root": "x", "watch": "x", "domain": domain, "roles": roles}
            for name, (reader, domain, roles) in self.sources.items()
        }
        with Path("params.yaml").open("w") as stream:
            YAML(typ="safe").dump({"sources": sources, "gate_data": self.limits}, stream)
        for name, good in self.good.items():
            folder = Path("data/ingest") / name
            folder.mkdir(parents=True, exist_ok=True)
            write_manifest(as_frame(good), folder / "manifest.parquet")
            write_manifest(as_frame(self.quarantined[name]), folder / "quarantine.parquet")

    def run(self):
        self.write()
        main(*ARGUMENTS)

    def verdict(self, role):
        """Returns whether one role passes, and its failed expectations; faster than a whole run."""
        self.write()
        params = load("gate_data", gate_data.GateDataParams)
        tables, checks = gate_data.gather(ARGUMENTS[0], params)[1:]
        chosen = [check for check in checks if check.verdict == role]
        names = {check.table for check in chosen}
        tables = {name: table for name, table in tables.items() if name in names}
        found = gates.validate("data", tables, chosen)[role]
        return found["success"], [e for e in found["expectations"] if not e["success"]]


def as_frame(entries):
    return pd.DataFrame(entries, columns=MANIFEST_SCHEMA.names)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Project()


def ids(role):
    path = (
        ARGUMENTS[1] / "manifest.parquet"
        if role == "labelled"
        else ARGUMENTS[2] / f"{role}.parquet"
    )
    return list(read_manifest(path)["sample_id"])


def test_each_role_gets_its_own_splits_of_its_own_sources(project):
    project.run()
    assert len(ids("labelled")) == 12
    assert ids("unlabelled") == [f"wild-all_{number}" for number in range(5)]
    assert {name.split("_")[0] for name in ids("metric_indoor")} == {"studio-train", "studio-val"}
    assert {name.split("_")[0] for name in ids("metric_outdoor")} == {"drive-train", "drive-val"}
    assert {name.split("_")[0] for name in ids("evaluation")} == {
        "drive-test",
        "pairs-test",
        "studio-test",
    }
    for role in gate_data.ROLES:
        path = ARGUMENTS[4] if role == "labelled" else ARGUMENTS[3] / f"{role}.json"
        verdict = json.loads(path.read_text())
        assert verdict["success"], role
        assert verdict["verdict"] == role


def test_a_withdrawn_source_leaves_no_row_and_no_folder(project, caplog):
    project.write()
    del project.sources["pairs"], project.good["pairs"]
    with caplog.at_level(logging.INFO):
        project.run()
    assert not any(name.startswith("pairs") for name in ids("evaluation"))
    assert not Path("data/ingest/pairs").exists()
    assert "data/ingest/pairs: removed" in caplog.text


@pytest.mark.slow
def test_two_runs_write_the_same_bytes(project):
    contents = []
    for _ in range(2):
        project.run()
        written = [path for root in ARGUMENTS[1:] for path in (root, *root.rglob("*"))]
        files = sorted(path for path in written if path.is_file())
        contents.append({path: path.read_bytes() for path in files})
    assert contents[0] == contents[1]
    assert len(contents[0]) == 10


def test_an_evaluation_image_that_is_trained_on_blocks_and_nothing_is_written(project, caplog):
    photograph = np.random.default_rng(0).integers(0, 256, (126, 168, 3), np.uint8)
    Path("raw").mkdir()
    Image.fromarray(photograph).save("raw/a.jpg")
    pair = {"point1": [3, 4], "point2": [5, 6], "closer_point": "point1"}
    Path("raw/annotations.json").write_text(json.dumps({"a.jpg": [pair]}))
    for row, name, split in (
        (project.good["wild"][3], "folder", "all"),
        (project.good["pairs"][1], "da2k", "test"),
    ):
        reader = open_dataset(name, Path("raw"))
        row |= measure_sample(reader, next(iter(reader.list_samples(split))), where="raw")
    with caplog.at_level(logging.INFO), pytest.raises(SystemExit, match="1"):
        project.run()
    assert "gate data (evaluation): critical: No sample held out" in caplog.text
    assert "first: pairs-test_1 (True)" in caplog.text
    assert not any(path.exists() for path in ARGUMENTS[1:])
    kept = json.loads((gates.FOUND / "data" / "evaluation.json").read_text())
    assert kept["success"] is False


def test_a_validation_image_that_is_trained_on_blocks(project):
    for column in ("content_hash", "image_hash"):
        project.good["studio"][4][column] = project.good["studio"][0][column]
    success, failed = project.verdict("labelled")
    assert success is False
    assert [found["severity"] for found in failed] == ["warning", "critical"]  # twice; trained on
    assert failed[1]["offending"] == [{"sample_id": "studio-val_0", "value": True}]


@pytest.mark.parametrize("severity", ["critical", "warning"])
def test_a_scene_in_training_and_evaluation_blocks_or_warns(project, severity):
    project.limits["shared_scenes"] = severity
    project.good["studio"][6]["scene"] = project.good["studio"][0]["scene"]
    success, failed = project.verdict("evaluation")
    assert success is (severity == "warning")
    assert [found["says"] for found in failed] == ["No scene held out for judging is trained on."]


def test_scenes_of_one_name_in_two_sources_are_two_scenes(project):
    project.good["studio"][0]["scene"] = project.good["drive"][6]["scene"] = "kitchen"
    assert project.verdict("evaluation") == (True, [])


def test_depth_out_of_the_domains_range_blocks(project):
    for row in project.good["studio"][:2]:
        row["depth_p99_m"] = 4000.0  # millimetres taken for metres
    success, (far,) = project.verdict("labelled")
    assert success is False
    assert far["says"] == "Far indoor depth is in metres (99th percentile)."
    assert far["limit"] == "at most 50 in at least 0.9 of the rows"
    assert far["offending"][0] == {"sample_id": "studio-train_0", "value": 4000.0}


def test_depth_of_unknown_scale_has_no_range(project):
    _, domain, roles = project.sources["studio"]
    project.sources["studio"] = ("middlebury", domain, roles)
    for row in project.good["studio"]:
        row |= {"dataset": "middlebury", "depth_p01_m": None, "depth_p99_m": None}
    assert project.verdict("evaluation") == (True, [])


def test_a_few_odd_images_only_warn(project):
    project.good["wild"][0]["brightness"] = 0.0
    success, (odd,) = project.verdict("unlabelled")
    assert success is True
    assert odd["says"] == "Images are neither black nor white."


def test_too_few_samples_of_a_split_block(project):
    project.limits["min_samples"]["labelled"]["splits"]["val"] = 5
    success, (few,) = project.verdict("labelled")
    assert success is False
    assert few["says"] == "There are enough samples of split val for this role."
    assert (few["seen"], few["limit"]) == ("4", "at least 5")


def test_a_source_that_gives_nothing_blocks(project):
    project.good["pairs"] = []
    success, (empty,) = project.verdict("evaluation")
    assert success is False
    assert empty["offending"] == [{"sample_id": "pairs", "value": 0}]


def test_much_quarantine_warns(project):
    project.quarantined["wild"] = [
        row | {"reason": "not an image", "sample_id": f"wild-bad_{number}"}
        for number, row in enumerate(rows("wild", "all", 5, labelled=False))
    ]
    success, (warning,) = project.verdict("unlabelled")
    assert success is True
    assert warning["offending"] == [{"sample_id": "wild", "value": 0.5}]


@pytest.mark.slow
def test_a_role_without_samples_passes_where_the_limits_allow_it(project):
    for name in ("labelled", "metric_outdoor"):
        project.limits["min_samples"][name] = {"total": 0, "splits": {}}
    del project.sources["drive"], project.good["drive"]
    project.run()
    assert ids("metric_outdoor") == []
    verdict = json.loads((ARGUMENTS[3] / "metric_outdoor.json").read_text())
    assert verdict["success"]


def test_a_source_that_was_not_ingested_is_an_error(project):
    del project.good["wild"]
    with pytest.raises(SystemExit, match=r"gate_data: data/ingest/wild/manifest.parquet: expected"):
        project.run()
