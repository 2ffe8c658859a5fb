"""Predicted metres are counted against true ones."""

import json

import numpy as np
import pandas as pd

from dav2.data.sample import DepthSample
from stages.evaluation import Evaluation, Predicted
from stages.evaluation_calibration import calibration, depth_counts
from stages.evaluation_params import EvaluateParams
from tests.stages.test_evaluation import PARAMS


def test_a_pixel_is_counted_in_the_bins_of_its_two_depths():
    true = np.array([[0.05, 1.0, 1.0], [100.0, 2000.0, 7.0]])
    predicted = np.array([[0.11, 1.01, 10.0], [1.0, 900.0, 7.0]])
    pixels = np.array([[True, True, True], [True, True, False]])
    assert depth_counts(predicted, true, pixels=pixels) == {
        (0, 0): 1, (16, 16): 1, (16, 32): 1, (48, 16): 1, (63, 63): 1
    }  # fmt: skip


def test_of_a_large_image_pixels_are_taken_evenly():
    true = np.geomspace(1, 9, 1000 * 700).reshape(1000, 700)
    counts = depth_counts(true, true, pixels=np.ones(true.shape, bool))
    assert sum(counts.values()) == 250 * 175
    assert {cell[0] for cell in counts} == set(range(16, 32))
    assert all(one == other for one, other in counts)


def test_no_pixel_gives_no_count():
    empty = np.ones((2, 3))
    assert depth_counts(empty, empty, pixels=np.zeros((2, 3), bool)) == {}
    found = calibration({})
    assert found["counts"] == {}
    assert (found["edges_m"][0], found["edges_m"][16], found["edges_m"][-1]) == (0.1, 1.0, 1000.0)


def test_only_metres_are_counted_and_a_killed_evaluation_keeps_them(tmp_path):
    depth = np.full((4, 5), 2.0, np.float32)
    sample = DepthSample("s-0", "d", "e", np.zeros((4, 5, 3), np.uint8), depth,
                         np.ones((4, 5), bool), None, None)  # fmt: skip
    manifest = pd.DataFrame({"sample_id": ["s-0", "s-1"], "source": ["s", "s"]})

    def evaluation():
        return Evaluation(
            manifest,
            tmp_path / "out",
            params=EvaluateParams.model_validate(PARAMS),
            sources={},
            domains={"s": "indoor"},
        )

    evaluation().add(Predicted(0, sample, 1 / depth, 4 * depth))
    again = evaluation()
    assert again.done == {0}
    again.add(Predicted(1, sample, 1 / depth))  # relative alone
    again.finish()
    written = json.loads((tmp_path / "out" / "calibration.json").read_text())
    assert written["counts"] == {"s": [[20, 30, 20]]}
