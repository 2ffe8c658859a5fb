"""Each training is killed at a random moment, goes on, and ends with the same bytes."""

import random
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import torch

from dav2.data.files import sha256_of
from dav2.models.checkpoints import save
from dav2.models.depth_anything import DepthAnything, ModelConfig
from tests.fixtures.training import TrainingProject

pytestmark = pytest.mark.soak

OUTPUTS = ("model.safetensors", "reports")
STAGES = {
    "train_teacher": ("manifest.parquet", *OUTPUTS),
    "train_student": ("vit64x4", "pseudo", "pseudo", *OUTPUTS),
    "finetune_metric": ("vit64x4", "indoor", "manifest.parquet", "student.safetensors", *OUTPUTS),
}


def finish(project, stage):
    process = project.start(stage, *STAGES[stage])
    _, shown = process.communicate(timeout=300)
    assert process.returncode == 0, shown
    return shown


def take_outputs(root: Path):
    """Returns the hashes of a stage's outputs and removes them."""
    files = [root / "model.safetensors", *sorted((root / "reports").iterdir())]
    hashes = [sha256_of(path) for path in files]
    shutil.rmtree(root / "reports")
    files[0].unlink()
    return hashes


@pytest.fixture(scope="module", params=STAGES)
def stage(request, tmp_path_factory):
    """A project whose stage has run once without disturbance: project, stage and hashes."""
    made = TrainingProject(tmp_path_factory.mktemp(request.param))
    for name in STAGES:
        made.params[name] |= {"num_steps": 100}
    made.write_params()
    torch.manual_seed(3)
    save(DepthAnything(ModelConfig("vit64x4")), made.root / "student.safetensors", {})
    finish(made, request.param)
    return made, request.param, take_outputs(made.root)


def test_kills_leave_no_trace_in_the_weights(stage, seed):
    project, name, expected = stage
    numbers = random.Random(seed)
    shutil.rmtree(project.root / ".work")
    num_killed = 0
    for _ in range(2):
        process = project.start(name, *STAGES[name])
        try:
            process.communicate(timeout=numbers.uniform(3.0, 12.0))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            num_killed += 1
    finish(project, name)
    assert take_outputs(project.root) == expected, f"seed {seed}, {num_killed} kills"
    (work,) = (project.root / ".work" / name).iterdir()
    assert [path.name for path in work.iterdir()] == ["progress.pt"]
