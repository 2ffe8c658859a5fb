"""A training on a GPU: finite, resumed, without waiting, its weights back on the CPU."""

import copy
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dav2.models.depth_anything import DepthAnything, ModelConfig
from dav2.training.data import Views, collate
from dav2.training.fit import fit
from dav2.training.mixture import MixedSamples
from dav2.training.module import DepthTraining, LossConfig
from dav2.training.steps import OptimiserConfig, StepConfig


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


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_two_gpus_with_a_share_of_the_weights_each_train_as_with_whole_copies(tmp_path, precision):
    changes = {"device": "cuda", "precision": precision, "batch_size": 4, "log_every_steps": 1}
    changes["optimiser"] = {"num_steps": 8, "encoder_lr": 1e-5, "decoder_lr": 2e-5}
    curves = {}
    for strategy in ("ddp", "fsdp"):
        folder = tmp_path / strategy
        folder.mkdir()
        asked = {**changes, "parallel": {"num_devices": 2, "strategy": strategy}}
        subprocess.run(
            [sys.executable, "-m", "tests.fixtures.ranks", str(folder), json.dumps(asked)],
            cwd=Path(__file__).parents[3],
            check=True,
            timeout=300,
        )
        curves[strategy] = json.loads((folder / "rank0.json").read_text())["curves"]
    within = 1e-3 if precision == "float32" else 2e-2
    for row, expected in zip(curves["fsdp"], curves["ddp"], strict=True):
        assert row["loss"] == pytest.approx(expected["loss"], rel=within)


@pytest.mark.gpu
@pytest.mark.parametrize("alignment", ["median", "least_squares"])
def test_a_step_on_a_gpu_waits_for_nothing(discs, augment, alignment):
    config = augment(
        jitter_probability=0.8,
        blur_probability=0.5,
        blur_sigma_px=(0.1, 1.0),
        cutmix_probability=0.5,
    )
    views = Views(
        MixedSamples([discs(5), discs(5, first=9, pseudo=False)]), config, seed=0, batch_size=6
    )
    batch = collate([views[position] for position in range(6)])
    on_gpu = batch._make(
        entry.cuda() if isinstance(entry, torch.Tensor) else entry for entry in batch
    )
    torch.manual_seed(0)
    model = DepthAnything(ModelConfig("vit64x4"))
    module = DepthTraining(
        model,
        StepConfig(optimiser=OptimiserConfig(5, 1e-3, 1e-3, "linear", clip_norm=1.0), seed=0),
        losses=LossConfig(
            "inverse_depth", alignment=alignment, trim_fraction=0.1, feature_weight=1.0
        ),
        max_sigma_px=1.0,
        cutmix=True,
        frozen_encoder=copy.deepcopy(model.encoder).cuda(),
    ).cuda()
    optimiser = module.configure_optimizers()["optimizer"]
    for mode in ("default", "error"):  # the first step prepares what later ones find
        torch.cuda.set_sync_debug_mode(mode)
        try:
            optimiser.zero_grad()
            with torch.autocast("cuda", torch.bfloat16):
                result = module.training_step(on_gpu, 0)
            result["loss"].backward()
            module.configure_gradient_clipping(optimiser)
            optimiser.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert result["finite"].all()
