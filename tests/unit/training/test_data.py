"""Batches and their order."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from dav2.training.data import Positions, TrainingData, Views, collate
from dav2.training.mixture import MixedSamples, Part


def training_data(samples, augment, **changes):
    given = {
        "seed": 1,
        "batch_size": 4,
        "num_batches": 6,
        "first_batch": 0,
        "num_workers": 0,
        "memory_limit_bytes": 10**8,
    }
    return TrainingData(samples, augment, **{**given, **changes})


def test_a_batch_holds_its_views_in_order(discs, augment):
    views = Views(discs(5), augment(), seed=1, batch_size=4)
    batch = collate([views[position] for position in (3, 9)])
    assert batch.sample_ids == [views[3][0].sample_id, views[9][0].sample_id]
    assert batch.images.shape == (2, 28, 42, 3)
    assert batch.images.dtype == torch.uint8
    assert batch.targets.shape == batch.valid.shape == (2, 28, 42)
    np.testing.assert_array_equal(batch.targets[1], views[9][0].target)
    np.testing.assert_array_equal(batch.colours[1], views[9][1])


def test_rectangles_change_nothing_else_about_a_view(discs, augment):
    colours = {"jitter_probability": 0.7, "brightness": 0.3}
    with_box = Views(discs(5), augment(**colours, cutmix_probability=0.6), seed=1, batch_size=4)
    without = Views(discs(5), augment(**colours), seed=1, batch_size=4)
    boxes = []
    for position in range(20):
        one, other = with_box[position], without[position]
        np.testing.assert_array_equal(one.sample.image, other.sample.image)
        np.testing.assert_array_equal(one.colours, other.colours)
        assert not other.box.any()
        boxes.append(one.box)
    assert 5 < np.stack(boxes).any(axis=1).sum() < 19


@pytest.mark.parametrize(
    ("perturb", "pseudo", "changed"),
    [("all", False, True), ("pseudo", True, True), ("pseudo", False, False)],
)
def test_labelled_samples_are_left_as_they_are_where_asked_for(
    discs, augment, perturb, pseudo, changed
):
    config = augment(
        jitter_probability=1.0,
        brightness=0.3,
        blur_probability=1.0,
        cutmix_probability=1.0,
        perturb=perturb,
    )
    views = Views(discs(5, pseudo=pseudo), config, seed=1, batch_size=4)
    batch = collate([views[position] for position in range(6)])
    assert batch.pseudo.tolist() == [pseudo] * 6
    neutral = torch.tensor([1.0, 1, 1, 0, 0])
    assert bool((batch.colours != neutral).any(1).all()) == changed
    assert bool((batch.colours == neutral).all()) != changed
    assert batch.boxes.any(1).tolist() == [changed] * 6


def test_each_batch_has_one_of_the_crops(discs, augment):
    config = augment(crops_px=((28, 42), (42, 28)))
    batches = training_data(discs(5), config, num_batches=20).train_dataloader()
    shapes = [tuple(batch.images.shape[1:3]) for batch in batches]
    assert 4 < shapes.count((42, 28)) < 16
    assert set(shapes) == {(28, 42), (42, 28)}


def test_two_processes_share_the_batch_of_one():
    (alone,) = Positions(2, 3, batch_size=6)
    (first,) = Positions(2, 3, batch_size=3, rank=0, num_ranks=2)
    (second,) = Positions(2, 3, batch_size=3, rank=1, num_ranks=2)
    assert first + second == alone == [12, 13, 14, 15, 16, 17]


def test_a_training_that_goes_on_sees_what_is_left(discs, augment):
    whole = list(training_data(discs(5), augment()).train_dataloader())
    rest = list(training_data(discs(5), augment(), first_batch=4).train_dataloader())
    assert len(whole) == 6
    assert [batch.sample_ids for batch in rest] == [batch.sample_ids for batch in whole[4:]]
    for one, other in zip(rest, whole[4:], strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.colours, other.colours)


def test_each_pass_over_the_samples_is_complete(discs, augment):
    batches = training_data(discs(8), augment()).train_dataloader()
    names = [name for batch in batches for name in batch.sample_ids]
    passes = [names[start : start + 8] for start in (0, 8, 16)]
    assert all(len(set(one)) == 8 for one in passes)
    assert all(one != other for one, other in pairwise(passes))


@pytest.mark.parametrize("mixture", [(), (Part(9, 1), Part(3, 2))])
def test_a_mixture_is_resumed_anywhere_and_shared_by_any_number_of_processes(
    discs, augment, mixture
):
    samples = MixedSamples([discs(9), discs(3, first=50, pseudo=False)])
    given = {"mixture": mixture, "num_batches": 9}
    whole = list(training_data(samples, augment(), **given).train_dataloader())
    for batch in whole:
        numbers = [int(name.removeprefix("disc-")) for name in batch.sample_ids]
        assert batch.pseudo.tolist() == [number < 50 for number in numbers]
    labelled = sum((~batch.pseudo).sum().item() for batch in whole)
    assert labelled == (24 if mixture else 9)
    rest = training_data(samples, augment(), first_batch=5, **given).train_dataloader()
    for one, other in zip(rest, whole[5:], strict=True):
        assert one.sample_ids == other.sample_ids
        assert torch.equal(one.images, other.images)
    views = Views(samples, augment(), seed=1, batch_size=4, mixture=mixture)
    for rank in (0, 1):
        for batch, positions in zip(
            whole, Positions(0, 9, batch_size=2, rank=rank, num_ranks=2), strict=True
        ):
            names = [views[position].sample.sample_id for position in positions]
            assert names == batch.sample_ids[2 * rank : 2 * rank + 2]


def test_other_processes_give_the_same_batches(discs, augment):
    samples = discs(5)
    here = training_data(samples, augment()).train_dataloader()
    there = training_data(samples, augment(), num_workers=2, memory_limit_bytes=1)
    loader = there.train_dataloader()
    assert loader.num_workers == 2
    for one, other in zip(here, loader, strict=True):
        assert one.sample_ids == other.sample_ids
        assert torch.equal(one.images, other.images)


def test_samples_that_fit_into_memory_need_no_process_and_are_read_once(discs, augment):
    samples = discs(5)
    loader = training_data(samples, augment(), num_workers=2).train_dataloader()
    assert loader.num_workers == 0
    list(loader)
    assert sorted(samples.reads) == [0, 0, 1, 2, 3, 4]  # the first is weighed once more
