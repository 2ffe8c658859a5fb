import hashlib

import pytest

from stages.digests import dvc_digest, locked_outputs


def test_a_file_has_the_md5_of_its_bytes(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"abc")
    assert dvc_digest(path) == "900150983cd24fb0d6963f7d28e17f72"


def test_a_folder_has_the_hash_that_dvc_computes(tmp_path):
    folder = tmp_path / "shards"
    (folder / "a").mkdir(parents=True)
    # "a-b" comes before "a/c" as text and after it as a path.
    for name in ("a/c", "a-b", "z"):
        (folder / name).write_bytes(name.encode())
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.db import HashFileDB
    from dvc_objects.fs import LocalFileSystem

    database = HashFileDB(LocalFileSystem(), str(tmp_path / "cache"))
    _, _, tree = build(database, str(folder), LocalFileSystem(), "md5", dry_run=True)
    assert dvc_digest(folder) == tree.hash_info.value


def test_a_folder_of_the_locked_size_has_the_locked_hash(tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    (folder / "one").write_bytes(b"12345")
    lock = tmp_path / "dvc.lock"
    text = f"""
schema: '2.0'
stages:
  label:
    cmd: x
    outs:
    - path: {folder}
      md5: {"0" * 32}.dir
      size: 5
      nfiles: 1
"""
    lock.write_text(text)
    assert dvc_digest(folder, lock) == "0" * 32 + ".dir"
    (folder / "one").write_bytes(b"123456")
    assert dvc_digest(folder, lock) != "0" * 32 + ".dir"


def test_nothing_at_the_path_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a file or a folder"):
        dvc_digest(tmp_path / "nothing")


def test_a_missing_lock_names_no_output(tmp_path):
    assert locked_outputs(tmp_path / "dvc.lock") == {}


def test_large_files_are_hashed_whole(tmp_path):
    path = tmp_path / "large"
    content = bytes(range(256)) * 9000
    path.write_bytes(content)
    assert dvc_digest(path) == hashlib.md5(content).hexdigest()
