"""The first shards are judged together, once, by limits of single labels."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from dav2.labeling.first_shards import FirstShards, LabelLimits, check_labels, source_by_source
from dav2.labeling.plan import PlannedShard

LIMITS = LabelLimits(
    max_degenerate_fraction=0.1,
    max_zero_fraction=0.5,
    max_ramp_correlation=0.95,
    mostly=0.9,
    max_flip_inconsistency=0.1,
    max_scale_inconsistency=0.2,
)


def rows(count=40, **columns):
    return pd.DataFrame(
        {
            "sample_id": [f"wild-{number}" for number in range(count)],
            "degenerate": False,
            "zero_fraction": 0.1,
            "ramp_correlation": 0.5,
            "flip_inconsistency": [0.05, *[None] * (count - 1)],
            "scale_inconsistency": [0.05, *[None] * (count - 1)],
        }
        | columns
    ).astype({"flip_inconsistency": float, "scale_inconsistency": float})


def worst(num_bad, bad, good, count=40):
    return [bad] * num_bad + [good] * (count - num_bad)


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"degenerate": worst(5, True, False)}, "that are flat, got 5, the first wild-0"),
        ({"zero_fraction": worst(5, 0.6, 0.0)}, r"with more than 0\.5 of their pixels 0, got 5"),
        (
            {"ramp_correlation": worst(6, 0.99, 0.1)},
            r"that correlate with the row by more than 0\.95, got 6",
        ),
    ],
)
def test_more_bad_labels_than_allowed_are_refused(columns, problem):
    with pytest.raises(ValueError, match=f"first: expected at most 4 of 40 {problem}") as caught:
        check_labels(rows(**columns), LIMITS, where="first")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("column", "problem"),
    [
        ("flip_inconsistency", r"at most 0\.1 of a label's range from the mirrored image's"),
        ("scale_inconsistency", r"at most 0\.2 of a label's range from another resolution's"),
    ],
)
def test_labels_that_change_with_mirror_or_resolution_are_refused(column, problem):
    values = [0.1, 0.5, *[None] * 38]
    with pytest.raises(ValueError, match=rf"first: expected a mean .* {problem}, got 0\.3$"):
        check_labels(rows(**{column: values}), LIMITS, where="first")


def test_usable_labels_pass_and_so_do_labels_that_were_compared_with_nothing():
    check_labels(rows(), LIMITS, where="first")
    check_labels(rows(degenerate=worst(4, True, False)), LIMITS, where="first")
    nothing = np.full(40, np.nan)
    check_labels(
        rows(flip_inconsistency=nothing, scale_inconsistency=nothing), LIMITS, where="first"
    )


def test_of_a_handful_one_may_be_bad():
    check_labels(rows(3, degenerate=[True, False, False]), LIMITS, where="first")
    with pytest.raises(ValueError, match="at most 1 of 3 that are flat, got 2"):
        check_labels(rows(3, degenerate=[True, True, False]), LIMITS, where="first")


def test_sources_take_turns():
    names = ["b-b00", "a-b-b1", "b-b1", "b-b01", "a-b-b0"]
    ordered = source_by_source(PlannedShard(name, "k", (0,)) for name in names)
    assert [shard.name for shard in ordered] == ["a-b-b0", "b-b00", "a-b-b1", "b-b01", "b-b1"]


@pytest.fixture
def ramps(photographs):
    """Shards of two sources whose labels are ramps, with their records."""
    photographs.add("wild", 20).add("more", 20)
    torch.nn.init.zeros_(photographs.teacher.blur.weight)  # leaves the ramp
    return photographs.label(photographs.job())


def of_source(finished, source):
    return [(shard, record) for shard, record in finished if shard.name.startswith(source)]


def first_shards(photographs, finished, num_shards):
    shards = [shard for shard, _ in finished]
    return FirstShards(photographs.store, LIMITS, shards, num_shards=num_shards)


def test_judges_a_source_when_the_last_of_its_first_shards_is_there(photographs, ramps):
    waiting = first_shards(photographs, ramps, 3)
    wild, more = of_source(ramps, "wild"), of_source(ramps, "more")
    assert min(len(wild), len(more)) > 3
    for shard, record in [*wild[:2], *more[:2]]:
        waiting.add(shard, record)
    for source, (shard, record) in (("wild", wild[2]), ("more", more[2])):
        message = f"^{source}: labels of the first 3 shards: expected .* correlate with the row"
        with pytest.raises(ValueError, match=message):
            waiting.add(shard, record)
    for shard, record in [*wild[3:], *more[3:]]:  # judged once
        waiting.add(shard, record)
    for shard, record in ramps:
        first_shards(photographs, ramps, 0).add(shard, record)


def test_a_source_of_fewer_shards_is_judged_when_all_are_there(photographs, ramps):
    (first, one), (second, two) = of_source(ramps, "wild")[:2]
    waiting = first_shards(photographs, [(first, one), (second, two)], 9)
    waiting.add(first, one)
    with pytest.raises(ValueError, match="wild: labels of the first 2 shards"):
        waiting.add(second, two)


def test_a_shard_without_labels_is_not_counted(photographs, ramps):
    (first, one), (second, two) = of_source(ramps, "wild")[:2]
    waiting = first_shards(photographs, ramps, 1)
    waiting.add(first, replace(one, num_samples=0))
    with pytest.raises(ValueError, match="wild: labels of the first 1 shards"):
        waiting.add(second, two)
