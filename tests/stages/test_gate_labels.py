import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from stages.gate_labels import distance, main, shard_table, source_table

LIMITS = {
    "min_labels": 10,
    "min_coverage": 0.9,
    "labels": {
        "max_degenerate_fraction": 0.1,
        "max_zero_fraction": 0.5,
        "max_ramp_correlation": 0.95,
        "mostly": 0.9,
        "max_flip_inconsistency": 0.1,
        "max_scale_inconsistency": 0.1,
    },
    "max_drift": 0.5,
    "max_shards_set_aside": 1,
    "max_shard_drift": 0.1,
}


def labels(source, count, **columns):
    return pd.DataFrame(
        {
            "sample_id": [f"{source}-{number}" for number in range(count)],
            "source": source,
            "label_min": 1.0,
            "label_max": 5.0,
            "label_p50": np.linspace(2.0, 3.0, count),
            "zero_fraction": 0.0,
            "degenerate": False,
            "ramp_correlation": np.linspace(0.2, 0.8, count),
            "flip_inconsistency": [0.05] + [None] * (count - 1),
            "scale_inconsistency": [0.03] + [None] * (count - 1),
            "shard": [f"{source}-b{number % 2}.tar" for number in range(count)],
        }
        | columns
    )


def refused(source, count):
    return pd.DataFrame({"sample_id": [f"{source}-r{n}" for n in range(count)], "source": source})


@pytest.fixture
def judge(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Path("params.yaml").open("w") as stream:
        YAML(typ="safe").dump({"gate_labels": LIMITS}, stream)

    def run(rows, without=None, *, num_set_aside=1):
        folder = Path("data/training/pseudo")
        folder.mkdir(parents=True, exist_ok=True)
        rows.to_parquet(folder / "manifest.parquet")
        summary = {"num_shards_set_aside": num_set_aside}
        (folder / "summary.json").write_text(json.dumps(summary))
        (refused("wild", 0) if without is None else without).to_parquet(
            folder / "quarantine.parquet"
        )
        main(folder, Path("reports/gates/labels/pseudo.json"))
        return json.loads(Path("reports/gates/labels/pseudo.json").read_text())

    return run


def failed(verdict):
    return {found["says"] for found in verdict["expectations"] if not found["success"]}


def test_usable_labels_pass(judge):
    verdict = judge(labels("wild", 20))
    assert verdict["success"]
    assert failed(verdict) == set()
    assert len(verdict["expectations"]) == 10


@pytest.mark.parametrize(
    "spoilt",
    [
        {"degenerate": [True] * 3 + [False] * 17},
        {"zero_fraction": [0.9] * 3 + [0.0] * 17},
    ],
)
def test_flat_or_empty_labels_block(judge, spoilt):
    with pytest.raises(SystemExit, match="1"):
        judge(labels("wild", 20, **spoilt))
    assert not Path("reports/gates/labels/pseudo.json").exists()


def test_too_few_labels_of_one_source_block(judge, caplog):
    rows = pd.concat([labels("wild", 40), labels("photos", 4)])
    with pytest.raises(SystemExit, match="1"):
        judge(rows, refused("photos", 4))
    assert "first: photos (0.5)" in caplog.text


def test_one_photograph_without_a_label_is_allowed_in_a_source_of_any_size(judge):
    rows = pd.concat([labels("wild", 40), labels("photos", 4)])
    assert judge(rows, refused("photos", 1))["success"]
    assert judge(labels("wild", 11), refused("wild", 1))["success"]  # no coverage to judge at all


def test_a_source_whose_only_photograph_has_no_label_blocks(judge):
    with pytest.raises(SystemExit, match="1"):
        judge(labels("wild", 40), refused("photos", 1))


def test_labels_that_are_ramps_or_change_with_mirror_or_resolution_only_warn(judge):
    verdict = judge(
        labels("wild", 20, ramp_correlation=0.99, flip_inconsistency=0.3, scale_inconsistency=0.2)
    )
    assert verdict["success"]
    assert {text.split(" (")[0] for text in failed(verdict)} == {
        "Labels say more than that lower is closer",
        "A mirrored image gets a mirrored label.",
        "An image of another resolution gets the same label.",
    }


@pytest.mark.parametrize("unmeasured", ["flip_inconsistency", "scale_inconsistency"])
def test_labels_that_were_compared_with_nothing_pass(judge, unmeasured):
    verdict = judge(labels("wild", 20, **{unmeasured: np.full(20, np.nan)}))
    assert len(verdict["expectations"]) == 9


def test_a_shard_whose_labels_differ_from_the_earlier_ones_warns(judge):
    rows = labels("wild", 150, ramp_correlation=np.tile(np.linspace(0.2, 0.8, 50), 3))
    rows["shard"] = np.repeat(["wild-b0.tar", "wild-b10.tar", "wild-b11.tar"], 50)
    rows["label_p50"] = np.tile(np.linspace(2.0, 3.0, 50), 3)
    assert failed(judge(rows)) == set()
    rows.loc[rows["shard"] == "wild-b10.tar", "zero_fraction"] = 0.4
    verdict = judge(rows)
    assert verdict["success"]
    (warning,) = [found for found in verdict["expectations"] if not found["success"]]
    assert warning["says"] == "Labels of one shard are like those of the shards before it."
    # All of 50 differ from all of 50: a distance of 1, less 1.95 x sqrt(1/50 + 1/50).
    assert warning["offending"] == [{"sample_id": "wild-b10.tar", "value": 0.61}]


def test_chance_and_first_shards_are_no_drift():
    rng = np.random.default_rng(0)
    names = np.repeat([f"wild-b{number:05b}.tar" for number in range(32)], 20)
    rows = labels("wild", 640, shard=names, ramp_correlation=rng.random(640)).assign(
        median_place=rng.random(640)
    )
    table = shard_table(rows)
    assert len(table) == 32
    assert np.isnan(table["shard_drift"][0])
    assert table["shard_drift"][1:].max() < 0.05
    assert shard_table(rows[:0]).empty


def test_a_source_whose_labels_differ_warns(judge):
    odd = labels("photos", 20, label_p50=4.9)
    verdict = judge(pd.concat([labels("wild", 20), odd]))
    assert verdict["success"]
    (warning,) = [found for found in verdict["expectations"] if not found["success"]]
    assert warning["offending"][0] == {"sample_id": "photos", "value": 1.0}


def test_distance_of_hand_worked_numbers():
    # Up to 2: half of the one, none of the other.
    assert distance(pd.Series([1.0, 2.0, 3.0, 4.0]), pd.Series([3.0, 4.0])) == 0.5
    assert distance(pd.Series([1.0, 2.0]), pd.Series([1.0, 2.0])) == 0.0


def test_a_single_source_has_no_drift():
    rows = labels("wild", 4).assign(median_place=0.5)
    assert source_table(rows, refused("wild", 0))["drift"].isna().all()


def test_a_source_that_got_no_label_has_no_coverage():
    rows = labels("wild", 4).assign(median_place=0.5)
    table = source_table(rows, refused("photos", 3)).set_index("sample_id")
    assert table.loc["photos", "judged_coverage"] == 0.0
    assert table.loc["wild", "judged_coverage"] == 1.0


def test_missing_labels_are_one_line(judge):
    with pytest.raises(SystemExit, match=r"gate_labels: .*manifest.parquet"):
        main(Path("nothing"), Path("out.json"))


def test_more_shards_set_aside_than_allowed_stop_the_gate(judge, caplog):
    with pytest.raises(SystemExit):
        judge(labels("wild", 20), num_set_aside=2)
    assert "Hardly a shard was set aside" in caplog.text
