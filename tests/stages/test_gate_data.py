import contextlib
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dav2.data.manifest import read_manifest
from dav2.data.measurement import measure_sample
from dav2.data.open import open_dataset
from stages import gate_data, gates
from stages.params import load
from tests.fixtures.expectations import failures
from tests.fixtures.ingested_project import ARGUMENTS, LIMITS, IngestedProject, rows, spoil


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return IngestedProject()


@pytest.fixture(scope="module")
def gated(tmp_path_factory):
    """The folder of a project whose data have passed."""
    folder = tmp_path_factory.mktemp("gated")
    with contextlib.chdir(folder):
        IngestedProject().run()
    return folder


def ids(role):
    path = (
        ARGUMENTS[1] / "manifest.parquet"
        if role == "labelled"
        else ARGUMENTS[2] / f"{role}.parquet"
    )
    return list(read_manifest(path)["sample_id"])


def test_each_role_gets_its_own_splits_of_its_own_sources(gated, monkeypatch):
    monkeypatch.chdir(gated)
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


def outputs():
    written = [path for root in ARGUMENTS[1:] for path in (root, *root.rglob("*"))]
    return {path: path.read_bytes() for path in written if path.is_file()}


@pytest.mark.slow
def test_two_runs_write_the_same_bytes(gated, project, tmp_path):
    shutil.copytree(gated, tmp_path, dirs_exist_ok=True)
    first = outputs()
    project.run()
    assert outputs() == first
    assert len(first) == 10


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
        row |= measure_sample(
            reader, next(iter(reader.list_samples(split))), where="raw", max_pixels=10**6
        )
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


def test_the_quick_evaluation_agrees_with_great_expectations(project):
    spoil(project, "studio", "depth_p99_m", 4000.0, count=4)
    spoil(project, "studio", "edge_agreement", 0.1, count=8)
    project.good["studio"][6]["scene"] = project.good["studio"][0]["scene"]
    project.good["wild"][0] |= {"brightness": 0.0, "content_hash": "studiotrain0"}
    project.good["wild"][1]["content_hash"] = "studiotrain0"
    project.limits["min_samples"]["labelled"]["splits"]["val"] = 5
    project.write()
    params = load("gate_data", gate_data.GateDataParams)
    tables, checks = gate_data.gather(ARGUMENTS[0], params)[1:]
    slowly = {
        (entry["severity"], entry["says"], entry["table"])
        for verdict in gates.validate("data", tables, checks).values()
        for entry in verdict["expectations"]
        if not entry["success"]
    }
    quickly = {(entry.severity, entry.says, entry.table) for entry in failures(tables, checks)}
    assert quickly == slowly
    assert len(quickly) > 6


@pytest.mark.parametrize("severity", ["critical", "warning"])
def test_a_scene_in_training_and_evaluation_blocks_or_warns(project, severity):
    project.limits["shared_scenes"] = severity
    project.good["studio"][6]["scene"] = project.good["studio"][0]["scene"]
    (found,) = project.findings()
    assert found.severity == severity
    assert found.says == "No scene held out for judging is trained on."
    assert found.offending == ("studio-test_0",)


def test_scenes_of_one_name_in_two_sources_are_two_scenes(project):
    project.good["studio"][0]["scene"] = project.good["drive"][6]["scene"] = "kitchen"
    assert project.findings() == []


@pytest.mark.parametrize("severity", ["critical", "warning"])
def test_an_evaluation_image_that_looks_like_one_trained_on_blocks_or_warns(project, severity):
    project.limits["near_leaks"] = severity
    trained_on = project.good["wild"][2]["perceptual_hash"]
    alike = f"{int(trained_on, 16) ^ 0b1000000000010000000001:016x}"  # three bits of 64
    project.good["pairs"][1]["perceptual_hash"] = alike
    (found,) = project.findings()
    assert (found.severity, found.table, found.what) == (
        severity,
        "evaluation",
        "look_in_training",
    )
    assert found.offending == ("pairs-test_1",)


def test_images_that_differ_in_more_bits_are_not_alike(project):
    trained_on = project.good["wild"][2]["perceptual_hash"]
    project.good["pairs"][1]["perceptual_hash"] = f"{int(trained_on, 16) ^ 0b1111:016x}"
    assert project.findings() == []


def test_images_without_a_hash_look_like_none(project):
    for row in [*project.good["wild"], *project.good["pairs"]]:
        row["perceptual_hash"] = None
    assert project.findings() == []


def test_photographs_that_look_like_others_warn(project):
    project.good["wild"][3]["nearest_bits"] = project.good["wild"][1]["nearest_bits"] = 2
    (found,) = project.findings()
    assert (found.severity, found.what) == ("warning", "looks_like_another")
    assert found.offending == ("wild-all_1", "wild-all_3")


def test_the_same_bytes_twice_warn(project):
    project.good["wild"][3]["content_hash"] = project.good["wild"][1]["content_hash"]
    (found,) = project.findings()
    assert (found.severity, found.what) == ("warning", "content_hash")
    assert found.offending == ("wild-all_1", "wild-all_3")


BLOCKING = [
    ("depth_p01_m", 0.02),
    ("depth_p99_m", 4000.0),
    ("depth_p50_m", 300.0),
    ("valid_fraction", 0.1),
    ("nonfinite_fraction", 0.6),
    ("depth_levels", 256),
    ("depth_constant", True),
    ("planarity_over_inverse", 3.0),
    ("planarity_over_distance", 3.0),
]
WARNING = [
    ("depth_at_min_fraction", 0.1),
    ("depth_at_max_fraction", 0.1),
    ("brightness", 0.0),
    ("brightness", 1.0),
    ("contrast", 0.0),
    ("colourfulness", 0.0),
    ("red_minus_blue", -0.1),
    ("image_mode", "L"),
    ("image_mode", "CMYK"),
]


@pytest.mark.parametrize(
    ("column", "value", "severity"),
    [(*entry, "critical") for entry in BLOCKING] + [(*entry, "warning") for entry in WARNING],
)
def test_a_value_out_of_its_limits_in_most_samples_of_a_source(project, column, value, severity):
    spoil(project, "studio", column, value, count=8)
    found = project.findings()
    assert {entry.table for entry in found} == {"studio (train, val)", "studio (test)"}
    assert {(entry.what, entry.severity) for entry in found} == {(column, severity)}
    assert found[0].offending[0] == "studio-train_0"


def test_a_value_that_is_not_known_breaks_no_limit(project):
    for column, _ in (*BLOCKING, *WARNING):
        spoil(project, "studio", column, None, count=8)
    assert project.findings() == []


def test_what_is_typical_of_a_source_may_be_missed_by_a_few(project):
    for column, value in (("depth_levels", 100), ("planarity_over_inverse", 9.0)):
        spoil(project, "studio", column, value, count=2)
    assert project.findings() == []


def test_a_source_is_judged_by_itself(project):
    spoil(project, "studio", "depth_levels", 100, count=8)
    assert not any("drive" in found.table for found in project.findings())


def test_a_source_may_have_limits_of_its_own(project):
    sparse = LIMITS["depth_maps"] | {"min_valid_fraction": 0.05}
    for source in ("studio", "drive"):
        spoil(project, source, "valid_fraction", 0.1, count=8)
    project.limits["exceptions"] = {"drive": sparse}

    tables = {found.table for found in project.findings()}

    assert tables == {"studio (train, val)", "studio (test)"}


def test_small_images_block(project):
    spoil(project, "wild", "height", 60, count=1)
    (found,) = project.findings()
    assert (found.severity, found.what, found.offending) == (
        "critical",
        "short_side_px",
        ("wild-all_0",),
    )


def test_depth_maps_that_fit_better_moved_block(project):
    spoil(project, "drive", "edge_agreement_moved", 0.85, count=8)
    found = project.findings()
    assert {(entry.severity, entry.what) for entry in found} == {("critical", "aligned")}
    assert found[0].offending[0] == "drive-train_0"


def test_depth_maps_that_fit_a_little_better_moved_are_taken_for_chance(project):
    spoil(project, "drive", "edge_agreement_moved", 0.81, count=8)
    assert project.findings() == []


def test_depth_maps_without_edges_are_not_judged_by_them(project):
    for column in ("edge_agreement", "edge_agreement_moved"):
        spoil(project, "drive", column, None, count=8)
    assert project.findings() == []


def test_streets_without_sky_warn(project):
    spoil(project, "drive", "sky_fraction", 0.0, count=8)
    found = project.findings()
    assert {(entry.severity, entry.what) for entry in found} == {("warning", "shows_sky")}


@pytest.mark.parametrize(("source", "value"), [("studio", 0.0), ("drive", None)])
def test_rooms_need_no_sky_and_some_sources_do_not_tell(project, source, value):
    spoil(project, source, "sky_fraction", value, count=8)
    assert project.findings() == []


def test_depth_maps_of_other_sizes_warn(project):
    spoil(project, "studio", "width", 200, count=1)
    found = project.findings()
    assert {(entry.severity, entry.what) for entry in found} == {("warning", "has_common_size")}
    assert {entry.offending for entry in found} == {("studio-train_0",)}


def test_evaluation_may_mix_sizes(project):
    project.good["studio"][6]["width"] = 200
    assert project.findings() == []


def test_depth_out_of_the_domains_range_blocks(project):
    spoil(project, "studio", "depth_p99_m", 4000.0, count=2)  # millimetres taken for metres
    success, (far,) = project.verdict("labelled")
    assert success is False
    assert far["says"] == "Far depth of studio is in metres (99th percentile, indoor)."
    assert far["limit"] == "at most 50 in at least 0.9 of the rows"
    assert far["offending"][0] == {"sample_id": "studio-train_0", "value": 4000.0}


def test_depth_of_unknown_scale_has_no_range(project):
    _, domain, roles = project.sources["studio"]
    project.sources["studio"] = ("middlebury", domain, roles)
    for row in project.good["studio"]:
        row |= {"dataset": "middlebury"}
        row |= {"depth_p01_m": None, "depth_p50_m": None, "depth_p99_m": None}
    assert project.findings() == []


def test_a_few_odd_images_only_warn(project):
    project.good["wild"][0]["brightness"] = 0.0
    success, (odd,) = project.verdict("unlabelled")
    assert success is True
    assert odd["says"] == "Images of wild are neither black nor white."


def test_too_few_samples_of_a_split_block(project):
    project.limits["min_samples"]["labelled"]["splits"]["val"] = 5
    success, (few,) = project.verdict("labelled")
    assert success is False
    assert few["says"] == "There are enough samples of split val for this role."
    assert (few["seen"], few["limit"]) == ("4", "at least 5")


def test_a_source_that_gives_nothing_blocks(project):
    project.good["pairs"] = []
    (empty,) = project.findings()
    assert (empty.severity, empty.offending) == ("critical", ("pairs",))


def test_much_quarantine_warns(project):
    project.quarantined["wild"] = [
        row | {"reason": "not an image", "sample_id": f"wild-bad_{number}"}
        for number, row in enumerate(rows("wild", "all", 5, labelled=False))
    ]
    (warning,) = project.findings()
    assert (warning.severity, warning.offending) == ("warning", ("wild",))


# In one test, as a run of the gate takes four seconds.
def test_a_withdrawn_source_leaves_no_row_no_folder_and_a_role_without_samples(project, caplog):
    project.write()
    for name in ("labelled", "metric_outdoor"):
        project.limits["min_samples"][name] = {"total": 0, "splits": {}}
    del project.sources["drive"], project.good["drive"]
    with caplog.at_level(logging.INFO):
        project.run()
    assert ids("evaluation")
    assert not any(name.startswith("drive") for name in ids("evaluation"))
    assert not Path("data/ingest/drive").exists()
    assert "data/ingest/drive: removed" in caplog.text
    assert ids("metric_outdoor") == []
    verdict = json.loads((ARGUMENTS[3] / "metric_outdoor.json").read_text())
    assert verdict["success"]


def test_a_source_that_was_not_ingested_is_an_error(project):
    del project.good["wild"]
    with pytest.raises(SystemExit, match=r"gate_data: data/ingest/wild/manifest.parquet: expected"):
        project.run()
