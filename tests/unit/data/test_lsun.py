"""LSUN's layout: one LMDB database a category and split."""

import io
import multiprocessing

import numpy as np
import pytest
from PIL import Image

from dav2.data.lsun import Lsun
from tests.fixtures.s3_server import environment, s3_client, s3_server

lmdb = pytest.importorskip("lmdb")


def encoded(size=(7, 9), level=50, form="JPEG"):
    stream = io.BytesIO()
    Image.fromarray(np.full((*size, 3), level, np.uint8)).save(stream, form)
    return stream.getvalue()


def write_database(folder, values):
    folder.parent.mkdir(parents=True, exist_ok=True)
    environment = lmdb.open(str(folder), map_size=1 << 24)
    with environment, environment.begin(write=True) as transaction:
        for key, value in values.items():
            transaction.put(key, value)
    (folder / "lock.mdb").unlink()


def listed(reader, split="train"):
    return [(files.sample_id, files.scene, files.image) for files in reader.list_samples(split)]


def test_every_key_of_a_split_is_a_photograph_of_its_category(tmp_path):
    write_database(
        tmp_path / "scenes" / "church_outdoor_train_lmdb",
        {b"ffff": encoded((6, 10), 90, "WEBP"), b"00aa#1": encoded()},
    )
    write_database(tmp_path / "bridge_train_lmdb", {b"1": encoded()})
    write_database(tmp_path / "bridge_val_lmdb", {b"2": encoded()})
    write_database(tmp_path / "test_lmdb", {b"3": encoded()})
    reader = Lsun(tmp_path)

    church = "scenes/church_outdoor_train_lmdb/data.mdb"
    assert listed(reader) == [
        ("bridge_train/1", "bridge", "bridge_train_lmdb/data.mdb#1"),
        ("church_outdoor_train/00aa#1", "church_outdoor", f"{church}#00aa#1"),
        ("church_outdoor_train/ffff", "church_outdoor", f"{church}#ffff"),
    ]
    assert [sample_id for sample_id, _, _ in listed(reader, "val")] == ["bridge_val/2"]
    files = list(reader.list_samples("train"))[2]
    sample = reader.read(files)
    assert sample.image.shape == (6, 10, 3)
    assert abs(int(sample.image[3, 3, 0]) - 90) < 3
    assert (sample.dataset, sample.depth) == ("lsun", None)
    assert reader.read_bytes(files.image) == encoded((6, 10), 90, "WEBP")
    assert not list(tmp_path.rglob("lock.mdb"))  # read-only folders will do


def test_two_readers_and_an_open_listing_share_a_database(tmp_path):
    write_database(tmp_path / "bridge_train_lmdb", {b"1": b"one", b"2": b"two"})
    listing = Lsun(tmp_path).list_samples("train")

    first = next(listing)

    assert Lsun(tmp_path).read_bytes(first.image) == b"one"
    assert Lsun(str(tmp_path)).read_bytes(next(listing).image) == b"two"


def _read_in_child(root, path, answers):
    answers.put(Lsun(root).read_bytes(path))


def test_a_forked_process_reads_too(tmp_path):
    write_database(tmp_path / "bridge_train_lmdb", {b"1": b"one"})
    path = next(Lsun(tmp_path).list_samples("train")).image
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()

    process = context.Process(target=_read_in_child, args=(tmp_path, path, answers))
    process.start()
    process.join()

    assert process.exitcode == 0
    assert answers.get() == b"one"


def test_a_link_to_the_file_will_do(tmp_path):
    write_database(tmp_path / "cache", {b"1": b"one"})
    (tmp_path / "cache" / "data.mdb").rename(tmp_path / "cache" / "0123")
    (tmp_path / "root" / "bridge_train_lmdb").mkdir(parents=True)
    (tmp_path / "root" / "bridge_train_lmdb" / "data.mdb").symlink_to(tmp_path / "cache" / "0123")

    assert Lsun(tmp_path / "root").read_bytes("bridge_train_lmdb/data.mdb#1") == b"one"


def test_a_database_that_was_replaced_is_opened_anew(tmp_path):
    write_database(tmp_path / "bridge_train_lmdb", {b"1": b"one"})
    path = "bridge_train_lmdb/data.mdb#1"
    assert Lsun(tmp_path).read_bytes(path) == b"one"
    write_database(tmp_path / "new", {b"1": b"other"})
    (tmp_path / "new" / "data.mdb").rename(tmp_path / "bridge_train_lmdb" / "data.mdb")

    assert Lsun(tmp_path).read_bytes(path) == b"other"


@pytest.mark.parametrize("kept_bytes", [0, 100, 4096, 8192, 20000, -1])
def test_a_truncated_database_is_refused(kept_bytes, tmp_path):
    write_database(tmp_path / "bridge_train_lmdb", {b"%d" % key: bytes(5000) for key in range(9)})
    file = tmp_path / "bridge_train_lmdb" / "data.mdb"
    file.write_bytes(file.read_bytes()[:kept_bytes])

    with pytest.raises(ValueError, match=r"data\.mdb: expected a whole LMDB database") as caught:
        listed(Lsun(tmp_path))
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="expected a whole LMDB database"):
        Lsun(tmp_path).read_bytes("bridge_train_lmdb/data.mdb#1")


def test_what_is_no_database_is_refused(tmp_path):
    (tmp_path / "bridge_train_lmdb").mkdir()
    (tmp_path / "bridge_train_lmdb" / "data.mdb").write_bytes(b"\xff" * 9000)

    with pytest.raises(ValueError, match=r"expected a whole LMDB database, got .*no LMDB file"):
        listed(Lsun(tmp_path))


def test_keys_are_ascii(tmp_path):
    write_database(tmp_path / "bridge_train_lmdb", {b"caf\xe9": b""})

    with pytest.raises(ValueError, match=r"data\.mdb: expected keys in ASCII, got 'café'"):
        listed(Lsun(tmp_path))


def test_what_is_missing_is_named(tmp_path):
    write_database(tmp_path / "bridge_train_lmdb", {b"1": b"no image"})
    reader = Lsun(tmp_path)

    with pytest.raises(FileNotFoundError, match="mdb#2: expected an image of this key, got none"):
        reader.read_bytes("bridge_train_lmdb/data.mdb#2")
    with pytest.raises(FileNotFoundError, match=r"data\.mdb: expected a file, got nothing there"):
        reader.read_bytes("tower_train_lmdb/data.mdb#2")
    for path in ("bridge_train_lmdb/data.mdb", "bridge_train_lmdb/data.mdb#é"):
        with pytest.raises(ValueError, match=r"expected <folder>/data\.mdb#<key in ASCII>"):
            reader.read_bytes(path)
    with pytest.raises(ValueError, match="mdb#1: expected a JPEG, PNG or WebP image"):
        reader.read(next(reader.list_samples("train")))
    with pytest.raises(ValueError, match="expected samples of split 'val', got none"):
        listed(reader, "val")
    with pytest.raises(ValueError, match="expected split 'train' or 'val', got 'test'"):
        reader.list_samples("test")


def test_a_bucket_holds_databases_as_a_folder_does(tmp_path, monkeypatch):
    write_database(tmp_path / "bridge_train_lmdb", {b"1": encoded(level=90)})
    with s3_server() as (_, endpoint):
        client = s3_client(endpoint)
        client.create_bucket(Bucket="lsun")
        name = "bridge_train_lmdb/data.mdb"
        client.put_object(Bucket="lsun", Key=name, Body=(tmp_path / name).read_bytes())
        for variable, value in environment(endpoint).items():
            monkeypatch.setenv(variable, value)
        reader = Lsun("s3://lsun")

        assert listed(reader) == [("bridge_train/1", "bridge", f"{name}#1")]
        assert reader.read_bytes(f"{name}#1") == encoded(level=90)
        with pytest.raises(FileNotFoundError, match="expected an image of this key, got none"):
            reader.read_bytes(f"{name}#2")
