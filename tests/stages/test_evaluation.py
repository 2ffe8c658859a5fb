"""What evaluation does with each kind of sample, and how it sums up."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dav2.data.open import SourceLocation
from dav2.data.sample import DepthSample, Intrinsics
from stages.evaluation import Evaluation, Predicted
from stages.evaluation_measures import measure_depth, measure_order, measure_region
from stages.evaluation_params import EvaluateParams
from stages.evaluation_protocols import read_protocol
from stages.evaluation_summary import DENSE_METRICS, flat, summarise

PARAMS = {
    "device": "cpu",
    "dtype": "float32",
    "num_threads": 1,
    "batch_size": 2,
    "short_side_px": 28,
    "relative": "default/relative",
    "metric": {"indoor": "default/indoor", "outdoor": "default/outdoor"},
    "protocols": {},
    "num_pairs": 20,
    "min_pair_ratio": 1.3,
    "baseline_samples": 10,
    "saved_predictions": 1,
    "consistency_samples": 0,
    "bootstrap_resamples": 10,
}
HEIGHT, WIDTH = 6, 8


def sample(**changes) -> DepthSample:
    depth = np.geomspace(1, 40, HEIGHT * WIDTH, dtype=np.float32)
    np.random.default_rng(0).shuffle(depth)
    entries = {
        "sample_id": "s-0",
        "dataset": "d",
        "scene": "e",
        "image": np.zeros((HEIGHT, WIDTH, 3), np.uint8),
        "depth": depth.reshape(HEIGHT, WIDTH),
        "valid": np.ones((HEIGHT, WIDTH), bool),
        "sky": None,
        "intrinsics": None,
    }
    return DepthSample(**(entries | changes))


def under_sky() -> DepthSample:
    sky = np.zeros((HEIGHT, WIDTH), bool)
    sky[:2] = True
    return sample(depth=np.where(sky, np.float32(np.inf), sample().depth), sky=sky)


@pytest.fixture
def evaluation(tmp_path):
    return Evaluation(
        pd.DataFrame({"sample_id": ["s-0"], "source": ["s"]}),
        tmp_path / "out",
        params=EvaluateParams.model_validate(PARAMS),
        sources={},
        domains={"s": "indoor"},
    )


def test_truth_itself_is_perfect_and_knows_the_sky(evaluation):
    true = under_sky()
    evaluation.add(Predicted(0, true, true.inverse_depth()))
    measured = evaluation.finish()["s"]
    assert measured["delta1"] == measured["pair_accuracy"] == measured["sky_order"] == 1.0
    assert measured["abs_rel"] == pytest.approx(0.0, abs=1e-6)


def test_a_sky_put_nearest_is_wrong_in_its_order_alone(evaluation):
    true = under_sky()
    prediction = np.where(true.sky, np.float32(9), true.inverse_depth())
    evaluation.add(Predicted(0, true, prediction))
    measured = evaluation.finish()["s"]
    assert measured["sky_order"] == 0.0
    assert measured["delta1"] == measured["pair_accuracy"] == 1.0


def test_metres_are_held_against_the_limits_of_the_domain(evaluation):
    true = sample()
    evaluation.add(Predicted(0, true, 1 / true.depth, 2 * true.depth))
    metrics = evaluation.finish()
    assert metrics["s"]["abs_rel"] == pytest.approx(0.0, abs=1e-6)
    near = true.depth[true.depth <= 20]
    assert metrics["metric"]["s"]["abs_rel"] == pytest.approx(
        (np.minimum(2 * near, 20) / near - 1).mean(), abs=1e-5
    )
    assert "pair_accuracy" not in metrics["metric"]["s"]


def test_an_image_without_pixels_in_the_limits_is_listed_but_not_measured(evaluation, tmp_path):
    far = sample(depth=np.full((HEIGHT, WIDTH), 500, np.float32))
    evaluation.add(Predicted(0, far, far.inverse_depth()))
    metrics = evaluation.finish()
    assert metrics["s"] == {"num_images": 0}
    assert pd.read_parquet(tmp_path / "out" / "per_image.parquet")["num_pixels"].tolist() == [0]


def test_an_image_without_depth_leaves_a_picture_and_no_measure(evaluation, tmp_path):
    blank = sample(depth=None, valid=None)
    evaluation.add(Predicted(0, blank, np.ones((HEIGHT, WIDTH), np.float32)))
    assert evaluation.finish() == {"intervals": {}}
    assert (tmp_path / "out" / "predictions" / "s-0.png").is_file()
    assert evaluation.panels["s"].shape == (HEIGHT, 2 * WIDTH, 3)


CAMERA = Intrinsics(fx_px=9.0, fy_px=8.0, cx_px=4.0, cy_px=3.0)


def test_a_known_camera_adds_normals_and_flat_patches(evaluation):
    u = (np.arange(WIDTH) + 0.5 - CAMERA.cx_px) / CAMERA.fx_px
    wall = np.broadcast_to(1 / (0.2 * u + 0.5), (HEIGHT, WIDTH)).astype(np.float32)
    true = sample(depth=wall, intrinsics=CAMERA)
    evaluation.add(Predicted(0, true, true.inverse_depth()))
    measured = evaluation.finish()["s"]
    assert measured["normal_mean_deg"] == pytest.approx(0.0, abs=0.01)
    assert measured["normal_within_11"] == 1.0
    assert measured["planarity"] == pytest.approx(0.0, abs=1e-5)


def test_without_a_camera_there_are_no_normals(evaluation):
    true = sample()
    evaluation.add(Predicted(0, true, true.inverse_depth()))
    assert not {"planarity", "normal_mean_deg"} & set(evaluation.finish()["s"])


def test_sky_at_the_farthest_is_measured_but_not_among_the_pairs(evaluation):
    true = under_sky()
    protocol = dataclasses.replace(read_protocol("default/relative").protocol(), sky="farthest")
    row, aligned, pixels = measure_depth(true, true.inverse_depth(), protocol=protocol)
    assert row["num_pixels"] == HEIGHT * WIDTH
    assert (aligned.depth[true.sky] > 40).all()
    order = measure_order(
        true, true.inverse_depth(), pixels=pixels, num_pairs=20, min_pair_ratio=1.3
    )
    assert order == {"pair_accuracy": 1.0, "sky_order": 1.0}


def test_glass_and_mirrors_are_measured_apart_under_one_alignment(evaluation):
    true = sample(depth=np.full((HEIGHT, WIDTH), 2.0, np.float32))
    true.depth[:, 4:] = 4.0
    region = np.zeros((HEIGHT, WIDTH), dtype=bool)
    region[:2] = True
    prediction = true.depth.copy()
    prediction[:2] *= 1.5
    protocol = read_protocol("default/outdoor").protocol()
    _, aligned, pixels = measure_depth(true, prediction, protocol=protocol)
    apart = measure_region(true, aligned, pixels=pixels, region=region)
    assert apart == pytest.approx(
        {"delta1_tom": 0.0, "abs_rel_tom": 0.5, "delta1_other": 1.0, "abs_rel_other": 0.0}
    )
    assert measure_region(true, aligned, pixels=pixels & region, region=region).keys() == {
        "delta1_tom",
        "abs_rel_tom",
    }


def test_the_pairs_of_depth_in_the_wild_are_read_and_judged(tmp_path):
    (tmp_path / "DIW_Annotations").mkdir()
    (tmp_path / "DIW_test").mkdir()
    # From 1: the point of row 1, column 2 is farther than that of row 6, column 8.
    (tmp_path / "DIW_Annotations" / "DIW_test.csv").write_text(
        "./DIW_test/a.thumb\n1,2,6,8,>,8,6\n"
    )
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(
        tmp_path / "DIW_test" / "a.thumb", format="PNG"
    )
    location = SourceLocation("diw", tmp_path)
    (files,) = location.open().list_samples("test")
    manifest = pd.DataFrame(
        {
            "sample_id": ["s-0"],
            "source": ["s"],
            "scene": [files.scene],
            "image": [files.image],
            "extra": [json.dumps(files.extra)],
        }
    )
    evaluation = Evaluation(
        manifest,
        tmp_path / "out",
        params=EvaluateParams.model_validate(PARAMS),
        sources={"s": location},
        domains={"s": "mixed"},
    )
    prediction = np.zeros((HEIGHT, WIDTH), np.float32)
    prediction[0, 1] = 1.0  # closer, where people say farther
    evaluation.add(Predicted(0, sample(depth=None, valid=None), prediction))
    metrics = evaluation.finish()
    assert metrics["whdr"] == {"s": 1.0}
    assert "da2k" not in metrics
    (row,) = pd.read_parquet(tmp_path / "out" / "pairs.parquet").to_dict("records")
    assert (row["closer_row"], row["closer_column"], row["dataset"]) == (5, 7, "diw")


def test_a_source_may_have_protocols_of_its_own(tmp_path):
    own = PARAMS | {"protocols": {"s": {"relative": "marigold/any", "metric": "zoedepth/indoor"}}}
    params = EvaluateParams.model_validate(own)
    assert params.protocol_of("relative", "t", "indoor") == "default/relative"
    assert params.protocol_of("metric", "t", "mixed") is None
    manifest = pd.DataFrame({"sample_id": ["s-0"], "source": ["s"]})
    evaluation = Evaluation(
        manifest, tmp_path / "out", params=params, sources={}, domains={"s": "indoor"}
    )
    true = sample()
    evaluation.add(Predicted(0, true, true.inverse_depth(), true.depth))
    evaluation.finish()
    written = json.loads((tmp_path / "out" / "protocols.json").read_text())
    assert written["s"]["relative"]["floor_inverse_depth"] == 0.001
    assert "zoedepth/indoor: not aligned" in written["s"]["metric"]["says"]
    table = pd.read_parquet(tmp_path / "out" / "per_image.parquet").set_index("protocol")
    assert table.loc["relative", "num_pixels"] == HEIGHT * WIDTH  # no limit
    assert table.loc["metric", "num_pixels"] < table.loc["relative", "num_pixels"]


def test_a_prediction_of_another_size_is_refused(evaluation):
    with pytest.raises(ValueError, match=r"s-0: expected .* size \(6, 8\), got \(3, 8\)"):
        evaluation.add(Predicted(0, sample(), np.ones((3, 8), np.float32)))


def test_a_prediction_that_is_no_number_is_refused(evaluation):
    with pytest.raises(ValueError, match="s-0: expected a finite prediction"):
        evaluation.add(Predicted(0, sample(), np.full((HEIGHT, WIDTH), np.nan, np.float32)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": {"indoor": "default/indoor"}}, "metric"),
        ({"relative": "default/indoor"}, "aligned in inverse depth, got default/indoor, aligned"),
        ({"protocols": {"s": {"metric": "v2/any"}}}, "aligned in depth, got v2/any"),
        ({"relative": "v3/any"}, "expected a protocol of .*v2/kitti.*, got 'v3/any'"),
        ({"num_pairs": 3}, "num_pairs"),
        ({"short_side_px": 100}, "short_side_px"),
        ({"short_sides_px": 28}, "short_sides_px"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        EvaluateParams.model_validate(PARAMS | change)


def rows(*, entries):
    blank = {name: np.nan for name in DENSE_METRICS}
    usual = {"sample_id": "s-0", "source": "s", "protocol": "relative", "num_pixels": 5}
    columns = [*usual, *blank]
    return pd.DataFrame([usual | blank | entry for entry in entries], columns=columns)


NO_PAIRS = pd.DataFrame(
    columns=["sample_id", "source", "dataset", "scenario", "upper_is_closer", "correct"]
)


def test_means_are_over_images_then_over_sources():
    table = rows(
        entries=[
            {"delta1": 0.2},
            {"delta1": 0.4, "sky_order": 0.5},
            {"delta1": 0.9, "source": "t"},
        ]
    )
    metrics = summarise(table, NO_PAIRS, num_resamples=10)
    assert metrics["s"] == {"delta1": 0.3, "sky_order": 0.5, "num_images": 2}
    assert metrics["t"] == {"delta1": 0.9, "num_images": 1}
    assert metrics["average"] == {"delta1": 0.6, "sky_order": 0.5}
    assert metrics["intervals"]["t"] == {"delta1": [0.9, 0.9]}


def test_the_interval_of_the_average_is_that_of_independent_sources():
    rng = np.random.default_rng(0)
    values = {"s": rng.normal(0.5, 0.2, 40), "t": rng.normal(0.7, 0.1, 90)}
    table = rows(
        entries=[
            {"delta1": value, "source": source}
            for source, group in values.items()
            for value in group
        ]
    )
    low, high = summarise(table, NO_PAIRS, num_resamples=4000)["intervals"]["average"]["delta1"]
    error = np.sqrt(sum(group.var() / group.size for group in values.values())) / 2
    middle = np.mean([group.mean() for group in values.values()])
    assert (low, high) == pytest.approx((middle - 1.96 * error, middle + 1.96 * error), abs=2e-3)


def test_a_protocol_may_average_over_the_pixels_of_all_images():
    table = rows(
        entries=[
            {"num_pixels": 30, "delta1": 0.2, "rmse": 1.0, "rmse_log": 0.5, "log_bias": 0.3},
            {"num_pixels": 10, "delta1": 0.6, "rmse": 3.0, "rmse_log": 0.1, "log_bias": -0.1},
            {"num_pixels": 0},
        ]
    )
    metrics = summarise(table, NO_PAIRS, num_resamples=20, pooled={("relative", "s")})
    assert metrics["s"]["delta1"] == pytest.approx((30 * 0.2 + 10 * 0.6) / 40)
    assert metrics["s"]["rmse"] == pytest.approx(np.sqrt((30 * 1 + 10 * 9) / 40), abs=1e-6)
    mean, square = (30 * 0.3 - 10 * 0.1) / 40, (30 * 0.25 + 10 * 0.01) / 40
    assert metrics["s"]["silog"] == pytest.approx(100 * np.sqrt(square - mean**2), abs=1e-6)
    assert metrics["s"]["num_images"] == 2
    low, high = metrics["intervals"]["s"]["rmse"]
    assert 1.0 <= low <= metrics["s"]["rmse"] <= high <= 3.0
    low, high = metrics["intervals"]["s"]["silog"]
    # Of one image alone: roots of 0.25 - 0.09 and of 0.01 - 0.01.
    assert 0.0 <= low <= metrics["s"]["silog"] <= high == pytest.approx(100 * 0.4, abs=10)
    assert summarise(table, NO_PAIRS, num_resamples=20)["s"]["delta1"] == 0.4


def test_pairs_are_pooled_by_scenario():
    pairs = pd.DataFrame(
        {
            "sample_id": ["a", "a", "a", "b"],
            "source": "s",
            "dataset": "da2k",
            "scenario": ["indoor", "indoor", "indoor", "aerial"],
            "upper_is_closer": [1, 1, 1, -1],
            "correct": [True, True, True, False],
        }
    )
    metrics = summarise(rows(entries=[]), pairs, num_resamples=10)
    assert metrics["da2k"] == {"indoor": 1.0, "aerial": 0.0, "all": 0.75, "balanced": 0.5}
    low, high = metrics["intervals"]["da2k"]["all"]
    assert 0.0 <= low <= 0.75 <= high <= 1.0


def test_the_pairs_of_depth_in_the_wild_are_a_rate_of_disagreement_of_their_own():
    pairs = pd.DataFrame(
        {
            "sample_id": ["a", "b", "c", "d"],
            "source": ["photos", "photos", "photos", "points"],
            "dataset": ["diw", "diw", "diw", "da2k"],
            "scenario": ["", "", "", "indoor"],
            "upper_is_closer": [1, 1, -1, -1],
            "correct": [True, False, False, True],
        }
    )
    metrics = summarise(rows(entries=[]), pairs, num_resamples=10)
    assert metrics["whdr"] == {"photos": pytest.approx(2 / 3, abs=1e-6)}
    low, high = metrics["intervals"]["whdr"]["photos"]
    assert 0.0 <= low <= 2 / 3 <= high <= 1.0
    assert metrics["da2k"]["all"] == 1.0


@pytest.mark.parametrize("name", ["average", "da2k", "intervals", "metric", "whdr"])
def test_a_source_named_as_a_part_of_the_tree_is_refused(name):
    with pytest.raises(ValueError, match=f"expected sources not named .*, got {name}$"):
        summarise(rows(entries=[{"source": name}]), NO_PAIRS, num_resamples=10)


def test_flattens_numbers_and_leaves_intervals_out():
    nested = {"s": {"delta1": 0.5, "num_images": 3}, "intervals": {"s": {"delta1": [0.4, 0.6]}}}
    assert flat(nested) == {"s/delta1": 0.5, "s/num_images": 3}
