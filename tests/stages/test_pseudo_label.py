import json
import shutil
import signal
import tarfile
import time
from contextlib import contextmanager

import pandas as pd
import pytest
import torch

from dav2.data.files import sha256_of
from dav2.data.shards import ShardReader, read_index
from dav2.labeling import labeler
from dav2.labeling.labeler import Labeler
from dav2.labeling.store import held_alone
from stages import pseudo_label
from tests.fixtures.full_disk import disk_for
from tests.fixtures.labelling import ARGUMENTS, Project


class RecordedRun:
    def __init__(self):
        self.metrics = {}
        self.pictures = {}
        self.facts = {}

    def log_metrics(self, metrics, step=0):
        self.metrics |= metrics

    def add_facts(self, facts):
        self.facts |= facts

    def log_picture(self, name, picture):
        self.pictures[name] = picture


@pytest.fixture
def run(monkeypatch):
    recorded = RecordedRun()

    @contextmanager
    def tracked(stage, params, *, inputs, outputs):
        assert stage == "pseudo_label"
        assert set(inputs) == {"unlabelled", "teacher"}
        yield recorded

    monkeypatch.setattr("stages.tracking.tracked", tracked)
    return recorded


@pytest.fixture
def project(tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    num_threads = torch.get_num_threads()
    made = Project(tmp_path)
    made.add_photographs("wild", 12)
    made.write()
    yield made
    torch.set_num_threads(num_threads)


def test_labels_a_manifest_with_a_real_teacher(project, run):
    pseudo_label.main(*ARGUMENTS)
    reader = ShardReader(ARGUMENTS[2])
    assert len(reader) == 12
    assert {reader.read(i).relative_depth.shape for i in range(12)} == {(28, 42), (42, 28)}
    index = read_index(ARGUMENTS[2] / "manifest.parquet")
    assert index["shard"].nunique() > 1
    summary = json.loads((ARGUMENTS[2] / "summary.json").read_bytes())
    assert summary["coverage"] == 1
    assert summary["teacher"] == sha256_of(ARGUMENTS[1])[:16]
    assert (project.folder / ".work" / "pseudo_label" / summary["recipe"]).is_dir()
    assert summary["sources"] == {"wild": {"num_labelled": 12, "num_samples": 12}}
    assert run.metrics["num_labelled"] == 12
    assert run.metrics["images_per_second"] > 0
    assert run.metrics["worker_0/images_per_second"] > 0
    assert run.facts["num_images"] == 12
    assert "gpu_seconds" not in run.facts
    assert run.pictures["labels.png"].std() > 10
    assert run.pictures["worst-ramp_correlation.png"].std() > 10


def test_two_projects_give_the_same_bytes(project, tmp_path, monkeypatch):
    pseudo_label.main(*ARGUMENTS)
    other_folder = tmp_path / "other"
    other_folder.mkdir()
    monkeypatch.chdir(other_folder)
    other = Project(other_folder)
    other.add_photographs("wild", 12)
    other.write()
    pseudo_label.main(*ARGUMENTS)
    assert other.tree() == project.tree()


def test_another_teacher_or_parameter_replaces_every_label(project):
    pseudo_label.main(*ARGUMENTS)
    first = project.tree()
    project.write_teacher(1)
    pseudo_label.main(*ARGUMENTS)
    second = project.tree()
    project.params["short_side_px"] = 42
    project.write()
    pseudo_label.main(*ARGUMENTS)
    third = project.tree()
    for name in first:
        if name.endswith(".tar"):
            assert len({first[name], second[name], third[name]}) == 3


def test_photographs_that_fail_are_listed_and_more_than_allowed_stop_the_stage(project):
    project.write()
    for number in range(2):
        (project.folder / "wild" / f"{number:03}.jpg").write_bytes(b"text")
    pseudo_label.main(*ARGUMENTS)
    summary = json.loads((ARGUMENTS[2] / "summary.json").read_bytes())
    assert (summary["num_labelled"], summary["num_quarantined"]) == (10, 2)
    before = project.tree()
    (project.folder / "wild" / "002.jpg").write_bytes(b"text")
    (project.folder / "teacher.safetensors").unlink()
    project.write_teacher(1)
    with pytest.raises(
        SystemExit, match=r"expected at most 2\.4 of 12 photographs .* got 3 so far, one of them 00"
    ):
        pseudo_label.main(*ARGUMENTS)
    assert project.tree() == before


def test_first_shards_with_bad_labels_stop_the_stage_before_the_others_are_made(project):
    project.add_photographs("wild", 60)
    project.add_photographs("other", 20)
    project.params |= {"check_first_shards": 2, "num_workers": 1, "batch_size": 1}
    project.limits["max_scale_inconsistency"] = 1e-6
    project.params["check_fraction"] = 1.0
    project.write()
    message = (
        r"^pseudo_label: other: labels of the first 2 shards: expected a mean difference of at "
        r"most 1e-06 of a label's range from another resolution's, got 0\.\d+$"
    )
    with pytest.raises(SystemExit, match=message):
        pseudo_label.main(*ARGUMENTS)
    assert not ARGUMENTS[2].exists()
    (store,) = (project.folder / ".work" / "pseudo_label").iterdir()
    made = [path.parent.name.partition("-b")[0] for path in store.glob("*/record.json")]
    assert sorted(made) == ["other", "other", "wild"]
    # What is there is judged again, at once.
    with pytest.raises(SystemExit, match="labels of the first 2 shards"):
        pseudo_label.main(*ARGUMENTS)
    assert len(list(store.glob("*/record.json"))) == 3
    project.limits["max_scale_inconsistency"] = 1.0
    project.write()
    pseudo_label.main(*ARGUMENTS)
    assert json.loads((ARGUMENTS[2] / "summary.json").read_bytes())["coverage"] == 1


def test_a_source_that_is_added_is_judged_before_the_rest_of_it_is_made(project, monkeypatch):
    project.params["num_workers"] = 1
    project.add_photographs("wild", 30)
    project.limits["max_degenerate_fraction"] = 0.1
    project.write()
    pseudo_label.main(*ARGUMENTS)
    (store,) = (project.folder / ".work" / "pseudo_label").iterdir()
    num_shards = len(list(store.glob("*/record.json")))
    project.add_photographs("flat", 30)
    project.write()
    resize = labeler.resize_labels

    def flatten(maps, size):
        return 0 * resize(maps, size)

    monkeypatch.setattr(labeler, "resize_labels", flatten)  # of all that is labelled from now on
    for _ in range(2):
        with pytest.raises(SystemExit, match=r"flat: labels of the first 1 shards: .* are flat"):
            pseudo_label.main(*ARGUMENTS)
        assert len(list(store.glob("*/record.json"))) == num_shards + 1


def test_photographs_of_a_shard_set_aside_do_not_stop_the_stage(project, monkeypatch):
    answer, shards = Labeler.label, set()

    def fail(labeler, images, batch):
        shards.add(images[0].sample_id)
        if images[0].sample_id == min(shards):
            raise RuntimeError("no answer")
        return answer(labeler, images, batch)

    monkeypatch.setattr(Labeler, "label", fail)
    project.params["samples_per_shard"] = 20
    project.write()
    pseudo_label.main(*ARGUMENTS)
    summary = json.loads((ARGUMENTS[2] / "summary.json").read_bytes())
    assert (summary["num_shards_set_aside"], summary["num_quarantined"]) == (1, 12)


def test_an_archive_that_was_cut_off_costs_its_own_photographs(project):
    archive = project.folder / "packed" / "000.tar"
    archive.parent.mkdir()
    with tarfile.open(archive, "w") as stream:
        for path in sorted((project.folder / "wild").iterdir()):
            stream.add(path, arcname=path.name)
    (project.folder / "wild").rename(project.folder / "unpacked")
    project.sources = {"packed": project.sources["wild"] | {"reader": "webdataset"}}
    project.sources["packed"] |= {"root": "packed", "watch": "packed"}
    project.params["max_quarantined_fraction"] = 1.0
    project.write(reader="webdataset")
    with tarfile.open(archive) as stream:
        ends = {member.name: member.offset_data + member.size for member in stream}
    cut = sorted(ends.values())[8]  # three are gone
    archive.write_bytes(archive.read_bytes()[:cut])
    pseudo_label.main(*ARGUMENTS)
    refused = pd.read_parquet(ARGUMENTS[2] / "quarantine.parquet")
    lost = {name for name, end in ends.items() if end > cut}
    assert {image.rpartition("#")[2] for image in refused["image"]} == lost
    assert len(lost) == 3
    assert refused["reason"].str.contains(f"ends within the archive of {cut} bytes").all()
    summary = json.loads((ARGUMENTS[2] / "summary.json").read_bytes())
    assert (summary["num_labelled"], summary["num_quarantined"]) == (9, 3)


def test_a_full_disk_ends_the_stage_in_one_line_and_keeps_what_was_committed(project, run):
    project.params |= {"samples_per_shard": 4, "num_workers": 1}
    project.write()
    pseudo_label.main(*ARGUMENTS)
    expected = project.tree()
    (store,) = (project.folder / ".work" / "pseudo_label").iterdir()
    sizes = {path.parent: path.stat().st_size for path in store.glob("*/shard.tar")}
    largest, smallest = max(sizes.values()), min(sizes.values())
    assert smallest < largest
    shutil.rmtree(store)
    shutil.rmtree(ARGUMENTS[2])
    with (
        disk_for(smallest),
        pytest.raises(SystemExit, match=r"^pseudo_label: .*File too large") as caught,
    ):
        pseudo_label.main(*ARGUMENTS)
    assert "\n" not in str(caught.value)
    assert not ARGUMENTS[2].exists()
    assert all((path / "record.json").is_file() for path in store.iterdir() if path.is_dir())
    num_before = run.facts["num_images"]
    pseudo_label.main(*ARGUMENTS)
    assert project.tree() == expected
    # What the first part has spent is not lost.
    assert 0 < num_before < 12
    assert run.facts["num_images"] < 12
    assert run.facts["total_num_images"] == 12
    assert run.facts["total_labelling_s"] > run.facts["labelling_s"]


def test_a_second_labelling_of_one_project_is_refused_in_one_line(project):
    with (
        held_alone(project.folder / ".work" / "pseudo_label.lock"),
        pytest.raises(SystemExit, match=r"expected one process at a time, got a second$"),
    ):
        pseudo_label.main(*ARGUMENTS)
    assert not ARGUMENTS[2].exists()
    pseudo_label.main(*ARGUMENTS)


def test_a_source_that_vanished_costs_its_own_photographs(project):
    project.add_photographs("other", 7)
    project.params["max_quarantined_fraction"] = 1.0
    project.write()
    shutil.rmtree(project.folder / "other")
    (project.folder / "other").mkdir()
    pseudo_label.main(*ARGUMENTS)
    summary = json.loads((ARGUMENTS[2] / "summary.json").read_bytes())
    assert summary["sources"]["wild"] == {"num_labelled": 12, "num_samples": 12}
    assert summary["sources"]["other"] == {"num_labelled": 0, "num_samples": 7}
    reasons = pd.read_parquet(ARGUMENTS[2] / "quarantine.parquet")["reason"]
    assert reasons.str.contains("expected a file, got nothing there").all()


def test_a_teacher_of_metres_is_refused(project):
    project.write_teacher(0, max_depth_m=20.0)
    with pytest.raises(SystemExit, match=r"expected a teacher of relative depth, got .* 20\.0 m"):
        pseudo_label.main(*ARGUMENTS)
    assert not ARGUMENTS[2].exists()


def test_a_missing_or_damaged_teacher_is_refused_in_one_line(project):
    teacher = project.folder / "teacher.safetensors"
    teacher.write_bytes(teacher.read_bytes()[:1000])
    with pytest.raises(SystemExit, match="expected a whole safetensors file") as caught:
        pseudo_label.main(*ARGUMENTS)
    assert "\n" not in str(caught.value)
    teacher.unlink()
    with pytest.raises(
        SystemExit, match=r"teacher\.safetensors: expected the teacher's checkpoint, got no file$"
    ):
        pseudo_label.main(*ARGUMENTS)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("short_side_px", 100, "multiple of 14"),
        ("batch_size", "16", "valid integer"),
        ("jpeg_quality", 96, "less than or equal to 95"),
        ("codec", "jpeg", "png16"),
        ("bach_size", 4, "Extra inputs are not permitted"),
    ],
)
def test_a_parameter_that_does_not_fit_is_refused_in_one_line(project, name, value, message):
    project.params[name] = value
    project.write()
    with pytest.raises(SystemExit, match=f"pseudo_label.{name}: .*{message}") as caught:
        pseudo_label.main(*ARGUMENTS)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_a_gpu_that_is_not_there_is_refused(project):
    project.params["device"] = "cuda"
    project.write()
    with pytest.raises(SystemExit, match="expected a CUDA device, got none on this machine"):
        pseudo_label.main(*ARGUMENTS)


def test_labels_of_another_library_version_are_not_taken(project, monkeypatch):
    pseudo_label.main(*ARGUMENTS)
    monkeypatch.setattr("stages.fingerprint.version", lambda name: "0")
    pseudo_label.main(*ARGUMENTS)
    assert len(list((project.folder / ".work" / "pseudo_label").iterdir())) == 2


def wait_for(condition, process, *, timeout_s=120):
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline_s, "waited too long"
        time.sleep(0.005)


@pytest.mark.slow
def test_a_killed_labelling_continues_and_gives_the_same_bytes(project):
    project.add_photographs("wild", 150)
    project.write()
    finished = project.start()
    assert finished.wait(timeout=120) == 0, finished.communicate()[1]
    expected = project.tree()
    (store,) = (project.folder / ".work" / "pseudo_label").iterdir()
    num_shards = len(list(store.glob("*/record.json")))
    for path in (store, project.folder / "data"):
        path.rename(path.with_suffix(".first"))
    killed = project.start()
    wait_for(lambda: len(list(store.glob("*/record.json"))) >= 3, killed)
    killed.send_signal(signal.SIGKILL)
    killed.wait(timeout=60)
    times = {path: path.stat().st_mtime_ns for path in store.glob("*/record.json")}
    assert 3 <= len(times) < num_shards
    assert not (project.folder / ARGUMENTS[2]).exists()
    resumed = project.start()
    log = resumed.communicate(timeout=120)[1]
    assert f"{len(times)} of {num_shards} shards are there already" in log
    assert project.tree() == expected
    assert {path: path.stat().st_mtime_ns for path in times} == times
    spent = [json.loads(line) for line in (store / "spent.jsonl").read_bytes().splitlines()]
    assert len({line["run"] for line in spent}) == 2
    # Of the last shard before the kill only the line may be missing.
    assert len({line["shard"] for line in spent if line["num_images"]}) >= num_shards - 1
    assert not [path for path in project.folder.rglob(".*.part")]
