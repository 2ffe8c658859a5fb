import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import Mock

import pytest

from stages import pseudo_label
from stages.collect_garbage import (
    LABELS,
    PHOTOGRAPHS,
    main,
    running_stages,
    stale_shards,
    stale_stages,
    stale_work,
)
from tests.fixtures.labelling import ARGUMENTS, Project

DAY_S = 86400.0


@pytest.fixture
def work(tmp_path: Path):
    """Makes `.work/<stage>/<fingerprint>` with one file, changed some days ago."""

    def make(stage: str, mark: str, days: float = 0.0, content: str = "state") -> Path:
        folder = tmp_path / ".work" / stage / mark
        folder.mkdir(parents=True)
        (folder / content).write_text("bytes")
        for path in (folder / content, folder):
            os.utime(path, (time.time() - days * DAY_S,) * 2)
        return folder

    return make


def lock(root: Path, *outputs: str) -> None:
    outs = "".join(f"    - path: {path}\n      md5: x\n" for path in outputs)
    (root / "dvc.lock").write_text(f"schema: '2.0'\nstages:\n  one:\n    outs:\n{outs}")


def stale(root: Path, **options) -> list[str]:
    chosen = {"keep": 1, "days": 14.0, **options}
    found = stale_work(work=root / ".work", root=root, **chosen)
    return [path.relative_to(root / ".work").as_posix() for path in found]


def test_keeps_the_newest_of_each_stage(tmp_path: Path, work):
    work("train_teacher", "a" * 16, days=2)
    work("train_teacher", "b" * 16, days=1)
    work("pseudo_label", "c" * 16, days=2)
    assert stale(tmp_path) == [f"train_teacher/{'a' * 16}"]
    assert stale(tmp_path, keep=2) == []


def test_drops_old_work_however_new_it_is_for_its_stage(tmp_path: Path, work):
    work("train_teacher", "a" * 16, days=20)
    assert stale(tmp_path) == [f"train_teacher/{'a' * 16}"]
    assert stale(tmp_path, days=30.0) == []


def test_keeps_what_a_current_output_names(tmp_path: Path, work):
    work("train_teacher", "a" * 16, days=90)
    work("pseudo_label", "c" * 16, days=90, content="d" * 16)
    work("pseudo_label", "e" * 16, days=90)
    header = json.dumps({"__metadata__": {"all": json.dumps({"fingerprint": "a" * 16})}}).encode()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "teacher.safetensors").write_bytes(
        len(header).to_bytes(8, "little") + header + bytes(100)
    )
    (tmp_path / "pseudo").mkdir()
    (tmp_path / "pseudo" / "shards.json").write_text(json.dumps({"key": "d" * 16}))
    lock(tmp_path, "models/teacher.safetensors", "pseudo")
    assert stale(tmp_path) == [f"pseudo_label/{'e' * 16}"]


def test_leaves_alone_what_is_no_folder_of_a_fingerprint(tmp_path: Path, work):
    work("prefect", "storage", days=90)
    work("gates", "data", days=90)
    (tmp_path / ".work" / "runs.jsonl").write_text("{}")
    assert stale(tmp_path) == []


@pytest.fixture
def project(tmp_path: Path, monkeypatch):
    """A project of photographs of the source `wild`; `label` gates and labels what there is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stages.tracking.tracked", lambda *_, **__: nullcontext(Mock()))
    made = Project(tmp_path)
    made.add_photographs("wild", 8)
    return made


def gate(project: Project) -> None:
    project.write()
    PHOTOGRAPHS.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ARGUMENTS[0], PHOTOGRAPHS)


def label(project: Project) -> set[str]:
    gate(project)
    pseudo_label.main(PHOTOGRAPHS, ARGUMENTS[1], LABELS)
    return {path.as_posix() for path in Path(".work/pseudo_label").glob("*/*")}


def test_shards_of_withdrawn_photographs_go_and_those_of_an_interrupted_labelling_stay(
    project, caplog
):
    wild = label(project)
    shutil.copytree(LABELS, "before")
    project.add_photographs("photos", 3)
    both = label(project)
    assert both > wild
    assert stale_shards() == []
    shutil.rmtree(LABELS)
    shutil.move("before", LABELS)
    assert stale_shards() == []  # the second labelling was not published yet

    del project.sources["photos"]
    gate(project)
    assert {path.as_posix() for path in stale_shards()} == both - wild
    with caplog.at_level("INFO"), pytest.raises(SystemExit, match=r"^dvc gc: "):  # no DVC here
        main(["--dry-run"])
    assert all(path in caplog.text for path in both - wild)
    assert label(project) == both
    with pytest.raises(SystemExit, match=r"^dvc gc: "):
        main([])
    assert label(project) == wild


def test_shards_of_changed_photographs_go_once_others_are_published(project):
    before = label(project)
    shutil.copyfile("wild/001.jpg", "wild/000.jpg")
    gate(project)
    assert stale_shards() == []  # still published
    after = label(project)
    assert after > before
    (gone,) = stale_shards()
    assert gone.as_posix() in before


def test_knows_a_running_stage_from_one_that_died(tmp_path: Path):
    held = tmp_path / ".dvc" / "tmp" / "rwlock"
    assert running_stages(tmp_path) == []
    held.parent.mkdir(parents=True)
    living = {"pid": os.getpid(), "cmd": "dvc repro"}
    dead = {"pid": 2**22 + 1, "cmd": "dvc repro old"}
    held.write_text(json.dumps({"write": {"models": living, "data": dead}, "read": {}}))
    assert running_stages(tmp_path) == ["dvc repro"]


def test_does_nothing_while_a_rebuild_runs(tmp_path: Path, work, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = work("train_teacher", "a" * 16, days=90)
    held = tmp_path / ".dvc" / "tmp" / "rwlock"
    held.parent.mkdir(parents=True)
    held.write_text(json.dumps({"write": {"models": {"pid": os.getpid(), "cmd": "dvc repro"}}}))
    with pytest.raises(SystemExit, match="expected no rebuild to be running"):
        main([])
    assert folder.is_dir()


@pytest.fixture
def dvc(tmp_path: Path, monkeypatch, initialised: Path):
    """Makes the working directory an empty project and returns DVC's command line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")

    def run(*arguments: str) -> None:
        subprocess.run([sys.executable, "-m", "dvc", *arguments], check=True)

    shutil.copytree(initialised, tmp_path, dirs_exist_ok=True)
    return run


def cached(root: Path) -> set[str]:
    files = (root / ".dvc" / "cache" / "files").rglob("*")
    return {path.read_text() for path in files if path.is_file()}


@pytest.mark.slow
def test_a_dry_run_removes_nothing_and_a_real_one_the_rest_of_the_cache(tmp_path: Path, work, dvc):
    text = "stages:\n  one:\n    cmd: cp in.txt out.txt\n    deps: [in.txt]\n    outs: [out.txt]\n"
    (tmp_path / "dvc.yaml").write_text(text)
    for content in ("first", "second"):
        (tmp_path / "in.txt").write_text(content)
        dvc("repro", "--quiet")
    folder = work("train_teacher", "a" * 16, days=90)
    locked = (tmp_path / "dvc.lock").stat()
    main(["--dry-run"])
    assert folder.is_dir()
    assert cached(tmp_path) == {"first", "second"}
    main([])
    assert not folder.exists()
    assert cached(tmp_path) == {"second"}
    now = (tmp_path / "dvc.lock").stat()
    assert (now.st_ino, now.st_mtime_ns) == (locked.st_ino, locked.st_mtime_ns)  # not written


PIPELINE = """
stages:
  ingest:
    foreach: ${sources}
    do:
      cmd: echo ${item} > ${key}.txt
      outs:
        - ${key}.txt
  count:
    cmd: wc -l < rooms.txt > count.out
    deps: [rooms.txt]
    outs: [count.out]
"""


@pytest.mark.slow
def test_stages_of_a_withdrawn_source_leave_the_lock_and_the_cache(tmp_path: Path, dvc, caplog):
    parameters, lock_file = tmp_path / "params.yaml", tmp_path / "dvc.lock"
    one, both = "sources: {rooms: r}\n", "sources: {photos: p, rooms: r}\n"
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    parameters.write_text(one)
    dvc("repro", "--quiet")
    before = lock_file.read_bytes()
    parameters.write_text(both)
    dvc("repro", "--quiet", "ingest@photos")
    with_photos = lock_file.read_bytes()
    assert stale_stages() == []
    parameters.write_text(one)
    assert stale_stages() == ["ingest@photos"]
    with caplog.at_level("INFO"):
        main(["--dry-run"])
    assert "dvc.lock: ingest@photos  stale" in caplog.messages
    assert lock_file.read_bytes() == with_photos
    assert cached(tmp_path) == {"p\n", "r\n", "1\n"}
    main([])
    assert lock_file.read_bytes() == before
    assert cached(tmp_path) == {"r\n", "1\n"}
    dvc("status", "--quiet")  # fails if a stage has changed


@pytest.mark.slow
def test_a_pipeline_that_cannot_be_read_withdraws_nothing(tmp_path: Path, dvc):
    lock(tmp_path, "out.txt")
    before = (tmp_path / "dvc.lock").read_bytes()
    (tmp_path / "dvc.yaml").write_text("stages:\n  one:\n    cmd: echo ${absent}\n")
    with pytest.raises(SystemExit, match=r"^collect_garbage: dvc\.yaml: expected a pipeline that "):
        main([])
    assert (tmp_path / "dvc.lock").read_bytes() == before


def test_a_failure_of_dvc_is_told(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no project here
    with pytest.raises(SystemExit, match="dvc gc: expected exit status 0, got "):
        main(["--dry-run"])
