"""A machine that would make other labels than the one that asked says so."""

from importlib.metadata import version

import cloudpickle
import pytest

from stages import labelling_job
from stages.params import load
from tests.fixtures.labelling import ARGUMENTS, Project


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    project = Project(tmp_path)
    project.add_photographs("wild", 2)
    project.write()
    project.job = labelling_job.make_job(
        load("pseudo_label", labelling_job.PseudoLabelParams), *ARGUMENTS[:2]
    )
    project.verify = cloudpickle.loads(cloudpickle.dumps(project.job.verify))  # as Ray sends it
    project.verify()
    return project


def test_another_teacher_is_refused(job):
    job.write_teacher(1)
    with pytest.raises(ValueError, match=rf"teacher: expected {job.job.teacher} as the driver has"):
        job.verify()


def test_other_code_is_refused(job, monkeypatch):
    monkeypatch.setattr(labelling_job, "code_fingerprint", lambda modules, without: "c" * 16)
    with pytest.raises(ValueError, match=r"code: expected .* as the driver has, got cccc"):
        job.verify()


def test_another_library_is_refused(job, monkeypatch):
    monkeypatch.setattr("stages.fingerprint.version", lambda name: f"{version(name)}.1")
    with pytest.raises(ValueError, match=rf"torch: expected {version('torch')} as the driver has"):
        job.verify()


def test_a_teacher_that_is_not_there_is_refused(job):
    ARGUMENTS[1].unlink()
    with pytest.raises(FileNotFoundError, match="teacher"):
        job.verify()
