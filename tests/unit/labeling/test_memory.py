"""Batches that do not fit into memory are halved; an image that does not fit alone is refused."""

import numpy as np
import pytest
import torch

from dav2.data.shards import ShardReader
from dav2.labeling.engine import label_shards
from dav2.labeling.plan import plan_shards
from dav2.labeling.store import read_refused


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: out of memory\nCompile with"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_a_batch_that_does_not_fit_is_halved_to_the_same_labels(
    photographs, tmp_path, caplog, error
):
    photographs.add("wild", 8)
    (tmp_path / "other").mkdir()
    whole = photographs.job(batch_size=4, store=tmp_path / "other")
    photographs.label(whole, tmp_path / "whole", samples_per_shard=8)
    photographs.fail_when(lambda images: len(images) > 1, error)
    photographs.label(photographs.job(batch_size=4), tmp_path / "out", samples_per_shard=8)
    assert "a batch of 4 did not fit into memory: halved" in caplog.text
    one, other = ShardReader(tmp_path / "whole"), ShardReader(tmp_path / "out")
    assert len(one) == len(other) == 8
    for place in range(8):
        expected = one.read(place).relative_depth
        np.testing.assert_allclose(
            other.read(place).relative_depth, expected, atol=2e-5 * np.ptp(expected)
        )


NO_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Process 17 has 2 GiB")


def test_a_size_that_did_not_fit_is_not_tried_again_in_its_shard(photographs, tmp_path):
    photographs.shapes = ((28, 42),)
    photographs.add("wild", 12)
    (tmp_path / "other").mkdir()
    small = photographs.job(batch_size=2, check_fraction=0.0, store=tmp_path / "other")
    photographs.label(small, tmp_path / "small", samples_per_shard=12)
    tried = []
    photographs.fail_when(lambda images: tried.append(len(images)) or len(images) > 2, NO_MEMORY)
    job = photographs.job(batch_size=4, check_fraction=0.0)
    shards = plan_shards(job.manifest, samples_per_shard=12, recipe=job.recipe)
    (attempt,) = label_shards("inline", shards, job, on_samples=lambda num: None)
    assert attempt.num_halved == 3
    assert tried == [4, 2, 2, 2, 2, 2, 2]
    photographs.label(job, tmp_path / "halved", samples_per_shard=12)
    one, other = ShardReader(tmp_path / "small"), ShardReader(tmp_path / "halved")
    for place in range(12):
        assert np.array_equal(one.read(place).relative_depth, other.read(place).relative_depth)


def test_an_image_that_does_not_fit_alone_is_quarantined_with_its_reason(photographs, caplog):
    photographs.shapes = ((28, 42), (28, 84))
    photographs.add("wild", 8)
    photographs.fail_when(lambda images: images.shape[3] == 84, NO_MEMORY)
    ((shard, record),) = photographs.label(photographs.job(), samples_per_shard=8)
    assert (record.num_samples, record.num_refused, record.set_aside) == (4, 4, "")
    assert record.unread == []  # the next run does not try again
    refused = read_refused(photographs.store, [shard]).to_pylist()
    assert [entry["sample_id"] for entry in refused] == [f"wild-{n:03}" for n in (1, 3, 5, 7)]
    assert {entry["reason"] for entry in refused} == {
        "label: expected memory for one input of 28 x 84 px, got too little"
    }
    assert "wild-001: OutOfMemoryError: CUDA out of memory. Process 17" in caplog.text


def test_memory_that_is_short_where_as_much_sufficed_before_is_no_fault_of_the_image(photographs):
    photographs.shapes = ((28, 42), (28, 84))
    photographs.add("wild", 8)
    photographs.fail_when(
        lambda images: images.shape[3] == 84 and photographs.num_seen() >= 6, NO_MEMORY
    )
    job = photographs.job(batch_size=1, check_fraction=0.0)
    shards = plan_shards(job.manifest, samples_per_shard=8, recipe=job.recipe)
    failures = []
    list(
        label_shards(
            "inline",
            shards,
            job,
            on_samples=lambda num: None,
            on_attempt=lambda attempt: failures.append(attempt.failure),
        )
    )
    assert failures[0].startswith("OutOfMemoryError")


def test_images_of_which_none_fits_alone_set_their_shard_aside(photographs):
    photographs.add("wild", 4)
    photographs.fail_when(lambda images: True, torch.OutOfMemoryError("CUDA out of memory"))
    ((_, record),) = photographs.label(photographs.job())
    assert record.set_aside == "OutOfMemoryError: CUDA out of memory"
