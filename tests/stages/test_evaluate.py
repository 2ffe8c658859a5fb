"""The stages `evaluate` and `evaluate_trivial` on small sets in published layouts."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dav2.data.manifest import MANIFEST_SCHEMA, read_manifest, write_manifest
from dav2.data.open import open_dataset
from dav2.data.png16 import decode_png16
from dav2.models import checkpoints
from dav2.models.depth_anything import DepthAnything, ModelConfig
from dav2.models.interchange import write_transformers, write_upstream
from stages import evaluate, evaluate_trivial, evaluation_loop
from stages.evaluated_model import load_evaluated
from stages.evaluation import Evaluation, saved_rows
from tests.fixtures.evaluating import (
    EVALUATE,
    HEIGHT,
    WIDTH,
    write_diode,
    write_points,
    write_stereo,
)

SOURCES = """
sources:
  rooms: {reader: diode, root: rooms, watch: rooms, domain: indoor, roles: {evaluation: [val]}}
  streets:
    {reader: diode, root: streets, watch: streets, domain: outdoor, roles: {evaluation: [val]}}
  stereo:
    {reader: middlebury, root: stereo, watch: stereo, domain: mixed, roles: {evaluation: [all]}}
  points: {reader: da2k, root: points, watch: points, domain: mixed, roles: {evaluation: [test]}}
"""
PARAMS = f"""{SOURCES}{EVALUATE}  saved_predictions: 2
  consistency_samples: 1
"""
SPLITS = {"rooms": "val", "streets": "val", "stereo": "all", "points": "test"}
READERS = {"rooms": "diode", "streets": "diode", "stereo": "middlebury", "points": "da2k"}
DOMAINS = {"rooms": "indoor", "streets": "outdoor", "stereo": "mixed", "points": "mixed"}


def manifest_of(root: Path, sources: list[str], *, split: str | None = None) -> pd.DataFrame:
    rows = []
    for source in sources:
        reader = open_dataset(READERS[source], root / source)
        for files in reader.list_samples(SPLITS[source]):
            rows.append(
                {name: None for name in MANIFEST_SCHEMA.names}
                | {
                    "sample_id": f"{source}-{files.sample_id}".replace("/", "_").replace(".", "_"),
                    "source": source,
                    "dataset": READERS[source],
                    "domain": DOMAINS[source],
                    "split": split or SPLITS[source],
                    "scene": files.scene,
                    "image": files.image,
                    "depth": files.depth,
                    "extra": json.dumps(files.extra),
                    "width": WIDTH,
                    "height": HEIGHT,
                    "decoder": "0" * 16,
                }
            )
    return pd.DataFrame(rows)


@pytest.fixture
def project(tmp_path, monkeypatch, mlflow_store):
    """A project folder with data, parameters and manifests; the stages run in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    shutil.copyfile(mlflow_store, tmp_path / "mlflow.db")
    write_diode(tmp_path / "rooms", "indoors", far_m=8.0, count=3)
    write_diode(tmp_path / "streets", "outdoor", far_m=60.0, count=3)
    write_stereo(tmp_path / "stereo")
    write_points(tmp_path / "points")
    (tmp_path / "params.yaml").write_text(PARAMS)
    write_manifest(manifest_of(tmp_path, list(SPLITS)), tmp_path / "evaluation.parquet")
    labelled = manifest_of(tmp_path, ["rooms", "streets"], split="train")
    write_manifest(labelled, tmp_path / "labelled.parquet")
    return tmp_path


def write_model(path: Path, *, max_depth_m: float | None = None, **metadata) -> Path:
    torch.manual_seed(0)
    model = DepthAnything(ModelConfig("vit64x4", max_depth_m))
    checkpoints.save(model, path, metadata)
    return path


def run(project: Path, checkpoint: Path, output: str = "out") -> dict:
    evaluate.main("m", project / "evaluation.parquet", checkpoint, project / output)
    return json.loads((project / output / "metrics.json").read_text())


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_relative_model_is_measured_on_every_source(project):
    checkpoint = write_model(project / "m.safetensors")
    metrics = run(project, checkpoint)
    sources = {"rooms", "streets", "stereo"}
    assert set(metrics) == {*sources, "average", "da2k", "intervals", "model"}
    assert metrics["model"]["bytes"] == checkpoint.stat().st_size
    assert metrics["model"]["bytes"] > 4 * metrics["model"]["parameters"] > 4e5  # float32
    assert metrics["rooms"]["num_images"] == 3
    assert 0 <= metrics["rooms"]["delta1"] <= 1
    assert "rmse" in metrics["rooms"]
    assert "rmse" not in metrics["stereo"]  # of disparity, whose unit is not metres
    mean = np.mean([metrics[name]["abs_rel"] for name in ("rooms", "streets", "stereo")])
    assert metrics["average"]["abs_rel"] == pytest.approx(mean, abs=1e-5)
    assert set(metrics["da2k"]) == {"indoor", "aerial", "all", "balanced"}
    low, high = metrics["intervals"]["rooms"]["abs_rel"]
    assert low <= metrics["rooms"]["abs_rel"] <= high
    per_image = pd.read_parquet(project / "out" / "per_image.parquet")
    changed = per_image.dropna(subset="inconsistency_flip")
    assert sorted(changed["source"]) == ["rooms", "stereo", "streets"]  # one of each with depth
    assert changed[["inconsistency_crop", "inconsistency_resolution"]].gt(0).all().all()


def test_tables_and_pictures_fit_the_metrics(project):
    metrics = run(project, write_model(project / "m.safetensors"))
    per_image = pd.read_parquet(project / "out" / "per_image.parquet")
    rooms = per_image[per_image["source"] == "rooms"]
    assert rooms["abs_rel"].mean() == pytest.approx(metrics["rooms"]["abs_rel"], abs=1e-6)
    assert (rooms["num_pixels"] == (HEIGHT - 3) * WIDTH).all()
    pairs = pd.read_parquet(project / "out" / "pairs.parquet")
    assert pairs["correct"].mean() == metrics["da2k"]["all"]
    assert sorted(pairs["upper_is_closer"]) == [-1, -1, 1, 1]
    pictures = json.loads((project / "out" / "predictions.json").read_text())
    assert len(pictures) == 2 + 2 + 1 + 2
    for name, entry in pictures.items():
        codes = decode_png16((project / "out" / entry["file"]).read_bytes(), where=name)
        assert codes.shape == (HEIGHT, WIDTH)
        assert entry["aligned"] == (entry["source"] != "points")
        if entry["source"] == "rooms":  # inverse depth within the protocol's limits
            assert 1 / 80 - 1e-6 <= entry["minimum"] <= entry["maximum"] <= 10


def test_a_metric_model_is_measured_in_metres_on_its_domain(project):
    checkpoint = write_model(project / "m.safetensors", max_depth_m=20.0, domain="indoor")
    metrics = run(project, checkpoint)
    assert set(metrics["metric"]) == {"rooms", "average"}
    assert set(metrics["intervals"]["metric"]) == {"average", "rooms"}
    assert {"rooms", "streets", "stereo"} <= set(metrics)
    per_image = pd.read_parquet(project / "out" / "per_image.parquet")
    assert set(per_image.loc[per_image["protocol"] == "metric", "source"]) == {"rooms"}


def test_the_domain_is_that_of_the_manifest_on_which_dvc_depends(project):
    manifest = read_manifest(project / "evaluation.parquet").assign(domain="outdoor")
    write_manifest(manifest, project / "evaluation.parquet")  # params.yaml still says indoor
    checkpoint = write_model(project / "m.safetensors", max_depth_m=20.0, domain="indoor")
    assert "metric" not in run(project, checkpoint)
    evaluate_trivial.main(
        project / "labelled.parquet", project / "evaluation.parquet", project / "reports"
    )
    metrics = json.loads((project / "reports" / "trivial-constant" / "metrics.json").read_text())
    assert set(metrics["metric"]) == {"rooms", "streets", "average"}


def test_a_metric_model_of_no_known_domain_is_refused(project):
    checkpoint = write_model(project / "m.safetensors", max_depth_m=20.0, domain="moon")
    with pytest.raises(SystemExit, match=r"^evaluate m: .*m\.safetensors: .* got 'moon'$"):
        run(project, checkpoint)
    assert not (project / "out").exists()


def test_bfloat16_changes_little_and_the_size_may_come_from_the_checkpoint(project):
    checkpoint = write_model(project / "m.safetensors", short_side_px=28)
    exact = run(project, checkpoint, "exact")
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("short_side_px: 28", "short_side_px: null"))
    assert run(project, checkpoint, "native") == exact
    (project / "params.yaml").write_text(text.replace("dtype: float32", "dtype: bfloat16"))
    coarse = run(project, checkpoint, "coarse")
    assert coarse != exact
    assert coarse["rooms"]["abs_rel"] == pytest.approx(exact["rooms"]["abs_rel"], rel=0.1)


def test_two_runs_write_the_same_bytes(project):
    checkpoint = write_model(project / "m.safetensors")
    run(project, checkpoint, "first")
    run(project, checkpoint, "second")
    assert digests(project / "first") == digests(project / "second")


def test_a_killed_evaluation_goes_on_where_it_was_to_the_same_bytes(project, monkeypatch):
    checkpoint = write_model(project / "m.safetensors")
    run(project, checkpoint, "whole")
    add, calls = Evaluation.add, []

    def killed(self, predicted):
        calls.append(predicted.row)
        if len(calls) == 4:  # in the middle of a batch of two
            raise KeyboardInterrupt
        add(self, predicted)

    monkeypatch.setattr(Evaluation, "add", killed)
    with pytest.raises(KeyboardInterrupt):
        run(project, checkpoint)
    (progress,) = (project / ".work" / "evaluate").rglob("progress.jsonl")
    progress.write_bytes(progress.read_bytes() + b'{"row": 3, "per_im')  # torn by the kill
    run(project, checkpoint)
    assert calls == [0, 1, 2, 3, *range(3, 9)]
    assert digests(project / "out") == digests(project / "whole")
    assert not list((project / ".work" / "evaluate").rglob("*.png"))


@pytest.mark.slow
def test_weights_of_the_authors_and_of_transformers_are_evaluated_alike(project):
    torch.manual_seed(0)
    model = DepthAnything(ModelConfig("vits"))
    write_upstream(model, project / "depth_anything_v2_vits.pth")
    write_transformers(model, project / "folder")
    upstream = run(project, project / "depth_anything_v2_vits.pth", "upstream")
    folder = run(project, project / "folder", "folder-out")
    assert upstream["model"]["parameters"] == folder["model"]["parameters"] > 24e6
    assert folder["model"]["bytes"] > 4 * folder["model"]["parameters"]
    assert {k: v for k, v in upstream.items() if k != "model"} == {
        k: v for k, v in folder.items() if k != "model"
    }
    model = load_evaluated(project / "depth_anything_v2_vits.pth")
    assert (model.trained_px, model.preparation, model.domain) == (518, "authors", None)
    own = load_evaluated(write_model(project / "m.safetensors", short_side_px=84))
    assert (own.trained_px, own.preparation) == (84, "antialiased")


@pytest.mark.slow
def test_the_domain_of_a_published_metric_model_follows_from_its_limit(project):
    torch.manual_seed(0)
    path = project / "depth_anything_v2_metric_hypersim_vits.pth"
    write_upstream(DepthAnything(ModelConfig("vits", 20.0)), path)
    assert load_evaluated(path).domain == "indoor"


def test_large_images_come_alone(monkeypatch):
    monkeypatch.setattr("stages.evaluation_loop._BATCH_PIXELS", 100)
    manifest = pd.DataFrame({"width": [5, 5, 5, 50, 5, 10], "height": [10, 10, 10, 10, 9, 5]})
    assert list(evaluation_loop._batches(manifest, 16)) == [[0, 1], [2], [3], [4, 5]]
    assert list(evaluation_loop._batches(manifest, 1)) == [[0], [1], [2], [3], [4], [5]]


def test_baselines_get_what_they_deserve(project):
    evaluate_trivial.main(
        project / "labelled.parquet", project / "evaluation.parquet", project / "reports"
    )
    metrics = {
        path.parent.name: json.loads(path.read_text())
        for path in (project / "reports").glob("*/metrics.json")
    }
    assert set(metrics) == {f"trivial-{name}" for name in evaluate_trivial.BASELINES}
    assert metrics["trivial-constant"]["rooms"]["pair_accuracy"] == 0.0
    assert metrics["trivial-constant"]["da2k"]["all"] == 0.0
    assert metrics["trivial-ramp"]["rooms"]["pair_accuracy"] == 0.5
    assert metrics["trivial-ramp"]["da2k"]["balanced"] == 0.5
    for name in ("row_mean", "pixel_mean"):  # trained on these very scenes
        better = metrics[f"trivial-{name}"]["rooms"]["abs_rel"]
        assert better < metrics["trivial-constant"]["rooms"]["abs_rel"]
        metric = metrics[f"trivial-{name}"]["metric"]
        assert (
            metric["streets"]["abs_rel"]
            < metrics["trivial-constant"]["metric"]["streets"]["abs_rel"]
        )
    assert "metric" not in metrics["trivial-ramp"]
    entry = metrics["trivial-constant"]["stereo"]
    assert entry["abs_rel_inverse"] > 0


def test_training_samples_are_needed_for_baselines(project):
    manifest = read_manifest(project / "labelled.parquet").assign(split="val")
    write_manifest(manifest, project / "labelled.parquet")
    with pytest.raises(SystemExit, match=r"labelled\.parquet: expected training samples, got none"):
        evaluate_trivial.main(
            project / "labelled.parquet", project / "evaluation.parquet", project / "reports"
        )
    assert not list((project / "reports").glob("*"))


def test_pictures_are_evenly_spread_whatever_the_order_of_rows():
    manifest = pd.DataFrame(
        {"sample_id": [f"s-{i:02d}" for i in range(9)] + ["t-0"], "source": ["s"] * 9 + ["t"]}
    )
    assert saved_rows(manifest, 3) == {0, 4, 8, 9}
    backwards = manifest.iloc[::-1].reset_index(drop=True)
    kept = {backwards["sample_id"][row] for row in saved_rows(backwards, 3)}
    assert kept == {"s-00", "s-04", "s-08", "t-0"}
    assert saved_rows(manifest, 0) == set()


MOTORCYCLE = Path(__file__).parents[3] / "shared" / "data" / "motorcycle"


@pytest.mark.skipif(not MOTORCYCLE.is_dir(), reason="the Middlebury pair lies outside the project")
def test_the_middlebury_pair_is_evaluated_in_disparity(project):
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("root: stereo,", f"root: {MOTORCYCLE},"))
    files = open_dataset("middlebury", MOTORCYCLE).list_samples("all")[0]
    manifest = read_manifest(project / "evaluation.parquet")
    manifest = manifest[manifest["source"] == "stereo"].assign(
        image=files.image, depth=files.depth, width=741, height=500
    )
    write_manifest(manifest, project / "evaluation.parquet")
    evaluate_trivial.main(
        project / "labelled.parquet", project / "evaluation.parquet", project / "reports"
    )
    path = project / "reports" / "trivial-{}" / "metrics.json"
    constant, ramp = (
        json.loads(Path(str(path).format(name)).read_text())["stereo"]
        for name in ("constant", "ramp")
    )
    # Blind to the unit: of a constant, |mean d - d| / d averaged over known pixels.
    disparity = np.load(MOTORCYCLE / files.depth)["arr_0"].astype(np.float64)
    known = disparity[np.isfinite(disparity) & (disparity > 0)]
    expected = (np.abs(known.mean() - known) / known).mean()
    assert constant["abs_rel_inverse"] == pytest.approx(expected, rel=1e-4)
    assert ramp["abs_rel_inverse"] < constant["abs_rel_inverse"]
    assert "rmse" not in ramp


def write_maps(project: Path, quantity: str, domain: str | None, stored) -> Path:
    """Writes for each image what `stored` makes of its depth; of a slope where it has none."""
    folder = project / f"maps-{quantity}"
    manifest = read_manifest(project / "evaluation.parquet")
    for row in manifest.itertuples():
        depth = np.linspace(9, 2, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
        if row.dataset == "diode":
            depth = np.load(project / row.source / row.depth)[..., 0]
        path = (folder / row.source / row.image).with_suffix(".npy")
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, stored(depth))
    says = {"quantity": quantity, "values_per_unit": 1000.0, "domain": domain}
    (folder / "maps.yaml").write_text(json.dumps(says))
    return folder


def test_maps_of_another_program_are_evaluated_like_a_model(project):
    relative = write_maps(project, "relative_depth", None, lambda depth: 3000 / depth + 70)
    metrics = run(project, relative)
    assert metrics["rooms"]["abs_rel"] < 1e-5  # the truth, up to scale and shift
    assert "metric" not in metrics
    assert "model" not in metrics
    metres = write_maps(project, "depth", "indoor", lambda depth: (2000 * depth).astype(np.int32))
    metrics = run(project, metres, "metres")
    assert set(metrics["metric"]) == {"rooms", "average"}
    assert 0.5 < metrics["metric"]["rooms"]["abs_rel"] <= 1.0  # twice too far, but for the cap
    assert metrics["streets"]["abs_rel"] < 0.01


def test_a_missing_map_or_a_wrong_description_ends_with_one_line(project):
    maps = write_maps(project, "relative_depth", None, lambda depth: 1 / depth)
    next(maps.rglob("*.npy")).unlink()
    with pytest.raises(SystemExit, match=r"^evaluate m: .*expected a map \(.*\), got none$"):
        run(project, maps)
    (maps / "maps.yaml").write_text("{quantity: depth, values_per_unit: 1.0, domain: null}")
    with pytest.raises(SystemExit, match=r"maps\.yaml.*expected a domain of depth"):
        run(project, maps)


def test_the_leaderboard_remembers_what_each_model_reached_and_took(project, caplog):
    checkpoint = write_model(project / "m.safetensors")
    metrics = run(project, checkpoint)
    rows = pd.read_parquet(project / "leaderboard.parquet").set_index(["source", "measure"])
    row = rows.loc[("rooms", "abs_rel")]
    assert row["value"] == metrics["rooms"]["abs_rel"]
    assert [row["low"], row["high"]] == metrics["intervals"]["rooms"]["abs_rel"]
    assert row["parameters"] == metrics["model"]["parameters"]
    assert 0 < row["predict_s"] < row["evaluate_s"] < 60
    assert row["peak_mb"] > 100
    assert rows.loc[("points", "balanced"), "low"] <= rows.loc[("points", "balanced"), "value"]
    (project / "leaderboard.parquet").write_text("notes")  # cannot be added to
    assert run(project, checkpoint, "again") == metrics
    assert "the leaderboard could not take m: " in caplog.text
