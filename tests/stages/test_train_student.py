"""The stage `train_student`."""

import logging
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from dav2.models.checkpoints import load, save
from dav2.models.depth_anything import DepthAnything, ModelConfig
from dav2.training.fit import fit
from stages import train_student
from tests.fixtures.s3_server import environment, s3_client, s3_server
from tests.fixtures.training import QuietRun, TrainingProject

MODEL, REPORTS = Path("models/student.safetensors"), Path("reports/student")


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
    assert all(call[name].read(0).pseudo for name in ("samples", "held_out"))
    assert call["config"].losses.trim_fraction == 0.1
    model, metadata = load(MODEL)
    assert model.config == ModelConfig("vit64x4", None)
    assert (metadata["role"], metadata["labels"]) == ("student", "pseudo")
    assert (REPORTS / "validation.json").is_file()


def test_a_student_of_shards_in_a_bucket_is_the_student_of_the_folder(project, monkeypatch):
    main("pseudo", "pseudo")
    from_folder = MODEL.read_bytes()
    shutil.rmtree(".work")
    with s3_server() as (_, endpoint):
        for name, value in environment(endpoint).items():
            monkeypatch.setenv(name, value)
        client = s3_client(endpoint)
        client.create_bucket(Bucket="team")
        for path in Path("pseudo").rglob("*.*"):
            client.upload_file(str(path), "team", path.as_posix())
        shutil.rmtree("pseudo/shards")
        project.params["train_student"]["running"]["shards_root"] = "s3://team/pseudo"
        project.write_params()
        main("pseudo", "pseudo")
        assert MODEL.read_bytes() == from_folder
        client.put_object(Bucket="team", Key="pseudo/shards.json", Body=b"{}")
        with pytest.raises(ValueError, match=r"s3://team/pseudo/shards\.json: expected a copy of"):
            main("pseudo", "pseudo")


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
    assert not any(control[name].read(0).pseudo for name in ("samples", "held_out"))
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


def together(project):
    """The folder that holds one of each, as `data/training` does."""
    Path("synthetic").mkdir()
    Path("manifest.parquet").rename("synthetic/manifest.parquet")
    return project.params["train_student"]


def test_a_student_of_both_sees_each_set_as_often_as_it_has_samples(project, calls):
    together(project)
    main("both", ".")
    (call,) = calls
    names = ("wild-0", "wild-2", "wild-4", *(f"rooms-{index}" for index in range(6)))
    assert call["samples"].sample_ids == names
    held_out = call["held_out"].sample_ids
    assert held_out[:2] == ("wild-1", "wild-3")
    assert set(held_out[2:]) < {"rooms-6", "rooms-7", "rooms-8"}
    assert [call["samples"].read(index).pseudo for index in (0, 2, 3, 8)] == [True] * 2 + [
        False
    ] * 2
    assert call["config"].mixture == ()
    _, metadata = load(MODEL)
    assert metadata["labels"] == "both"


def test_a_student_of_both_is_mixed_perturbed_and_aligned_as_v1_was(project, calls):
    section = together(project)
    torch.manual_seed(9)
    save(DepthAnything(ModelConfig("vit64x4")), Path("encoder.safetensors"), {})
    section["encoder_weights"] = {"vit64x4": "encoder.safetensors"}
    section |= {"mixture": {"pseudo": 2, "synthetic": 1}, "perturb": "pseudo"}
    section |= {"align_features": "pseudo", "augment": section["augment"] | {"max_scale": 1.2}}
    section["augment"]["cutmix_probability"] = 0.5
    section["losses"] = section["losses"] | {"trim_fraction": 0.1, "alignment": "least_squares"}
    project.write_params()
    main("both", ".")
    (call,) = calls
    config = call["config"]
    assert config.mixture == ((3, 2), (6, 1))
    assert (config.augment.perturb, config.augment.cutmix_probability) == ("pseudo", 0.5)
    assert (config.losses.align_features, config.losses.feature_weight) == ("pseudo", 1.0)
    assert (config.losses.trim_fraction, config.losses.alignment) == (0.1, "least_squares")
    columns = (REPORTS / "curves.csv").read_text().splitlines()[0].split(",")
    assert {"data", "gradient", "features"} < set(columns)


def test_weights_of_a_mixture_say_nothing_about_one_kind_of_labels(project, calls):
    project.params["train_student"]["mixture"] = {"pseudo": 2, "synthetic": 1}
    project.write_params()
    main("pseudo", "pseudo")
    assert calls[0]["config"].mixture == ()


def test_features_are_not_aligned_where_no_sample_is_of_the_kind(project, calls):
    save(DepthAnything(ModelConfig("vit64x4")), Path("encoder.safetensors"), {})
    section = project.params["train_student"]
    section |= {"encoder_weights": {"vit64x4": "encoder.safetensors"}, "align_features": "pseudo"}
    project.write_params()
    main("synthetic", ".")
    assert calls[0]["config"].losses.feature_weight == 0.0
    assert calls[0]["frozen_encoder"] is None


@pytest.mark.parametrize("missing", ["shards/a.tar", "shards.json", "manifest.parquet"])
def test_a_missing_part_of_the_labels_is_named_before_anything_is_trained(project, missing):
    (Path("pseudo") / missing).unlink()
    with pytest.raises(FileNotFoundError, match=r"^pseudo/[a-z./]*: expected .*, got no"):
        main("pseudo", "pseudo")
    assert not Path(".work").exists()
    assert not MODEL.exists()


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
