"""The policy of promotion: paired differences, their intervals, and what lets pass."""

import numpy as np
import pandas as pd
import pytest

from stages.params import load
from stages.promotion import POLICY, PromotionParams, as_table, compare
from tests.fixtures.registry import NAME, write_tables


def policy(**rule) -> PromotionParams:
    given = {"models": "depth-*", "measures": ["photos/delta1"], "better": "higher",
             "demand": "gain", "margin": 0.0} | rule  # fmt: skip
    content = {"manual_approval": False, "num_resamples": 300, "rules": [given]}
    return PromotionParams.model_validate(content, strict=False)


@pytest.fixture
def folders(tmp_path):
    write_tables(tmp_path / "new", delta1=0.6)
    write_tables(tmp_path / "old", delta1=0.5)
    return {"challenger": tmp_path / "new", "champion": tmp_path / "old"}


def the_finding(params, folders):
    (found,) = compare(params, NAME, **folders)
    return found


def test_a_difference_that_all_images_share_is_certain(folders):
    found = the_finding(policy(), folders)
    assert found.is_met
    assert [found.gain, found.low, found.high] == pytest.approx([0.1, 0.1, 0.1])
    assert found.challenger - found.champion == pytest.approx(0.1)
    assert found.num_images == 12


def test_of_an_error_less_is_a_gain(folders):
    found = the_finding(policy(better="lower"), folders)
    assert found.gain == pytest.approx(-0.1)
    assert not found.is_met


def test_a_gain_must_exceed_its_margin(folders):
    assert the_finding(policy(margin=0.09), folders).is_met
    assert not the_finding(policy(margin=0.11), folders).is_met


def test_holding_allows_a_loss_below_the_margin(folders):
    turned = {"challenger": folders["champion"], "champion": folders["challenger"]}
    assert the_finding(policy(demand="hold", margin=0.11), turned).is_met
    assert not the_finding(policy(demand="hold", margin=0.09), turned).is_met


def test_a_gain_by_chance_is_none(folders):
    rows = pd.read_parquet(folders["champion"] / "per_image.parquet")
    changes = np.resize([0.3, -0.25], len(rows))  # better in the mean, by 0.025
    rows.assign(delta1=rows["delta1"] + changes).to_parquet(
        folders["challenger"] / "per_image.parquet"
    )
    found = the_finding(policy(), folders)
    assert found.gain == pytest.approx(0.025)
    assert found.low < 0 < found.high
    assert not found.is_met


def test_metres_are_compared_by_their_own_protocol(folders):
    for folder in folders.values():
        rows = pd.read_parquet(folder / "per_image.parquet")
        metres = rows.assign(protocol="metric", delta1=rows["delta1"] ** 2)
        pd.concat([rows, metres]).to_parquet(folder / "per_image.parquet")
    found = the_finding(policy(measures=["metric/photos/delta1"]), folders)
    assert found.num_images == 12
    assert found.champion == pytest.approx(0.25, abs=0.03)
    assert the_finding(policy(), folders).champion == pytest.approx(0.5, abs=0.02)


def test_pairs_count_by_image(folders):
    found = the_finding(policy(measures=["da2k/all"]), folders)
    # 8 of 12 pairs right (those before 7.2), against 6 of 12.
    assert [found.challenger, found.champion] == pytest.approx([8 / 12, 6 / 12])
    assert found.gain == pytest.approx(2 / 12)
    assert the_finding(policy(measures=["da2k/aerial"]), folders).num_images == 6


@pytest.mark.parametrize(
    ("measure", "why"),
    [
        ("photos/none", "no such measure"),
        ("delta1", "no such measure"),
        ("elsewhere/delta1", "no image with it"),
        ("metric/photos/delta1", "no image with it"),
        ("da2k/underwater", "no image with it"),
    ],
)
def test_a_measure_that_is_not_there_lets_nothing_pass(folders, measure, why):
    found = the_finding(policy(measures=[measure], demand="hold", margin=1.0), folders)
    assert not found.is_met
    assert why in found.seen
    assert why in as_table([found])


def test_other_images_are_not_compared(folders):
    rows = pd.read_parquet(folders["champion"] / "per_image.parquet")
    rows.iloc[1:].to_parquet(folders["champion"] / "per_image.parquet")
    found = the_finding(policy(), folders)
    assert not found.is_met
    assert found.seen == "measured on other images than the champion"


def test_a_model_without_rules_is_refused(folders):
    with pytest.raises(ValueError, match="expected rules for depth-relative-vit64x4"):
        compare(policy(models="other-*"), NAME, **folders)


@pytest.mark.parametrize("name", ["relative-vit64x4", "metric-indoor-vits", "metric-outdoor-vits"])
def test_the_shipped_policy_demands_a_gain_of_every_family(name):
    rules = load("promotion", PromotionParams, POLICY).rules
    from fnmatch import fnmatchcase

    demands = [rule.demand for rule in rules if fnmatchcase(f"depth-{name}", rule.models)]
    assert {"gain", "hold"} == set(demands)
