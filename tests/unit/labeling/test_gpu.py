"""Labels made on a GPU in bfloat16 agree with those of the CPU."""

import dataclasses

import numpy as np
import pytest
import torch

from dav2.data.shards import ShardReader


@pytest.mark.gpu
def test_bfloat16_labels_differ_little_from_those_of_the_cpu(photographs, tmp_path):
    photographs.add("wild", 8)
    photographs.label(photographs.job(), tmp_path / "cpu")
    (tmp_path / "gpu_store").mkdir()
    job = photographs.job(dtype="bfloat16", store=tmp_path / "gpu_store")
    job = dataclasses.replace(job, device=torch.device("cuda"))
    photographs.label(job, tmp_path / "gpu")
    cpu, gpu = ShardReader(tmp_path / "cpu"), ShardReader(tmp_path / "gpu")
    assert len(cpu) == len(gpu) == 8
    for place in range(8):
        one, other = cpu.read(place).relative_depth, gpu.read(place).relative_depth
        np.testing.assert_allclose(one, other, atol=0.02 * np.ptp(one))
