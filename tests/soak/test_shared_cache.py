"""Results shared by S3: a second folder computes nothing; what was lost is named and recomputed."""

import shutil

import pytest

from stages.digests import dvc_digest
from tests.fixtures.s3_server import environment, s3_client, s3_server
from tests.fixtures.shared_project import ROOT, SharedProject, key, objects

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]


@pytest.fixture
def project(tmp_path, initialised, monkeypatch):
    with s3_server() as (_, endpoint):
        s3_client(endpoint).create_bucket(Bucket="bucket")
        project = SharedProject(tmp_path, endpoint, environment(endpoint))
        monkeypatch.chdir(project.create(initialised))
        yield project


def test_make_remote_writes_what_the_tests_use_and_no_secret(project):
    first = project.folder / "first"
    config = first / ".dvc" / "config"
    wanted = config.read_text()
    shutil.copyfile(ROOT / ".dvc" / "config", config)
    shutil.copyfile(ROOT / "Makefile", first / "Makefile")
    make = ("make", "-o", "install", "remote")
    assert "expected URL=s3://<bucket>/<prefix>, got none" in project.run(first, *make, status=2)
    project.run(first, *make, "URL=s3://bucket/cache", f"ENDPOINT={project.endpoint}")
    assert sorted(config.read_text().split()) == sorted(wanted.split())
    assert "key" not in config.read_text()


def test_a_second_folder_pulls_and_computes_nothing(project):
    second = project.clone("second")
    project.run(second, "dvc", "pull")
    project.run(second, "dvc", "repro")
    assert project.ran() == []
    assert project.run(second, "git", "status", "--short") == ""
    assert (second / "student").read_bytes() == (project.folder / "first/student").read_bytes()


def test_without_a_lock_the_run_cache_gives_back_what_the_remote_keeps(project):
    second = project.clone("second")
    (second / "dvc.lock").unlink()
    said = project.run(second, "dvc", "repro", "--pull")
    assert said.count("is cached - skipping run") == 2
    assert project.ran() == ["verdict"]  # its file is Git's, so that DVC pushes none
    assert project.run(second, "git", "status", "--short") == ""


@pytest.mark.parametrize(
    ("path", "content", "status", "named", "stages"),
    [
        ("data/a", b"photogRaphs\n", 1, "targets:\ndata\n", ["shards"]),
        ("data/a", None, 1, "'{digest}'", ["shards"]),
        ("student", b"", 1, "targets:\nstudent\n", ["student"]),
        ("student", None, 1, "{digest}", ["student"]),
        ("data", None, 1, "md5: {digest}", ["shards"]),
        ("data", b"no JSON", 255, "object {digest} is corrupted", ["shards"]),
        ("data", b"[]", 0, "", ["shards"]),  # DVC takes it for an empty folder
    ],
)
def test_what_is_damaged_or_missing_is_named_recomputed_and_put_back(
    project, path, content, status, named, stages
):
    whole = objects(project.endpoint)
    first = project.folder / "first"
    digest = dvc_digest(first / path)
    s3 = s3_client(project.endpoint)
    s3.delete_object(Bucket="bucket", Key=key(path))
    if content is not None:
        s3.put_object(Bucket="bucket", Key=key(path), Body=content)

    second = project.clone("second")
    assert f"{path}: expected object {digest}" in project.check(second, status=1)
    said = project.run(second, "dvc", "pull", status=status)
    assert named.format(digest=digest) in said
    project.run(second, "dvc", "repro")
    assert set(stages) <= set(project.ran()) <= {"shards", "student"}
    assert project.run(second, "git", "status", "--short") == ""
    for name in ("data/a", "data/b", "student"):
        assert (second / name).read_bytes() == (first / name).read_bytes()

    project.check(second, "--repair")
    assert objects(project.endpoint) == whole
    third = project.clone("third")
    project.run(third, "dvc", "pull")
    project.run(third, "dvc", "repro")
    assert project.ran() == []


def test_continuous_integration_refuses_a_stale_lock_and_a_remote_with_gaps(project):
    second = project.clone("second")
    (second / ".ci").mkdir()
    shutil.copyfile(ROOT / ".ci" / "check_cache", second / ".ci" / "check_cache")
    check = ("bash", ".ci/check_cache")
    assert "4 of 4 objects are there" in project.run(second, *check)
    assert not (second / "student").exists()

    s3_client(project.endpoint).delete_object(Bucket="bucket", Key=key("student"))
    assert "student: expected object" in project.run(second, *check, status=1)

    (second / "source").write_text("other photographs\n")
    lines = project.run(second, *check, status=1)
    assert "dvc.lock: expected that of this commit, got one" in lines
    assert "Running stage 'shards'" in lines
    assert project.ran() == []


def test_a_server_that_does_not_answer_is_one_line(project):
    second = project.clone("second")
    config = second / ".dvc" / "config"
    config.write_text(config.read_text().replace(project.endpoint, "http://127.0.0.1:9"))
    said = project.check(second, status=1)
    assert said.startswith("check_remote: expected a remote that answers, got Could not connect")
    assert said.count("\n") == 1
