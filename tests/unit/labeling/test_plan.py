"""Shards are planned by content: they stay as they are when others are added."""

from itertools import pairwise

import pandas as pd
import pytest

from dav2.labeling.plan import PlannedShard, plan_batches, plan_shards


def make_manifest(sources):
    rows = [
        {
            "sample_id": f"{source}-{number:05}",
            "source": source,
            "content_hash": f"{number:064x}",
            "decoder": "d" * 16,
        }
        for source, count in sources.items()
        for number in range(count)
    ]
    return pd.DataFrame(rows)


def planned(manifest, *, samples_per_shard=16, recipe="recipe"):
    return plan_shards(manifest, samples_per_shard=samples_per_shard, recipe=recipe)


def keys(shards):
    return {(shard.name, shard.key) for shard in shards}


def test_every_sample_stands_in_exactly_one_shard_of_bounded_size():
    manifest = make_manifest({"photos": 5, "wild": 300})
    shards = planned(manifest)
    rows = [row for shard in shards for row in shard.rows]
    assert sorted(rows) == list(range(305))
    assert max(len(shard.rows) for shard in shards) <= 16
    assert len(shards) < 2.5 * 305 / 16


def test_a_shard_holds_one_source_in_the_order_of_ids():
    manifest = make_manifest({"photos": 40, "wild": 40}).sample(frac=1, random_state=0)
    for shard in planned(manifest):
        ids = manifest["sample_id"].iloc[list(shard.rows)].tolist()
        assert ids == sorted(ids)
        assert {name.split("-")[0] for name in ids} == {shard.name.split("-")[0]}


def test_the_order_of_the_manifest_does_not_matter():
    manifest = make_manifest({"photos": 40, "wild": 40})
    shuffled = manifest.sample(frac=1, random_state=0)
    assert keys(planned(shuffled)) == keys(planned(manifest))


def test_adding_a_source_changes_no_other_shard():
    before = planned(make_manifest({"wild": 100}))
    after = planned(make_manifest({"photos": 50, "wild": 100}))
    assert keys(before) < keys(after)
    assert all(name.startswith("photos-") for name, _ in keys(after) - keys(before))


def test_adding_a_sample_changes_one_shard_or_splits_it():
    manifests = [make_manifest({"wild": count}) for count in range(60, 100)]
    plans = [planned(manifest) for manifest in manifests]
    for before, after in pairwise(plans):
        gone = keys(before) - keys(after)
        assert len(gone) == 1
        ((name, _),) = gone
        assert all(new.startswith(name) for new, _ in keys(after) - keys(before))


@pytest.mark.parametrize("column", ["content_hash", "decoder"])
def test_changed_content_changes_the_key_of_its_shard_alone(column):
    manifest = make_manifest({"wild": 100})
    before = planned(manifest)
    manifest.loc[42, column] = "changed"
    after = planned(manifest)
    changed = [new.rows for old, new in zip(before, after, strict=True) if old.key != new.key]
    assert len(changed) == 1
    assert 42 in changed[0]


def test_another_recipe_changes_every_key():
    manifest = make_manifest({"wild": 100})
    one, other = planned(manifest, recipe="one"), planned(manifest, recipe="other")
    assert not {shard.key for shard in one} & {shard.key for shard in other}


def test_names_of_shards_differ_even_where_sources_are_named_alike():
    manifest = make_manifest({"wild": 40, "wild-b0": 40})
    names = [shard.name for shard in planned(manifest)]
    assert len(set(names)) == len(names)


def test_refuses_an_empty_manifest_and_a_sample_listed_twice():
    manifest = make_manifest({"wild": 3})
    with pytest.raises(ValueError, match="expected at least one sample to label, got none"):
        planned(manifest.iloc[:0])
    with pytest.raises(ValueError, match="expected each sample once, got 'wild-00001' twice"):
        planned(pd.concat([manifest, manifest.iloc[[1]]]))


def test_batches_hold_one_size_each_and_keep_the_order_of_ids():
    sizes = {1: (28, 42), 2: (28, 28), 3: (28, 42), 5: (28, 42), 8: (28, 28)}
    shard = PlannedShard(name="wild-b", key="0" * 16, rows=tuple(sizes))
    assert plan_batches(shard, sizes.__getitem__, batch_size=2) == [(2, 8), (1, 3), (5,)]
