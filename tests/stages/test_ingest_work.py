"""What ingest knows of a source: names that do not meet, the same in parts of any size."""

import json
import sqlite3
from contextlib import closing

import pytest

from dav2.data.manifest import marked_name, sample_name
from dav2.data.measurement import MEASURED_COLUMNS
from dav2.data.sample import SampleFiles
from dav2.data.storage import LocalStorage, Storage, StoredFile
from dav2.data.tars import list_members
from stages import ingest_work
from stages.ingest_work import IngestWork, ListedStorage
from tests.fixtures.encoded import tar

NAMES = ("b.jpg", "a/2.jpg", "a/1.jpg", "a-c/0.jpg", "a/deep/3.jpg", "a.tar")


@pytest.fixture
def work(tmp_path):
    with closing(IngestWork(tmp_path / "rows.sqlite")) as made:
        made.list_files(StoredFile(name, len(name), f"v-{name}") for name in NAMES)
        yield made


def photograph(image, sample_id=None, depth=None, extra=()):
    return SampleFiles(
        sample_id=sample_id or image, scene="s", image=image, depth=depth, extra=extra
    )


def measured_row(content_hash="c", reason=None):
    return dict.fromkeys(MEASURED_COLUMNS) | {"content_hash": content_hash, "reason": reason}


def take(work, samples, split="all"):
    work.add_samples("src", split, samples)
    return work.name_samples()


def names_of(work):
    return {job.files.sample_id: job.sample_id for job in work.missing()}


def test_the_listing_is_sorted_by_path_below_any_folder(work):
    assert [file.path for file in work.listed("")] == sorted(NAMES)
    assert next(work.listed("")) == StoredFile("a-c/0.jpg", 9, "v-a-c/0.jpg")
    for folder in ("a", "a/", "/a/"):
        below = [file.path for file in work.listed(folder)]
        assert below == ["a/1.jpg", "a/2.jpg", "a/deep/3.jpg"]
    assert list(work.listed("none")) == []


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_parts_of_any_size_give_the_same(count, work, monkeypatch):
    whole = list(work.listed("")), list(work.listed("a"))
    monkeypatch.setattr(ingest_work, "_ROWS_AT_ONCE", count)
    assert (list(work.listed("")), list(work.listed("a"))) == whole

    take(work, [photograph(name) for name in NAMES])
    jobs = list(work.missing())
    assert [job.files.image for job in jobs] == sorted(
        NAMES, key=lambda path: sample_name("s", path)
    )
    for job in jobs:
        work.keep(job, measured_row(content_hash=job.files.image))
    chunks = list(work.measured())
    assert max(map(len, chunks)) == count
    rows = [entry for chunk in chunks for entry in chunk]
    assert [job for job, _ in rows] == jobs
    assert [row["content_hash"] for _, row in rows] == [job.files.image for job in jobs]


def test_jobs_may_be_added_while_the_listing_is_read(work, monkeypatch):
    monkeypatch.setattr(ingest_work, "_ROWS_AT_ONCE", 2)

    assert take(work, (photograph(file.path) for file in work.listed(""))) == len(NAMES)


def test_a_file_is_looked_up_by_itself_and_by_its_parts(work):
    assert work.file("b.jpg") == StoredFile("b.jpg", 5, "v-b.jpg")
    assert work.file("a.tar#0+3#x.jpg") == work.file("a.tar")
    assert work.file("none.jpg") is None
    assert work.file("a") is None


def test_samples_whose_names_meet_are_all_marked_and_others_are_not(work):
    take(work, [photograph("b.jpg", name) for name in ("a.b", "a_b", "a b", "c", "a-b")])

    assert names_of(work) == {
        "a.b": marked_name("src-a_b", "a.b"),
        "a_b": marked_name("src-a_b", "a_b"),
        "a b": marked_name("src-a_b", "a b"),
        "c": "src-c",
        "a-b": "src-a-b",
    }
    assert len(set(names_of(work).values())) == 5


def test_names_do_not_depend_on_the_order_or_the_split(tmp_path, work):
    samples = [photograph("b.jpg", name) for name in ("a.b", "c", "a_b")]
    take(work, samples)

    with closing(IngestWork(tmp_path / "other.sqlite")) as other:
        other.list_files([work.file("b.jpg")])
        other.add_samples("src", "one", samples[2:])
        other.add_samples("src", "two", samples[1::-1])
        other.name_samples()
        assert names_of(other) == names_of(work)
        assert [job.split for job in other.missing()] == ["two", "one", "two"]


def test_a_sample_that_comes_twice_is_named(work):
    work.add_samples("src", "train", [photograph("b.jpg", "x/1"), photograph("b.jpg", "x/2")])

    with pytest.raises(
        ValueError, match=r"^source src: expected each sample once, got 'x/2' twice$"
    ):
        work.add_samples("src", "val", [photograph("a/1.jpg", "x/2")])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (StoredFile("d.png", 1, "1"), StoredFile("d.png", 2, "1")),
        (StoredFile("d.png", 1, "1"), StoredFile("d.png", 1, "2")),
        (StoredFile("t.csv", 1, "1"), StoredFile("t.csv", 1, "2")),
        (StoredFile("i.jpg", 1, "1"), StoredFile("i.jpg", 1, "2")),
        (StoredFile("e.tar", 1, "1"), StoredFile("e.tar", 1, "2")),
    ],
)
def test_a_sample_is_missing_again_if_any_of_its_files_changes(before, after, tmp_path):
    files = {name: StoredFile(name, 1, "1") for name in ("i.jpg", "d.png", "t.csv", "e.tar")}
    sample = photograph("i.jpg", "x", depth="d.png", extra=("t.csv", "e.tar#0+1#m.csv"))

    def missing_with(changed):
        with closing(IngestWork(tmp_path / "rows.sqlite")) as work:
            work.list_files((files | {changed.path: changed}).values())
            take(work, [sample])
            count = work.count_missing()
            for job in work.missing():
                work.keep(job, measured_row())
            return count

    assert missing_with(before) == 1
    assert missing_with(before) == 0
    assert missing_with(after) == 1
    assert missing_with(before) == 0  # both are known by now


def test_another_place_of_a_sample_does_not_read_it_as_another(tmp_path):
    """A split or a name that the source gives is no part of what is read."""
    for source, split in (("one", "train"), ("two", "val")):
        with closing(IngestWork(tmp_path / "rows.sqlite")) as work:
            work.list_files([StoredFile("i.jpg", 1, "1")])
            work.add_samples(source, split, [photograph("i.jpg")])
            work.name_samples()
            for job in work.missing():
                work.keep(job, measured_row())
    with closing(sqlite3.connect(tmp_path / "rows.sqlite")) as database:
        assert database.execute("SELECT COUNT(*) FROM rows").fetchone() == (1,)


def test_two_samples_of_the_same_files_are_measured_both(work):
    take(work, [photograph("b.jpg", "x"), photograph("b.jpg", "y")])

    jobs = list(work.missing())
    assert [job.files.sample_id for job in jobs] == ["x", "y"]
    for number, job in enumerate(jobs):
        work.keep(job, measured_row(content_hash=str(number)))
    assert [row["content_hash"] for chunk in work.measured() for _, row in chunk] == ["0", "1"]


def test_what_could_not_be_read_is_told_by_this_run_and_forgotten_by_the_next(tmp_path):
    def run():
        with closing(IngestWork(tmp_path / "rows.sqlite")) as work:
            work.list_files([StoredFile("good.jpg", 1, "1"), StoredFile("bad.jpg", 1, "1")])
            take(work, [photograph("good.jpg"), photograph("bad.jpg")])
            asked = [job.files.image for job in work.missing()]
            for job in work.missing():
                bad = job.files.image == "bad.jpg"
                row = measured_row(*((None, "cut off") if bad else ("c", None)))
                work.keep(job, row)
            return asked, {
                job.files.image: row["reason"] for chunk in work.measured() for job, row in chunk
            }

    reasons = {"good.jpg": None, "bad.jpg": "cut off"}
    assert run() == (["bad.jpg", "good.jpg"], reasons)
    with closing(sqlite3.connect(tmp_path / "rows.sqlite")) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        rows = [json.loads(text) for (text,) in database.execute("SELECT row FROM rows")]
    assert tables & {"listing", "jobs", "unread", "missing"} == set()
    assert [row[MEASURED_COLUMNS.index("content_hash")] for row in rows] == ["c"]
    asked, _ = run()
    assert asked == ["bad.jpg"]


def test_a_file_that_is_not_listed_is_looked_for_again_by_its_absence(tmp_path):
    for listed, count in (((), 1), ((StoredFile("d.png", 1, "1"),), 1), ((), 0)):
        with closing(IngestWork(tmp_path / "rows.sqlite")) as work:
            work.list_files([StoredFile("i.jpg", 1, "1"), *listed])
            take(work, [photograph("i.jpg", depth="d.png")])
            assert work.count_missing() == count
            for job in work.missing():
                work.keep(job, measured_row())


def test_what_was_kept_is_on_the_disk_a_moment_later(tmp_path, work, monkeypatch):
    take(work, [photograph("b.jpg", f"{number:03d}") for number in range(10)])
    now_s = 100.0
    monkeypatch.setattr(ingest_work.time, "monotonic", lambda: now_s)

    on_disk = []
    for job in work.missing():
        now_s += 0.3
        work.keep(job, measured_row())
        with closing(sqlite3.connect(tmp_path / "rows.sqlite")) as another:
            on_disk.append(another.execute("SELECT COUNT(*) FROM rows").fetchone()[0])

    assert on_disk == [1, 1, 1, 1, 5, 5, 5, 5, 9, 9]


def test_texts_of_any_kind_come_back(work):
    odd = "a/\"é\u2028\U0001f600 '%s"
    work.list_files([StoredFile(odd, 1, "1")])
    take(work, [photograph(odd, extra=(odd,))])

    (job,) = work.missing()
    assert job.files == photograph(odd, extra=(odd,))
    work.keep(job, measured_row(reason=odd))
    ((_, row),) = next(work.measured())
    assert row["reason"] == odd


@pytest.fixture
def storage(tmp_path, work):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "b.jpg").write_bytes(b"bytes")
    return ListedStorage(LocalStorage(tmp_path / "root"), work)


def test_listed_storage_tells_what_the_listing_has_without_asking_the_store(storage, tmp_path):
    assert isinstance(storage, Storage)
    assert [file.path for file in storage.list_files()] == sorted(NAMES)
    assert [file.path for file in storage.list_files("a/deep")] == ["a/deep/3.jpg"]
    assert storage.status("a/1.jpg") == StoredFile("a/1.jpg", 7, "v-a/1.jpg")
    assert storage.status("a.tar#1+2#x") == StoredFile("a.tar", 5, "v-a.tar")
    (tmp_path / "root" / "late.jpg").touch()
    assert storage.status("late.jpg") is None
    where = tmp_path / "root" / "c"
    with pytest.raises(FileNotFoundError, match=f"^{where}: expected the folder of a dataset, got"):
        list(storage.list_files("c"))


def test_an_empty_listing_is_no_missing_folder(tmp_path):
    with closing(IngestWork(tmp_path / "empty.sqlite")) as work:
        assert list(ListedStorage(LocalStorage(tmp_path), work).list_files()) == []


def test_the_members_of_a_tar_are_read_once_for_all_runs(tmp_path):
    root = tmp_path / "root"
    root.mkdir()

    def listed():
        opened = []

        class Watched(LocalStorage):
            def open(self, path):
                opened.append(path)
                return super().open(path)

        watched = Watched(root)
        with closing(IngestWork(tmp_path / "rows.sqlite")) as work:
            work.list_files(watched.list_files())
            unread = work.unread_archives()
            found = list(list_members(ListedStorage(watched, work), "a.tar"))
            return unread, [(member.name, member.bytes) for member in found], opened

    (root / "a.tar").write_bytes(tar({"1.jpg": b"one", "é.jpg": b"four"}))
    expected = [("1.jpg", 3), ("é.jpg", 4)]
    assert listed() == (["a.tar"], expected, ["a.tar"])
    assert listed() == ([], expected, [])
    (root / "a.tar").write_bytes(tar({"1.jpg": b"one", "2.jpg": b"two" * 500}))
    assert listed() == (["a.tar"], [("1.jpg", 3), ("2.jpg", 1500)], ["a.tar"])


def nearest_bits_of(work, samples):
    """Returns the `nearest_bits` of samples given as (name, hash, scene if it has depth)."""
    take(
        work,
        [
            SampleFiles(name, scene or "s", name, f"{name}.png" if scene else None)
            for name, _, scene in samples
        ],
    )
    hashes = {name: text for name, text, _ in samples}
    for job in work.missing():
        name = job.files.sample_id
        reason = "cut off" if name == "bad" else None
        work.keep(job, measured_row(reason=reason) | {"perceptual_hash": hashes[name]})
    work.compare_samples()
    (chunk,) = work.measured()
    return {job.files.sample_id: row["nearest_bits"] for job, row in chunk}


def test_each_sample_tells_how_near_another_is(work):
    found = nearest_bits_of(
        work,
        [
            ("a", "0000000000000000", None),
            ("b", "0000000000000003", None),  # two bits from a, one from c
            ("c", "0000000000000001", None),
            ("d", "ffffffffffffffff", None),
            ("e", "fffffffffffffff0", None),  # four bits from d
            ("f", None, None),
            ("bad", "ffffffffffffffff", None),
        ],
    )

    assert found == {"a": 1, "b": 1, "c": 1, "d": None, "e": None, "f": None, "bad": None}


def test_frames_of_one_scene_are_not_compared(work):
    one, other = "00ff00ff00ff00ff", "0f0f0f0f0f0f0f0f"
    samples = [("a", one, "1"), ("b", one, "1"), ("c", other, "1"), ("d", other, "2")]
    found = nearest_bits_of(work, [*samples, ("e", other, None)])
    assert found == {"a": None, "b": None, "c": 0, "d": 0, "e": 0}


def test_listed_storage_reads_from_the_store(storage, tmp_path):
    assert storage.read("b.jpg") == b"bytes"
    assert storage.where("b.jpg") == str(tmp_path / "root" / "b.jpg")
    with storage.open("b.jpg") as stream:
        assert stream.read() == b"bytes"
    with pytest.raises(ValueError, match="at most 4 bytes, got 5"):
        storage.read("b.jpg", max_bytes=4)
    with pytest.raises(FileNotFoundError, match=r"a/1\.jpg: expected a file"):
        storage.read("a/1.jpg")  # listed, and gone since
