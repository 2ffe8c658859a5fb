"""The leaderboard that accumulates, and the paired comparison of two evaluations."""

import json
import multiprocessing
import os

import pandas as pd
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from dav2.data.manifest import MANIFEST_SCHEMA, read_manifest, write_manifest
from stages import leaderboard
from stages.evaluation_differences import differences
from stages.evaluation_measures import PAIRS, PER_IMAGE
from stages.evaluation_params import EvaluateParams
from stages.evaluation_summary import summarise
from stages.leaderboard_rows import Cost, read_leaderboard, record
from stages.params import validate
from tests.fixtures.evaluating import EVALUATE

SPLITS = {"rooms": ("diode", "val"), "points": ("da2k", "test")}


def params(**changed) -> EvaluateParams:
    content = YAML(typ="safe").load(EVALUATE)["evaluate"]
    return validate(
        {**content, "saved_predictions": 0, "consistency_samples": 0, **changed},
        EvaluateParams,
        where="test",
    )


def manifest_of(num_rooms: int = 3) -> pd.DataFrame:
    rows = [
        dict.fromkeys(MANIFEST_SCHEMA.names)
        | {
            "sample_id": f"{source}-{number}",
            "source": source,
            "dataset": SPLITS[source][0],
            "domain": "indoor",
            "split": SPLITS[source][1],
            "scene": "s",
            "image": f"{number}.png",
            "extra": "[]",
            "content_hash": f"{number:064x}",
            "decoder": "0" * 16,
        }
        for source, count in (("rooms", num_rooms), ("points", 2))
        for number in range(count)
    ]
    return pd.DataFrame(rows)


def write_evaluation(folder, errors: list[float], *, correct: list[bool]) -> dict:
    per_image = pd.DataFrame(
        [
            {name: None for name in PER_IMAGE.names}
            | {
                "sample_id": f"rooms-{number}",
                "source": "rooms",
                "protocol": "relative",
                "num_pixels": 9,
                "abs_rel": error,
                "delta1": 1 - error,
            }
            for number, error in enumerate(errors)
        ],
        columns=PER_IMAGE.names,
    ).astype({"abs_rel": float, "delta1": float})
    pairs = pd.DataFrame(
        [
            {name: 0 for name in PAIRS.names}
            | {
                "sample_id": f"points-{number % 2}",
                "source": "points",
                "dataset": "da2k",
                "scenario": "indoor",
                "closer_row": number,
                "upper_is_closer": 1,
                "correct": is_right,
            }
            for number, is_right in enumerate(correct)
        ]
    )
    folder.mkdir()
    per_image.to_parquet(folder / "per_image.parquet")
    pairs.to_parquet(folder / "pairs.parquet")
    protocols = {"rooms": {"relative": {"name": "default/relative"}}}
    (folder / "protocols.json").write_text(json.dumps(protocols))
    metrics = summarise(per_image, pairs, num_resamples=20)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return metrics


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("good", "bad", "third"):
        (tmp_path / f"{name}.safetensors").write_text(name)
    return tmp_path


def add(project, name, metrics, *, manifest=None, **changed):
    manifest = manifest_of() if manifest is None else manifest
    return record(
        name,
        project / f"{name}.safetensors",
        manifest=manifest,
        metrics=metrics,
        params=params(**changed),
        cost=Cost(parameters=24_800_000, predict_s=0.0123, peak_mb=900.0, device="cpu"),
    )


def printed(capsys, *arguments) -> str:
    leaderboard.main(arguments)
    return capsys.readouterr().out


def test_models_are_sorted_by_a_measure_with_intervals_and_cost(project, capsys):
    add(project, "bad", write_evaluation(project / "b", [0.5, 0.6, 0.7], correct=[True, False]))
    add(project, "good", write_evaluation(project / "g", [0.1, 0.2, 0.3], correct=[True, True]))
    text = printed(capsys)
    head, rows = text.split("**rooms**")[1].split("\n\n")[:2]
    assert head.startswith(", relative: protocol default/relative, 3 images (samples ")
    lines = rows.splitlines()
    assert lines[2].startswith("| good (")
    assert "| 0.2000 [0." in lines[2]
    assert "| 24.8 M | 12.3 | 900 | cpu |" in lines[2]
    assert lines[3].startswith("| bad (")
    by_delta = printed(capsys, "--sort", "delta1", "--source", "rooms").splitlines()
    assert by_delta[2].startswith("| model | delta1 | abs_rel |")
    assert by_delta[4].startswith("| good (")
    pairs = text.split("**points**")[1]
    assert pairs.index("good") < pairs.index("bad")  # more pairs right is better
    with pytest.raises(ValueError, match=r"expected a measure of .*, got 'beauty'"):
        leaderboard.main(["--sort", "beauty"])


def test_an_evaluation_again_replaces_its_rows_and_another_stays_apart(project, capsys):
    first = write_evaluation(project / "a", [0.5, 0.6, 0.7], correct=[True, False])
    second = write_evaluation(project / "b", [0.1, 0.2, 0.3], correct=[True, True])
    count = add(project, "good", first)
    assert add(project, "good", second) == count
    rows = read_leaderboard(project / "leaderboard.parquet")
    assert len(rows) == count
    assert rows.set_index(["kind", "measure"]).loc[("relative", "abs_rel"), "value"] == 0.2
    column = "relative/rooms/abs_rel"
    assert "0.2000" in printed(capsys, "wide", column, "da2k/points/all")
    add(project, "bad", first, manifest=manifest_of(num_rooms=4))
    assert printed(capsys).count("**rooms**") == 2
    with pytest.raises(ValueError, match=r"abs_rel: expected one set of samples and one protocol"):
        leaderboard.main(["wide", column])
    leaderboard.main(["wide", "da2k/points/all"])  # whose samples are the same in both


def test_another_protocol_or_setting_is_another_column(project):
    metrics = write_evaluation(project / "a", [0.5, 0.6, 0.7], correct=[True, False])
    add(project, "good", metrics)
    add(project, "bad", metrics, min_pair_ratio=1.5)
    add(project, "third", metrics, protocols={"rooms": {"relative": "v2/any"}})
    rows = read_leaderboard(project / "leaderboard.parquet")
    rooms = rows[rows["source"] == "rooms"]
    assert rooms["protocol_digest"].nunique() == 3
    assert rooms["manifest_digest"].nunique() == 1
    points = rows[rows["source"] == "points"]
    assert points["protocol_digest"].nunique() == 2


def _add_many(project, name, metrics):
    os.chdir(project)
    for number in range(5):
        (project / f"{name}{number}.safetensors").write_text(f"{name}{number}")
        add(project, f"{name}{number}", metrics)


def test_two_at_once_lose_nothing(project):
    metrics = write_evaluation(project / "a", [0.5, 0.6, 0.7], correct=[True, False])
    context = multiprocessing.get_context("forkserver")  # this one has threads
    processes = [
        context.Process(target=_add_many, args=(project, name, metrics)) for name in ("x", "y")
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    rows = read_leaderboard(project / "leaderboard.parquet")
    assert rows["model"].nunique() == 10
    assert not list(project.glob(".leaderboard*"))


def test_what_is_no_leaderboard_is_refused_and_left(project):
    metrics = write_evaluation(project / "a", [0.5, 0.6, 0.7], correct=[True, False])
    path = project / "leaderboard.parquet"
    path.write_text("notes")
    with pytest.raises(ValueError, match=r"leaderboard\.parquet: expected a Parquet file"):
        add(project, "good", metrics)
    assert path.read_text() == "notes"
    pd.DataFrame({"x": [1]}).to_parquet(path)
    with pytest.raises(ValueError, match="expected a leaderboard's columns, got missing"):
        add(project, "good", metrics)
    path.unlink()
    with pytest.raises(ValueError, match="expected evaluations, got none"):
        leaderboard.main([])


def test_an_evaluation_that_was_restored_is_taken_in(project, capsys):
    write_evaluation(project / "a", [0.5, 0.6, 0.7], correct=[True, False])
    write_manifest(manifest_of(), project / "m.parquet")
    (project / "params.yaml").write_text(EVALUATE + "  saved_predictions: 0\n"
                                         "  consistency_samples: 0\n")  # fmt: skip
    leaderboard.main(["add", "good", "m.parquet", "good.safetensors", "a"])
    rows = read_leaderboard(project / "leaderboard.parquet")
    assert set(rows["kind"]) == {"relative", "da2k"}
    assert len(read_manifest(project / "m.parquet")) == 5
    assert pq.read_table(project / "leaderboard.parquet").schema.metadata is None


def test_two_models_are_compared_on_the_images_of_both(project, capsys):
    write_evaluation(project / "a", [0.5, 0.6, 0.7, 9.9], correct=[True, False, False, False])
    write_evaluation(project / "b", [0.4, 0.4, 0.4], correct=[True, True, True, True])
    found = pd.DataFrame(differences(project / "a", project / "b"))
    found = found.set_index("measure")
    assert found.loc["abs_rel", "num_images"] == 3
    assert found.loc["abs_rel", "difference"] == pytest.approx(0.2)
    assert 0.09 < found.loc["abs_rel", "low"] < 0.2 < found.loc["abs_rel", "high"] < 0.31
    assert found.loc["accuracy", "difference"] == pytest.approx(-0.75)
    text = printed(capsys, "compare", "a", "b")
    line = next(line for line in text.splitlines() if "| abs_rel |" in line)
    assert line.endswith("| other |")
    same = printed(capsys, "compare", "a", "a")
    assert same.count("not told apart") == same.count("\n") - 2


def test_two_protocols_are_not_compared(project):
    write_evaluation(project / "a", [0.5], correct=[True])
    write_evaluation(project / "b", [0.4], correct=[True])
    said = {"rooms": {"relative": {"name": "v2/any"}}}
    (project / "b" / "protocols.json").write_text(json.dumps(said))
    with pytest.raises(ValueError, match="expected one protocol in both, got default/relative"):
        leaderboard.main(["compare", "a", "b"])
    with pytest.raises(FileNotFoundError, match="expected a folder of an evaluation"):
        leaderboard.main(["compare", "a", "nowhere"])
