"""Labels made on a GPU agree with those of the CPU, in bfloat16 nearly, as integers exactly."""

import dataclasses

import numpy as np
import pytest
import torch

from dav2.data.shards import ShardReader
from dav2.labeling.codec import encode_label, max_code, pack
from dav2.labeling.labeler import quantise
from dav2.labeling.quality import label_statistics, statistics_on_device


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


@pytest.mark.gpu
@pytest.mark.parametrize("codec", ["png16", "htj2k12"])
def test_integers_and_statistics_of_a_map_are_those_of_the_cpu(codec):
    random = np.random.default_rng(0)
    several = random.normal(size=(4, 518, 686)).astype(np.float32)
    several[1] = np.maximum(0, several[1])
    several[2] = 0.7
    on_device = torch.from_numpy(several).cuda()
    codes, minima, maxima = quantise(on_device, max_code(codec))
    described = statistics_on_device(on_device)
    for place, values in enumerate(several):
        expected = encode_label(values, codec)
        assert pack(codes[place].cpu().numpy(), codec) == expected.data
        assert (minima[place].item(), maxima[place].item()) == (expected.minimum, expected.maximum)
        if values.std() > 0.1:
            assert described[place] == pytest.approx(label_statistics(values), abs=1e-9)
