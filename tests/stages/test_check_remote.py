"""What is missing or damaged in a DVC remote is named, and put back."""

import hashlib
import logging
from pathlib import Path

import pytest

from stages.check_remote import main
from stages.digests import dvc_digest
from tests.fixtures.s3_server import environment, s3_client, s3_server
from tests.fixtures.shared_project import SharedProject, key, objects


@pytest.fixture(scope="module")
def shared(tmp_path_factory, initialised):
    with s3_server() as (_, endpoint):
        s3_client(endpoint).create_bucket(Bucket="bucket")
        shared = SharedProject(tmp_path_factory.mktemp("shared"), endpoint, environment(endpoint))
        shared.create(initialised)
        yield shared, objects(endpoint)


@pytest.fixture
def project(shared, monkeypatch, caplog):
    project, whole = shared
    for name, value in project.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(project.folder / "first")
    caplog.set_level(logging.INFO, "stages")
    for name, body in whole.items():
        s3_client(project.endpoint).put_object(Bucket="bucket", Key=name, Body=body)
    return project


def said(caplog, **options):
    """Returns the status that the command ends with and its lines."""
    caplog.clear()
    status = 0
    try:
        main(**({"quick": False, "repair": False} | options))
    except SystemExit as end:
        status = end.code
    messages = [(record.name, record.getMessage()) for record in caplog.records]
    return status, [message for name, message in messages if name == "stages.check_remote"]


def expected(path, got):
    return f"{path}: expected object {dvc_digest(Path(path))} in the remote, got {got}"


def test_a_whole_remote_is_said_to_be_whole(project, caplog):
    assert said(caplog) == (0, ["4 of 4 objects are whole"])
    assert said(caplog, quick=True) == (0, ["4 of 4 objects are there"])


def test_what_is_missing_or_damaged_is_named_and_put_back(project, shared, caplog):
    s3 = s3_client(project.endpoint)
    s3.delete_object(Bucket="bucket", Key=key("data/a"))
    s3.put_object(Bucket="bucket", Key=key("student"), Body=b"a worse student")
    missing = expected("data/a", "none")
    digest = hashlib.md5(b"a worse student").hexdigest()
    damaged = expected("student", f"bytes with hash {digest}")
    assert said(caplog, quick=True) == (1, [missing, "3 of 4 objects are there"])
    assert said(caplog) == (1, [missing, damaged, "2 of 4 objects are whole"])

    status, lines = said(caplog, repair=True)
    assert (status, lines[-1]) == (0, "4 of 4 objects are whole")
    assert objects(project.endpoint) == shared[1]


@pytest.mark.parametrize("content", [b"[]", b"no JSON", None])
def test_a_folder_whose_list_is_lost_is_named_and_its_members_are_known_here(
    project, shared, caplog, content
):
    s3 = s3_client(project.endpoint)
    s3.delete_object(Bucket="bucket", Key=key("data"))
    if content is not None:
        s3.put_object(Bucket="bucket", Key=key("data"), Body=content)
    status, lines = said(caplog)
    assert status == 1
    assert lines[0].startswith(expected("data", "none" if content is None else "bytes with hash "))
    assert lines[1:] == ["3 of 4 objects are whole"]
    assert said(caplog, repair=True)[0] == 0
    assert objects(project.endpoint) == shared[1]


def test_what_this_machine_has_not_either_is_not_put_back(project, caplog, monkeypatch):
    s3_client(project.endpoint).delete_object(Bucket="bucket", Key=key("data/b"))
    missing, digest = expected("data/b", "none"), dvc_digest(Path("data/b"))
    monkeypatch.chdir(project.clone("second"))
    assert said(caplog, repair=True) == (
        1,
        [
            missing,
            f"{digest}: expected it in this cache (dvc repro), got none",
            "3 of 4 objects are whole",
        ],
    )


@pytest.mark.parametrize(
    ("setting", "why", "error"),
    [
        ("url = s3://nobodys/cache", "bucket does not exist", OSError),
        ("access_key_id = wrong", "got Partial credentials", OSError),
        ("usl = s3://bucket/cache", "extra keys not allowed", ValueError),
    ],
)
def test_a_remote_that_cannot_be_asked_is_one_line(project, monkeypatch, setting, why, error):
    second = project.clone("second")
    (second / ".dvc" / "config.local").write_text(f"['remote \"team\"']\n    {setting}\n")
    monkeypatch.chdir(second)
    with pytest.raises(error, match=why) as caught:
        main(quick=False, repair=False)
    assert "\n" not in str(caught.value)
