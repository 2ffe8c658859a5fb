"""Depth maps of ETH3D's size, 24 megapixels, are measured in bounded memory."""

import subprocess
import sys

import pytest

MEASURE = """
import resource
import numpy as np
from dav2.data.sample import DepthSample, Intrinsics
from stages.evaluation_measures import measure_depth, measure_order
from stages.evaluation_protocols import read_protocol

height, width = 4032, 6048
rows = np.linspace(60, 2, height, dtype=np.float32)[:, None]
depth = rows * np.linspace(1, 1.5, width, dtype=np.float32)[None]
valid = np.ones((height, width), dtype=bool)
valid[::5, ::7] = False
sample = DepthSample(
    sample_id="a", dataset="d", scene="s", image=np.zeros((height, width, 3), np.uint8),
    depth=depth, valid=valid, sky=None, intrinsics=Intrinsics(3400.0, 3400.0, 3024.0, 2016.0),
)
protocol = read_protocol("v2/eth3d").protocol()
row, aligned, pixels = measure_depth(sample, 3 / depth + 1, protocol=protocol)
order = measure_order(sample, 3 / depth + 1, pixels=pixels, num_pairs=100, min_pair_ratio=1.3)
peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
print(peak_mb, row["num_pixels"], row["abs_rel"], row["normal_mean_deg"], order["pair_accuracy"])
"""


@pytest.mark.soak
def test_a_map_of_24_megapixels_is_measured_in_less_than_three_gigabytes():
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], check=True, capture_output=True, text=True
    )
    peak_mb, num_pixels, abs_rel, angle_deg, accuracy = map(float, done.stdout.split())
    assert peak_mb < 3000
    assert num_pixels > 20e6
    assert abs_rel == pytest.approx(0.0, abs=1e-5)
    assert angle_deg < 0.1  # what rounding the prediction to float32 bends
    assert accuracy == 1.0
