import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dav2.data.files import sha256_of, write_json, written_whole


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def fail_half_way(target: Path) -> None:
    with written_whole(target) as written:
        written.write_bytes(b"ne")
        raise RuntimeError("half way")


def test_a_file_appears_under_its_name_only_when_complete(tmp_path: Path):
    target = tmp_path / "deep" / "labels.bin"
    with written_whole(target) as written:
        written.write_bytes(b"abc")
        assert not target.exists()
    assert target.read_bytes() == b"abc"
    assert names(target.parent) == ["labels.bin"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    target = tmp_path / "labels.bin"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way(target)
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["labels.bin"]


def test_a_folder_replaces_the_old_folder_with_all_it_held(tmp_path: Path):
    target = tmp_path / "shards"
    target.mkdir()
    (target / "stale.tar").write_bytes(b"old")
    with written_whole(target) as written:
        (written / "sub").mkdir(parents=True)
        (written / "sub" / "new.tar").write_bytes(b"new")
    assert sorted(path.name for path in target.rglob("*")) == ["new.tar", "sub"]
    assert names(tmp_path) == ["shards"]


def test_a_killed_write_leaves_the_old_file(tmp_path: Path):
    target = tmp_path / "model.bin"
    target.write_bytes(b"old")
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from dav2.data.files import written_whole\n"
        "with written_whole(Path(sys.argv[1])) as written:\n"
        "    written.write_bytes(b'half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(target)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert target.read_bytes() == b"old"
    assert len(names(tmp_path)) == 2  # the half-written one, under another name
    with written_whole(target) as written:
        written.write_bytes(b"new")
    assert names(tmp_path) == ["model.bin"]


def test_what_another_process_is_writing_stays(tmp_path: Path):
    target = tmp_path / "model.bin"
    with written_whole(target) as first:
        first.write_bytes(b"first")
        with written_whole(target) as second:
            second.write_bytes(b"second")
        assert first.read_bytes() == b"first"
    assert target.read_bytes() == b"first"


def test_json_is_sorted_and_ends_with_a_newline(tmp_path: Path):
    write_json({"b": 1, "a": [0.5]}, tmp_path / "x.json")
    assert (tmp_path / "x.json").read_text() == '{\n  "a": [\n    0.5\n  ],\n  "b": 1\n}\n'


def test_json_refuses_what_json_cannot_say(tmp_path: Path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json({"a": float("nan")}, tmp_path / "x.json")
    assert names(tmp_path) == []


def test_sha256_is_the_published_one_of_abc(tmp_path: Path):
    (tmp_path / "x").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of(tmp_path / "x") == expected
