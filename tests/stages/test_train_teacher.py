"""The stage `train_teacher`."""

import json
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import torch

from dav2.data.files import sha256_of
from dav2.data.manifest import read_manifest, write_manifest
from dav2.models.checkpoints import load, save
from dav2.models.depth_anything import DepthAnything, ModelConfig
from dav2.models.interchange import write_transformers, write_upstream
from stages import train_teacher
from stages.params import load as load_params
from stages.training import labelled_samples
from tests.fixtures.encoder_families import SMALL, shrink, timms
from tests.fixtures.full_disk import disk_for
from tests.fixtures.training import TrainingProject

MANIFEST = Path("manifest.parquet")
PROGRESS = "train_teacher/*/progress.pt"
MODEL, REPORTS = Path("models/teacher.safetensors"), Path("reports/teacher")


class RecordedRun:
    def __init__(self):
        self.metrics, self.pictures = {}, {}

    def log_metrics(self, metrics, *, step=0):
        self.metrics |= {(name, step): value for name, value in metrics.items()}

    def log_picture(self, name, picture):
        self.pictures[name] = picture


@pytest.fixture
def run(monkeypatch):
    recorded = RecordedRun()

    @contextmanager
    def tracked(stage, params, *, inputs, outputs):
        assert (stage, set(inputs)) == ("train_teacher", {"labelled"})
        assert outputs == [MODEL, REPORTS]
        yield recorded

    monkeypatch.setattr("stages.tracking.tracked", tracked)
    return recorded


@pytest.fixture
def project(tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stages.training.code_fingerprint", lambda modules: "code")
    num_threads = torch.get_num_threads()
    yield TrainingProject(tmp_path)
    torch.set_num_threads(num_threads)


def main():
    train_teacher.main(MANIFEST, MODEL, REPORTS)


def test_leaves_a_relative_model_curves_and_measures(project, run):
    main()
    model, metadata = load(MODEL)
    assert model.config == ModelConfig("vit64x4", None)
    assert metadata["role"] == "teacher"
    assert metadata["short_side_px"] == 28
    assert len(metadata["fingerprint"]) == 16
    curves = pd.read_csv(REPORTS / "curves.csv")
    assert list(curves["step"]) == [2, 4, 6]
    assert {"loss", "data", "gradient", "encoder_lr", "decoder_lr"} < set(curves.columns)
    found = json.loads((REPORTS / "validation.json").read_text())
    assert [entry["step"] for entry in found["history"]] == [3, 6]
    assert found["final"] == found["history"][-1] == metadata["validation"]
    assert set(found["final"]) == {"step", "delta1", "abs_rel", "abs_rel_inverse", "pair_accuracy"}
    assert found["num_samples"] == 2
    assert list(run.pictures) == [f"validation/00000{step}.png" for step in (3, 6)] + [
        "validation.png"
    ]
    assert {picture.shape for picture in run.pictures.values()} == {(2 * 28 + 2, 3 * 42 + 4, 3)}
    assert run.metrics[("loss", 6)] == pytest.approx(curves["loss"].iloc[-1], rel=1e-4)
    assert run.metrics[("val/delta1", 6)] == pytest.approx(found["final"]["delta1"], rel=1e-4)


def test_the_same_inputs_give_the_same_bytes_with_and_without_work_done_before(project):
    main()
    once = [sha256_of(path) for path in (MODEL, *sorted(REPORTS.iterdir()))]
    main()
    assert [sha256_of(path) for path in (MODEL, *sorted(REPORTS.iterdir()))] == once
    next(Path(".work").glob(PROGRESS)).unlink()
    main()
    assert [sha256_of(path) for path in (MODEL, *sorted(REPORTS.iterdir()))] == once


def test_work_is_kept_apart_by_what_decides_the_weights(project):
    def folders():
        main()
        return {path.name for path in Path(".work/train_teacher").iterdir()}

    first = folders()
    project.params["train_teacher"]["running"] = {
        **project.params["train_teacher"]["running"],
        "num_workers": 3,
    }
    project.write_params()
    assert folders() == first
    project.params["train_teacher"]["seed"] = 1
    project.write_params()
    second = folders()
    assert len(second) == 2
    manifest = read_manifest(MANIFEST)
    manifest.loc[0, "content_hash"] = "f" * 64
    write_manifest(manifest, MANIFEST)
    assert len(folders()) == 3


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        ({"checkpoint_activations": True}, True),
        ({"parallel": {"launcher": "slurm"}}, True),
        ({"parallel": {"launcher": "torchrun", "num_machines": 2}}, False),
        ({"parallel": {"num_devices": 2}}, False),
        ({"compile": True}, False),
        ({"optimiser": {"layer_decay": 0.9}}, False),
        ({"validation": {"patience": 2}}, False),
    ],
)
def test_what_decides_no_weight_keeps_the_work(project, monkeypatch, change, is_same):
    marks = []

    def work_folder(stage, mark):
        marks.append(mark)
        raise InterruptedError

    monkeypatch.setattr("stages.training_work.work_folder", work_folder)
    section = project.params["train_teacher"]
    for given in ({}, change):
        for name, value in given.items():
            section[name] = {**section[name], **value} if isinstance(value, dict) else value
        project.write_params()
        with pytest.raises(InterruptedError):
            main()
    first, second = marks
    assert (first == second) == is_same


def test_other_ranks_end_with_the_training_and_write_nothing(project, monkeypatch):
    monkeypatch.setattr("stages.training_work.is_first_rank", lambda: False)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert not MODEL.exists()
    assert not REPORTS.exists()


def test_a_finished_model_is_measured_and_not_trained(project, run):
    torch.manual_seed(5)
    given = DepthAnything(ModelConfig("vit128x6"))
    save(given, Path("given.safetensors"), {})
    project.params["train_teacher"]["weights"] = "given.safetensors"
    project.write_params()
    main()
    model, metadata = load(MODEL)
    for name, tensor in given.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)
    assert metadata["validation"]["step"] == 0
    assert (REPORTS / "curves.csv").read_text() == "step\n"
    assert not Path(".work/train_teacher").exists()


@pytest.mark.parametrize(
    ("encoder", "write", "name"),
    [
        ("vits", write_upstream, "depth_anything_v2_vits.pth"),
        ("vit64x4", write_transformers, "Depth-Anything-V2-Tiny-hf"),
    ],
)
def test_a_finished_model_of_others_is_a_teacher_too(project, encoder, write, name):
    torch.manual_seed(5)
    given = DepthAnything(ModelConfig(encoder))
    write(given, Path(name))
    if Path(name).is_dir():
        (Path(name) / ".cache").mkdir()  # as a download leaves it
    project.params["train_teacher"]["weights"] = name
    project.write_params()
    main()
    model, metadata = load(MODEL)
    assert model.config == given.config
    for weight, tensor in given.state_dict().items():
        assert torch.equal(model.state_dict()[weight], tensor)
    with torch.no_grad():
        given.head.scratch.last.bias.add_(1)
    write(given, Path(name))
    main()
    assert load(MODEL)[1]["fingerprint"] != metadata["fingerprint"]


def test_a_metric_model_is_no_teacher(project):
    save(DepthAnything(ModelConfig("vit64x4", 20.0)), Path("given.safetensors"), {})
    project.params["train_teacher"]["weights"] = "given.safetensors"
    project.write_params()
    with pytest.raises(ValueError, match=r"expected a teacher of relative depth, got .* 20\.0 m"):
        main()


def test_training_can_start_from_the_encoder_of_another_model(project):
    torch.manual_seed(5)
    given = DepthAnything(ModelConfig("vit64x4"))
    save(given, Path("given.safetensors"), {})
    weights = Path("given.safetensors")
    from stages.training import initial_model

    model, marks = initial_model("vit64x4", 0, weights)
    fresh, _ = initial_model("vit64x4", 0, None)
    assert marks["weights"] == sha256_of(weights)
    for name, tensor in model.state_dict().items():
        source = given if name.startswith("encoder.") else fresh
        assert torch.equal(tensor, source.state_dict()[name]), name


def test_a_collapsed_model_ends_the_stage_and_leaves_nothing(project):
    section = project.params["train_teacher"]
    section["validation"] = {**section["validation"], "min_pair_accuracy": 1.0}
    project.write_params()
    with pytest.raises(ValueError, match=r"teacher: expected at least 1 of the validation's pairs"):
        main()
    assert not MODEL.exists()
    assert not REPORTS.exists()


def test_a_lower_floor_takes_the_training_that_a_higher_one_refused(project, monkeypatch):
    section = project.params["train_teacher"]
    section["validation"] = {**section["validation"], "min_pair_accuracy": 1.0}
    project.write_params()
    with pytest.raises(ValueError, match="expected at least 1 of the validation's pairs"):
        main()
    section["validation"] = {**section["validation"], "min_pair_accuracy": 0.0}
    project.write_params()
    monkeypatch.setattr("dav2.training.run._train", lambda *_: pytest.fail("trained again"))
    main()
    assert MODEL.exists()


def test_weights_of_sources_reach_the_training(project, monkeypatch):
    configs = []

    def train(*_, config, **__):
        configs.append(config)
        raise InterruptedError

    monkeypatch.setattr("stages.train_teacher.train", train)
    project.params["train_teacher"]["source_weights"] = {"rooms": 3}
    project.write_params()
    with pytest.raises(InterruptedError):
        main()
    ((num_samples, weight),) = configs[0].mixture
    assert num_samples > 0
    assert weight == 3


def test_a_disk_too_full_for_the_model_costs_no_step(project, monkeypatch):
    main()
    outputs = (MODEL, *sorted(REPORTS.iterdir()))
    expected = [sha256_of(path) for path in outputs]
    for path in outputs:
        path.unlink()
    with (
        disk_for(100_000),
        pytest.raises(
            OSError, match=r"teacher\.safetensors: expected to write weights, got .*full"
        ),
    ):
        main()
    assert list(MODEL.parent.iterdir()) == []
    monkeypatch.setattr("dav2.training.run._train", lambda *_: pytest.fail("trained again"))
    main()
    assert [sha256_of(path) for path in outputs] == expected


def test_work_of_another_library_version_is_not_taken(project, monkeypatch):
    main()
    monkeypatch.setattr("stages.fingerprint.version", lambda name: "0")
    main()
    assert len(list(Path(".work/train_teacher").iterdir())) == 2


@pytest.mark.parametrize("name", SMALL)
def test_encoders_of_other_families_start_from_timms_files(project, monkeypatch, name):
    shrink(monkeypatch)
    given = timms(name, SMALL[name]).state_dict()
    torch.save(given, "timm.pth")
    section = project.params["train_teacher"]
    section |= {"encoder": name, "encoder_weights": "timm.pth", "num_steps": 2, "weights": None}
    section |= {"checkpoint_activations": True, "log_every_steps": 1, "crops_px": [[28, 42]]}
    section["validation"] = section["validation"] | {"every_steps": 2}
    section["optimiser"] = section["optimiser"] | {"layer_decay": 0.8, "warmup_steps": 0}
    project.write_params()
    main()
    model, metadata = load(MODEL)
    assert model.config == ModelConfig(name)
    assert metadata["validation"]["step"] == 2
    assert pd.read_csv(REPORTS / "curves.csv")["loss"].between(0, 10).all()
    moved = [(value - given[key]).abs().max() for key, value in model.encoder.state_dict().items()]
    assert 0 < max(moved) < 1e-2  # of numbers around 0.1


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_a_gpu_that_is_not_there_is_refused(project):
    project.params["train_teacher"]["device"] = "cuda"
    project.write_params()
    with pytest.raises(ValueError, match=r"teacher\.device: expected a CUDA device, got none"):
        main()


@pytest.mark.parametrize("name", ["weights", "encoder_weights"])
def test_weights_that_the_stage_itself_writes_are_refused(project, name):
    project.params["train_teacher"][name] = f"models/../{MODEL}"
    project.write_params()
    with pytest.raises(ValueError, match=rf"train_teacher\.{name}: expected .*: copy the file"):
        main()


def test_a_manifest_of_one_scene_without_validation_samples_is_refused(project):
    manifest = read_manifest(MANIFEST)
    write_manifest(manifest[manifest["split"] == "train"], MANIFEST)
    with pytest.raises(ValueError, match=r"parquet: expected samples of split 'val' .* got train"):
        main()


def test_without_validation_samples_whole_scenes_are_held_out(project, monkeypatch):
    manifest = read_manifest(MANIFEST)
    scenes = [f"scene-{index // 2}" for index in range(len(manifest))]
    write_manifest(manifest.assign(split="all", scene=scenes), MANIFEST)
    train, held_out, _ = labelled_samples(MANIFEST, num_held_out=2)
    assert held_out.sample_ids == ("rooms-4", "rooms-5")
    assert train.sample_ids == tuple(f"rooms-{index}" for index in (0, 1, 2, 3, 6, 7, 8))
    _, held_out, _ = labelled_samples(MANIFEST, num_held_out=100)
    assert held_out.sample_ids == ("rooms-2", "rooms-3", "rooms-6", "rooms-7")


def test_every_split_but_val_is_trained_on(project):
    manifest = read_manifest(MANIFEST)
    write_manifest(manifest.assign(split=["all", *manifest["split"][1:]]), MANIFEST)
    train, held_out, _ = labelled_samples(MANIFEST, num_held_out=9)
    assert train.sample_ids == tuple(f"rooms-{index}" for index in range(6))
    assert held_out.sample_ids == ("rooms-6", "rooms-7", "rooms-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": "vit65x4"}, r"train_teacher\.encoder: .*got 'vit65x4'"),
        ({"sead": 1}, r"train_teacher\.sead: Extra inputs are not permitted"),
        ({"crops_px": [[28, 30]]}, r"train_teacher\.crops_px\.0\.1: .* multiple of 14, got 30"),
    ],
)
def test_wrong_parameters_are_named(project, change, message):
    project.params["train_teacher"] |= change
    project.write_params()
    with pytest.raises(ValueError, match=message):
        load_params("train_teacher", train_teacher.TrainTeacherParams)


@pytest.mark.slow
def test_a_learning_rate_given_as_text_is_one_line_on_the_command_line(project):
    optimiser = {**project.params["train_teacher"]["optimiser"], "encoder_lr": "1e-3"}
    project.params["train_teacher"]["optimiser"] = optimiser
    project.write_params()
    process = project.start("train_teacher", str(MANIFEST), str(MODEL), str(REPORTS))
    _, shown = process.communicate(timeout=120)
    assert process.returncode == 1
    (line,) = shown.splitlines()
    assert line.startswith("train_teacher: params.yaml: train_teacher.optimiser.encoder_lr: ")
    assert line.endswith("got '1e-3'")
