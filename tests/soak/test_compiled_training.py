"""A compiled training on a CPU follows the plain one. Minutes, nearly all of it compiling."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.soak

PROJECT = Path(__file__).parents[2]


def train(folder, **changes):
    """Runs in a process of its own, where no types are checked: those would be compiled too."""
    folder.mkdir()
    # Adam takes a full step for a gradient that is all rounding: of small steps, rounding stays.
    slow = {"num_steps": 4, "encoder_lr": 1e-5, "decoder_lr": 2e-5}
    given = {"optimiser": slow, "log_every_steps": 1, "memory_limit_bytes": 1, **changes}
    subprocess.run(
        [sys.executable, "-m", "tests.fixtures.ranks", str(folder), json.dumps(given)],
        cwd=PROJECT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=280,
    )
    curves = json.loads((folder / "rank0.json").read_text())["curves"]
    return [row["loss"] for row in curves], torch.load(folder / "rank0.pt").keys()


@pytest.mark.parametrize("checkpoint_activations", [False, True])
def test_a_compiled_training_follows_the_plain_one(tmp_path, checkpoint_activations):
    plain, names = train(tmp_path / "plain")
    compiled, own = train(
        tmp_path / "compiled", compile_blocks=True, checkpoint_activations=checkpoint_activations
    )
    assert own == names
    assert compiled == pytest.approx(plain, rel=1e-4)
