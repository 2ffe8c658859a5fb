"""A training on a GPU: finite, resumed, its weights back on the CPU."""

import math

import pytest
import torch

from dav2.models.depth_anything import DepthAnything, ModelConfig
from dav2.training.fit import fit


class InterruptedTrainingError(RuntimeError):
    pass


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_training_on_a_gpu_is_resumed_and_ends_on_the_cpu(discs, fit_config, tmp_path, precision):
    def run(listener):
        torch.manual_seed(0)
        model = DepthAnything(ModelConfig("vit64x4"))
        config = fit_config(device="cuda", precision=precision, log_every_steps=1)
        held_out = discs(3, first=100)
        return fit(model, discs(7), held_out, config=config, work=tmp_path, listener=listener)

    def interrupt(measures, step):
        if step == 4 and "loss" in measures:
            raise InterruptedTrainingError

    with pytest.raises(InterruptedTrainingError):
        run(interrupt)
    steps = []
    fitted = run(lambda measures, step: steps.append(step))
    assert min(steps) > 1
    assert torch.cuda.max_memory_allocated() > 0
    assert [row["step"] for row in fitted.curves] == [1, 2, 3, 4, 5, 6]
    assert all(math.isfinite(row["loss"]) for row in fitted.curves)
    for tensor in fitted.model.state_dict().values():
        assert tensor.device.type == "cpu"
        assert tensor.isfinite().all()
