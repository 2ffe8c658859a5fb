"""What decides the fingerprint of labels, and what does not."""

import shutil

import pytest

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
