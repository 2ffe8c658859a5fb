"""Files of a local folder, parts of files, and reading once; S3 as far as it needs no server."""

import os
import threading

import pytest

from dav2.data.storage import (
    LocalStorage,
    RememberingStorage,
    S3Storage,
    Storage,
    member_path,
    open_storage,
    split_part,
)


@pytest.fixture
def storage(tmp_path):
    for name in ("b.txt", "a/2.txt", "a/1.txt", "a-c/0.txt", "a/deep/3.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return LocalStorage(tmp_path)


class CountingStorage(LocalStorage):
    """Counts how often each file is read."""

    def __init__(self, root):
        super().__init__(root)
        self.reads = []

    def read(self, path, **limits):
        self.reads.append(path)
        return super().read(path, **limits)


def test_a_root_opens_by_its_form(tmp_path, storage):
    assert isinstance(open_storage(tmp_path), LocalStorage)
    assert isinstance(open_storage(str(tmp_path)), LocalStorage)
    assert isinstance(open_storage("s3://bucket/prefix"), S3Storage)
    assert open_storage(storage) is storage
    assert all(isinstance(one, Storage) for one in (storage, S3Storage("s3://b"), tracked(storage)))


def tracked(storage):
    return RememberingStorage(storage)


def test_files_are_listed_folder_by_folder_with_size_and_version(storage, tmp_path):
    os.utime(tmp_path / "a" / "1.txt", ns=(1, 12345))

    found = list(storage.list_files())

    paths = [file.path for file in found]
    assert paths == ["b.txt", "a/1.txt", "a/2.txt", "a/deep/3.txt", "a-c/0.txt"]
    assert (found[1].bytes, found[1].version) == (7, "12345")
    for folder in ("a", "a/"):
        assert [file.path for file in storage.list_files(folder)] == paths[1:4]


def test_links_to_files_are_listed_and_links_to_folders_are_not(storage, tmp_path):
    (tmp_path / "file").symlink_to(tmp_path / "b.txt")
    (tmp_path / "folder").symlink_to(tmp_path / "a")
    (tmp_path / "broken").symlink_to(tmp_path / "nothing")
    (tmp_path / "circle").symlink_to(tmp_path)

    paths = [file.path for file in storage.list_files()]

    assert paths[:2] == ["b.txt", "file"]
    assert not {"broken", "folder/1.txt", "circle/b.txt"} & set(paths)


def test_a_missing_folder_is_told_from_a_file(storage):
    with pytest.raises(FileNotFoundError, match=r"c: expected the folder .* got nothing there"):
        next(storage.list_files("c"))
    with pytest.raises(FileNotFoundError, match=r"b\.txt: expected the folder .* got a file"):
        next(storage.list_files("b.txt"))


def test_status_changes_with_the_file_and_is_none_without_one(storage, tmp_path):
    before = storage.status("b.txt")
    os.utime(tmp_path / "b.txt", ns=(1, 1))

    assert before.path == "b.txt"
    assert before.bytes == 5
    assert storage.status("b.txt").version == "1" != before.version
    assert storage.status("a") is None
    assert storage.status("none") is None
    assert storage.status("nul\0") is None
    assert storage.status("../" + tmp_path.name + "/b.txt") is None


def test_a_part_has_the_status_of_its_file(storage, tmp_path):
    (tmp_path / "a.tar").write_bytes(bytes(10))

    assert storage.status("a.tar#1+2#x.jpg") == storage.status("a.tar")
    assert storage.status("b.tar#1+2#x.jpg") is None


def test_a_part_is_split_at_the_first_container():
    assert split_part("a/b.jpg") == ("a/b.jpg", None)
    assert split_part("a/b#c.jpg") == ("a/b#c.jpg", None)
    assert split_part("v/x.mov#30") == ("v/x.mov", "30")
    assert split_part("x_lmdb/data.mdb#key#1") == ("x_lmdb/data.mdb", "key#1")
    path = member_path("t/a.tar", first_byte=3, num_bytes=4, name="in/b.tar#5+6#c.jpg")
    assert split_part(path) == ("t/a.tar", "3+4#in/b.tar#5+6#c.jpg")


def test_parts_of_tars_are_read_by_their_span(storage, tmp_path):
    (tmp_path / "a.tar").write_bytes(b"0123456789")

    assert storage.read("a.tar#2+3#x.jpg") == b"234"
    assert storage.read("a.tar#9+1#x.jpg") == b"9"
    assert storage.read("a.tar#10+0#x.jpg") == b""
    with pytest.raises(ValueError, match=r"ends within the archive of 10 bytes, got 11$"):
        storage.read("a.tar#9+2#x.jpg")
    with pytest.raises(ValueError, match=r"ends within the archive of 10 bytes, got 1\d{18}$"):
        storage.read(f"a.tar#{10**18 - 1}+{10**18 - 1}#x.jpg".replace("999#", "999#"))


@pytest.mark.parametrize("part", ["x.jpg", "1+2", "1+2#", "-1+2#x", "1+-2#x", f"{10**19}+1#x"])
def test_other_parts_are_refused(part, storage, tmp_path):
    (tmp_path / "a.tar").write_bytes(bytes(10))

    with pytest.raises(ValueError, match=r"a\.tar.*expected a part as <first byte>\+<bytes>#"):
        storage.read(f"a.tar#{part}")


def test_files_above_the_limit_are_refused_unread(storage, tmp_path):
    with (tmp_path / "large").open("wb") as stream:
        stream.truncate(1 << 40)  # a hole: no byte on disk

    with pytest.raises(ValueError, match=rf"large: expected a file of at most {1 << 30} bytes"):
        storage.read("large")
    assert storage.read("b.txt", max_bytes=5) == b"b.txt"
    with pytest.raises(ValueError, match=r"b\.txt: expected a file of at most 4 bytes, got 5"):
        storage.read("b.txt", max_bytes=4)
    (tmp_path / "a.tar").write_bytes(bytes(10))
    with pytest.raises(ValueError, match="at most 4 bytes, got 5"):
        storage.read("a.tar#0+5#x", max_bytes=4)


def test_what_is_missing_is_named(storage, tmp_path):
    for path in ("none.txt", "a", "none.tar#0+1#x", "nul\0"):
        with pytest.raises(FileNotFoundError, match="expected a file, got nothing there"):
            storage.read(path)
    with pytest.raises(FileNotFoundError, match=r"none\.txt: expected a file"):
        storage.open("none.txt")
    assert storage.where("b.txt") == str(tmp_path / "b.txt")
    assert storage.where() == str(tmp_path)


@pytest.mark.parametrize("path", ["../out.txt", "a/../../out.txt", "{root}/out.txt"])
def test_no_path_leads_out_of_the_root(path, tmp_path):
    (tmp_path / "out.txt").write_text("secret")
    (tmp_path / "root" / "a").mkdir(parents=True)
    storage = LocalStorage(tmp_path / "root")
    path = path.format(root=tmp_path)

    for act in (storage.read, storage.open):
        with pytest.raises(ValueError, match="root: expected paths below the root, got '"):
            act(path)
    with pytest.raises(ValueError, match="expected paths below the root"):
        next(storage.list_files(".."))


def test_files_open_at_any_position(storage, tmp_path):
    with storage.open("b.txt") as stream:
        stream.seek(2)
        assert stream.read() == b"txt"


def test_a_file_is_read_once_while_remembering(storage, tmp_path):
    counting = CountingStorage(tmp_path)
    remembering = RememberingStorage(counting)

    with remembering.remembering():
        assert remembering.read("b.txt") == remembering.read("b.txt") == b"b.txt"
        assert remembering.read("a/1.txt") == b"a/1.txt"
    assert counting.reads == ["b.txt", "a/1.txt"]
    (tmp_path / "b.txt").write_bytes(b"new")
    assert remembering.read("b.txt") == b"new"
    with pytest.raises(FileNotFoundError), remembering.remembering():
        remembering.read(remembering.read("b.txt").decode())
    (tmp_path / "b.txt").write_bytes(b"newer")
    assert remembering.read("b.txt") == b"newer"


def test_what_another_thread_reads_is_not_remembered(storage, tmp_path):
    counting = CountingStorage(tmp_path)
    remembering = RememberingStorage(counting)

    with remembering.remembering():
        remembering.read("b.txt")
        thread = threading.Thread(target=remembering.read, args=("b.txt",))
        thread.start()
        thread.join()

    assert counting.reads == ["b.txt", "b.txt"]


def test_remembering_storage_passes_everything_else_on(storage, tmp_path):
    remembering = RememberingStorage(storage)

    assert remembering.where("b.txt") == storage.where("b.txt")
    assert list(remembering.list_files("a")) == list(storage.list_files("a"))
    assert remembering.status("b.txt") == storage.status("b.txt")
    with remembering.open("b.txt") as stream:
        assert stream.read() == b"b.txt"
    with pytest.raises(ValueError, match="at most 4 bytes"):
        remembering.read("b.txt", max_bytes=4)


def test_a_bucket_names_its_files():
    for root in ("s3://bucket/some/prefix", "s3://bucket/some/prefix/"):
        storage = S3Storage(root)
        assert storage.where("a/b.jpg") == "s3://bucket/some/prefix/a/b.jpg"
        assert storage.where() == "s3://bucket/some/prefix"
    assert S3Storage("s3://bucket").where() == "s3://bucket"
    assert S3Storage("s3://bucket/").where("a") == "s3://bucket/a"
