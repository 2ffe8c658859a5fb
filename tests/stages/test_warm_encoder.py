"""The stage `warm_encoder`, and the student that starts from what it leaves."""

import json
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from dav2.data.files import sha256_of
from dav2.models.checkpoints import load_encoder_weights
from dav2.models.depth_anything import DepthAnything, ModelConfig
from dav2.training.fit import fit
from stages import train_student, warm_encoder
from stages.params import load as load_params
from tests.fixtures.training import TrainingProject

MANIFEST = Path("manifest.parquet")
ENCODER, REPORTS = Path("models/encoder.safetensors"), Path("reports/encoder")
STUDENT = Path("models/student.safetensors"), Path("reports/student")


class RecordedRun:
    def __init__(self):
        self.metrics, self.pictures = {}, []

    def log_metrics(self, metrics, *, step=0):
        self.metrics |= {(name, step): value for name, value in metrics.items()}

    def log_picture(self, name, picture):
        self.pictures.append(name)


@pytest.fixture
def runs(monkeypatch):
    """What the stages record, by name, with their inputs."""
    found = {}

    @contextmanager
    def tracked(stage, params, *, inputs, outputs):
        found[stage] = (RecordedRun(), inputs)
        yield found[stage][0]

    monkeypatch.setattr("stages.tracking.tracked", tracked)
    return found


@pytest.fixture
def project(tmp_path, monkeypatch, runs):
    monkeypatch.chdir(tmp_path)
    for stage in ("training", "warm_encoder"):
        monkeypatch.setattr(f"stages.{stage}.code_fingerprint", lambda modules: "code")
    num_threads = torch.get_num_threads()
    yield TrainingProject(tmp_path)
    torch.set_num_threads(num_threads)


def main():
    warm_encoder.main("vit64x4", MANIFEST, ENCODER, REPORTS)


def marks():
    return [sha256_of(path) for path in (ENCODER, *sorted(REPORTS.iterdir()))]


def test_leaves_an_encoder_curves_and_a_picture_the_same_when_done_again(project, runs):
    main()
    curves = pd.read_csv(REPORTS / "curves.csv")
    assert list(curves["step"]) == [2, 4, 6]
    assert np.isfinite(curves.to_numpy()).all()
    painted = json.loads((REPORTS / "painted.json").read_text())
    assert set(painted) == {"loss", "loss_of_mean_colour", "num_samples"}
    assert painted["num_samples"] == 2
    assert Image.open(REPORTS / "painted.png").size == (3 * 42 + 2 * 2, 2 * 28 + 2)
    run, inputs = runs["warm_encoder"]
    assert inputs == {"unlabelled": MANIFEST}
    assert run.metrics[("held_out/loss", 6)] == pytest.approx(painted["loss"], rel=1e-4)
    assert run.pictures == ["painted.png"]
    first = marks()
    main()
    assert marks() == first
    next(Path(".work").glob("warm_encoder/*/progress.pt")).unlink()
    main()
    assert marks() == first


def test_a_student_starts_from_the_warmed_encoder_and_aligns_features_with_it(
    project, runs, monkeypatch
):
    calls = []

    def recorded(model, samples, held_out, **options):
        weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        calls.append((weights, options))
        return fit(model, samples, held_out, **options)

    monkeypatch.setattr("dav2.training.fit.fit", recorded)
    main()
    train_student.main("vit64x4", "pseudo", Path("pseudo"), *STUDENT)
    train_student.main("vit64x4", "pseudo", Path("pseudo"), *STUDENT, ENCODER)
    expected = DepthAnything(ModelConfig("vit64x4"))
    load_encoder_weights(expected, ENCODER)
    (_, plain), (start, options) = calls
    for name, weight in expected.encoder.state_dict().items():
        assert torch.equal(start[f"encoder.{name}"], weight), name
        assert torch.equal(options["frozen_encoder"].state_dict()[name], weight), name
    assert options["config"].losses.feature_weight == 1.0
    assert runs["train_student"][1] == {"pseudo": Path("pseudo"), "warmed": ENCODER}
    assert plain["frozen_encoder"] is None
    assert plain["work"] != options["work"]


@pytest.mark.parametrize("name", ["vit65x4", "beitl"])
def test_an_encoder_that_is_unknown_or_masks_nothing_is_refused(project, name):
    with pytest.raises(ValueError, match=rf"warm_encoder: expected an encoder of .*, got '{name}'"):
        warm_encoder.main(name, MANIFEST, ENCODER, REPORTS)


def test_too_few_images_are_refused_before_anything_is_written(project):
    project.params["warm_encoder"]["num_held_out"] = 9
    project.write_params()
    with pytest.raises(ValueError, match=r"hold out: expected more than 9 samples, .* got 9"):
        main()
    assert not ENCODER.exists()
    assert not Path(".work").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask_ratio": 1.0}, r"warm_encoder\.mask_ratio: .* less than 1, got 1\.0"),
        ({"validation": {}}, r"warm_encoder\.validation: Extra inputs are not permitted"),
    ],
)
def test_wrong_parameters_are_named(project, change, message):
    project.params["warm_encoder"] |= change
    project.write_params()
    with pytest.raises(ValueError, match=message):
        load_params("warm_encoder", warm_encoder.WarmEncoderParams)
