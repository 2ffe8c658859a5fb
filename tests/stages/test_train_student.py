"""The stage `train_student`."""

import logging
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from dav2.models.checkpoints import load, save
from dav2.models.depth_anything import DepthAnything, ModelConfig
from dav2.training.fit import fit
from stages import train_student
from tests.fixtures.training import TrainingProject

MODEL, REPORTS = Path("models/student.safetensors"), Path("reports/student")


class QuietRun:
    def log_metrics(self, metrics, *, step=0):
        pass

    def log_picture(self, name, picture):
        pass


@pytest.fixture
def project(tmp_path, monkeypatch):
    @contextmanager
    def tracked(stage, params, *, inputs, outputs):
        assert stage == "train_student"
        yield QuietRun()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stages.tracking.tracked", tracked)
    monkeypatch.setattr("stages.training.code_fingerprint", lambda modules: "code")
    num_threads = torch.get_num_threads()
    made = TrainingProject(tmp_path)
    made.params["train_student"]["num_steps"] = 4
    made.write_params()
    yield made
    torch.set_num_threads(num_threads)


@pytest.fixture
def calls(monkeypatch):
    """What the stage asks of `fit`, with the model's initial weights."""
    made = []

    def recorded(model, samples, held_out, **options):
        initial = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        made.append({"initial": initial, "samples": samples, "held_out": held_out, **options})
        return fit(model, samples, held_out, **options)

    monkeypatch.setattr("dav2.training.fit.fit", recorded)
    return made


def main(labels, folder):
    train_student.main("vit64x4", labels, Path(folder), MODEL, REPORTS)


def trim(project, fraction):
    project.params["train_student"]["losses"]["trim_fraction"] = fraction
    project.write_params()


def test_a_student_of_pseudo_labels_never_sees_what_it_is_validated_on(project, calls):
    trim(project, 0.1)
    main("pseudo", "pseudo")
    (call,) = calls
    assert call["samples"].sample_ids == ("wild-0", "wild-2", "wild-4")
    assert call["held_out"].sample_ids == ("wild-1", "wild-3")
    assert call["config"].validation.labelled_by_teacher
    assert call["config"].losses.trim_fraction == 0.1
    model, metadata = load(MODEL)
    assert model.config == ModelConfig("vit64x4", None)
    assert (metadata["role"], metadata["labels"]) == ("student", "pseudo")
    assert (REPORTS / "validation.json").is_file()


def test_student_and_control_differ_in_what_they_learn_from_alone(project, calls):
    trim(project, 0.1)
    main("pseudo", "pseudo")
    main("synthetic", ".")
    student, control = calls
    for name, tensor in student["initial"].items():
        assert torch.equal(tensor, control["initial"][name])
    for name in ("seed", "batch_size", "accumulate", "augment", "optimiser", "precision"):
        assert getattr(student["config"], name) == getattr(control["config"], name)
    assert control["samples"].sample_ids == tuple(f"rooms-{index}" for index in range(6))
    assert set(control["held_out"].sample_ids) < {"rooms-6", "rooms-7", "rooms-8"}
    assert control["config"].losses.trim_fraction == 0.0
    assert not control["config"].validation.labelled_by_teacher
    assert student["work"] != control["work"]


def test_without_encoder_weights_the_log_says_that_features_are_not_aligned(project, calls, caplog):
    caplog.set_level(logging.INFO)
    main("pseudo", "pseudo")
    assert "no encoder weights are given: random start, no feature alignment" in caplog.text
    assert calls[0]["frozen_encoder"] is None
    assert calls[0]["config"].losses.feature_weight == 0.0


def test_with_encoder_weights_features_are_aligned_with_that_encoder(project, calls):
    torch.manual_seed(9)
    given = DepthAnything(ModelConfig("vit64x4"))
    save(given, Path("encoder.safetensors"), {})
    project.params["train_student"]["encoder_weights"] = {"vit64x4": "encoder.safetensors"}
    project.write_params()
    main("pseudo", "pseudo")
    assert "features" in (REPORTS / "curves.csv").read_text().splitlines()[0]
    frozen = calls[0]["frozen_encoder"].state_dict()
    for name, tensor in given.encoder.state_dict().items():
        assert torch.equal(frozen[name], tensor)
        assert torch.equal(calls[0]["initial"][f"encoder.{name}"], tensor)


def test_too_few_labels_to_hold_some_out_are_refused(project):
    section = project.params["train_student"]
    section["validation"] = {**section["validation"], "num_samples": 5}
    project.write_params()
    with pytest.raises(ValueError, match="hold out: expected more than 5 samples"):
        main("pseudo", "pseudo")


def test_weights_that_the_stage_itself_writes_are_refused(project):
    project.params["train_student"]["encoder_weights"] = {"vit64x4": str(MODEL)}
    project.write_params()
    with pytest.raises(ValueError, match=r"encoder_weights\.vit64x4: expected .*: copy the file"):
        main("pseudo", "pseudo")


def test_students_of_fewer_labels_are_validated_on_the_same_ones(project, calls):
    main("pseudo", "pseudo")
    for count, seed in ((2, 0), (2, 1), (1, 0)):
        project.params["train_student"] |= {"num_pseudo_labels": count, "seed": seed}
        project.write_params()
        main("pseudo", "pseudo")
    every, two, others, one = (call["samples"].sample_ids for call in calls)
    assert len(every) == 3
    assert len(two) == len(others) == 2
    assert set(one) < set(two) < set(every)
    assert len({call["held_out"].sample_ids for call in calls}) == 1


def test_noise_spoils_what_the_control_learns_from_but_not_what_judges_it(project, calls):
    main("synthetic", ".")
    project.params["train_student"]["label_noise"] = {"rooms": 1.0}
    project.write_params()
    main("synthetic", ".")
    clean, noisy = calls
    assert noisy["work"] != clean["work"]
    before, after = (call["samples"].read(0) for call in calls)
    assert after.valid.sum() < before.valid.sum()
    for index in range(2):
        same = [call["held_out"].read(index) for call in calls]
        np.testing.assert_array_equal(same[0].target, same[1].target)
        np.testing.assert_array_equal(same[0].valid, same[1].valid)


def test_noise_of_a_source_that_is_not_there_is_refused(project):
    project.params["train_student"]["label_noise"] = {"romes": 1.0}
    project.write_params()
    with pytest.raises(ValueError, match="expected label_noise of the sources rooms, got romes"):
        main("synthetic", ".")
