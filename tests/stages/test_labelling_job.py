"""What decides the fingerprint of labels, what does not, and whether another machine has it too."""

import shutil
from importlib.metadata import version

import cloudpickle
import pytest

from stages import labelling_job
from stages.labelling_job import PseudoLabelParams, make_job
from tests.fixtures.labelling import ARGUMENTS, PROJECT, Project


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = Project(tmp_path)
    made.add_photographs("wild", 2)
    made.write()
    return made


def job(project, **params):
    read = PseudoLabelParams.model_validate({**project.params, **params})
    return make_job(read, *ARGUMENTS[:2])


def test_the_address_of_a_cluster_is_the_parameters_or_the_environments(project, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert job(project).ray.address is None
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert job(project).ray.address == "head:6379"
    assert job(project, ray_address="other:6379").ray.address == "other:6379"


@pytest.fixture
def changed(project):
    """Says whether a change of a module of `dav2` changes the fingerprint."""
    (project.folder / "dav2").unlink()
    shutil.copytree(PROJECT / "dav2", project.folder / "dav2")

    def is_changed(name):
        path = project.folder / f"dav2/{name}.py"
        before = job(project).recipe
        path.write_text(path.read_text() + "\nADDED = 1\n")
        return job(project).recipe != before

    return is_changed


@pytest.mark.parametrize(
    "name",
    [
        "data/images",
        "data/open",
        "data/png16",
        "data/transforms",
        "labeling/codec",
        "labeling/prepare",
        "models/dpt",
    ],
)
def test_the_code_that_decides_bytes_is_in_the_fingerprint(changed, name):
    assert changed(name)


@pytest.mark.parametrize(
    "name",
    [
        "data/files",
        "data/s3",
        "data/storage",
        "labeling/engine",
        "labeling/store",
        "models/transformers_folder",
    ],
)
def test_the_code_that_moves_bytes_or_says_when_is_not(changed, name):
    assert not changed(name)


def test_threads_count_on_a_cpu_and_not_on_a_gpu(project, monkeypatch):
    assert job(project, num_threads=1).recipe != job(project, num_threads=2).recipe
    monkeypatch.setattr("dav2.models.device.chosen_device", lambda name, where: "cuda")
    assert job(project, num_threads=1).recipe == job(project, num_threads=2).recipe
    assert job(project, batch_size=1).recipe != job(project, batch_size=2).recipe


@pytest.fixture
def verify(project):
    """What a worker on another machine asks before its first shard, as Ray sends it."""
    sent = cloudpickle.loads(cloudpickle.dumps(job(project).verify))
    sent()
    return sent


def test_another_teacher_elsewhere_is_refused(project, verify):
    teacher = job(project).teacher
    project.write_teacher(1)
    with pytest.raises(ValueError, match=rf"teacher: expected {teacher} as the driver has"):
        verify()


def test_other_code_elsewhere_is_refused(verify, monkeypatch):
    monkeypatch.setattr(labelling_job, "code_fingerprint", lambda modules, without: "c" * 16)
    with pytest.raises(ValueError, match=r"code: expected .* as the driver has, got cccc"):
        verify()


def test_another_library_elsewhere_is_refused(verify, monkeypatch):
    monkeypatch.setattr("stages.fingerprint.version", lambda name: f"{version(name)}.1")
    with pytest.raises(ValueError, match=rf"torch: expected {version('torch')} as the driver has"):
        verify()


def test_a_teacher_that_is_not_there_elsewhere_is_refused(verify):
    ARGUMENTS[1].unlink()
    with pytest.raises(FileNotFoundError, match="teacher"):
        verify()
