"""Exports are the same bytes in whatever process they are made."""

import os
import subprocess
import sys

import pytest

from dav2.models.checkpoints import save
from dav2.models.depth_anything import ModelConfig
from tests.fixtures.transformers import random_model


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_two_processes_write_the_same_bytes(tmp_path, kind):
    save(random_model(ModelConfig("vit64x4")), tmp_path / "m.safetensors", {})
    contents = []
    for hash_seed in ("7", "8"):
        out = tmp_path / hash_seed / f"m.{kind}"
        out.parent.mkdir()
        command = [sys.executable, "-m", "dav2.models.export", "--weights"]
        command += [str(tmp_path / "m.safetensors"), "--format", kind, "--out", str(out)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": hash_seed})
        contents.append(out.read_bytes())
    assert contents[0] == contents[1]
