"""Files of a bucket whose server breaks its answers: asked for again, or one line."""

import hashlib
import io
import multiprocessing
import socket

import pytest

from dav2.data import s3
from dav2.data.storage import S3Storage, StoredFile
from tests.fixtures.s3_server import (
    answer_of,
    environment,
    half_a_body,
    internal_error,
    no_xml,
    s3_client,
    s3_server,
    silence,
    slow_down,
)

FILES = {"a/1.txt": b"one", "a/2 #?&+é.txt": b"two", "b.txt": b"bee", "t.tar": b"0123456789"}
MD5_OF_BEE = hashlib.md5(b"bee").hexdigest()
NUM_ATTEMPTS = 6


@pytest.fixture(scope="module")
def server():
    with s3_server() as (gate, endpoint):
        client = s3_client(endpoint)
        client.create_bucket(Bucket="bucket")
        for name, content in FILES.items():
            client.put_object(Bucket="bucket", Key=f"some/prefix/{name}", Body=content)
        client.put_object(Bucket="bucket", Key="some/prefix/a/", Body=b"")  # as consoles do
        client.put_object(Bucket="bucket", Key="some/other.txt", Body=b"outside")
        yield gate, endpoint


@pytest.fixture
def gate(server, monkeypatch):
    found, endpoint = server
    for name, value in environment(endpoint).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setattr(s3, "_WAITS_S", (0.0,) * (NUM_ATTEMPTS - 1))
    found.reset()
    yield found
    found.silent_until.set()


@pytest.fixture(scope="module")
def opened(server):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(server[1]).items():
            patch.setenv(name, value)
        client = s3.S3Client("bucket")
        client.head("some/prefix/b.txt", where="")
    return client


@pytest.fixture
def storage(gate, opened):
    """One connection for most tests, as it takes half a second to open."""
    made = S3Storage("s3://bucket/some/prefix")
    made._client = opened
    return made


def one_line(caught):
    text = str(caught.value)
    assert "\n" not in text
    assert type(caught.value) in (OSError, FileNotFoundError)
    return text


def test_files_are_listed_with_size_and_etag_and_folders_are_not(storage):
    found = {file.path: file for file in storage.list_files()}

    assert {name: file.bytes for name, file in found.items()} == {
        name: len(content) for name, content in FILES.items()
    }
    assert found["b.txt"].version == MD5_OF_BEE
    for folder in ("a", "a/"):
        assert [file.path for file in storage.list_files(folder)] == ["a/1.txt", "a/2 #?&+é.txt"]


def test_a_listing_in_pages_is_the_same(storage, gate):
    whole = sorted(storage.list_files(), key=lambda file: file.path)
    gate.asked.clear()
    gate.page_size = 2
    gate.faults["bucket"] = [internal_error, half_a_body]

    found = list(storage.list_files())
    assert sorted(found, key=lambda file: file.path) == whole
    assert len(found) == len(whole)
    # The top, which does not end with its first page; all in order; and what failed again.
    assert gate.num_asked()["LIST", "/bucket"] == 1 + 3 + 2


def test_folders_are_listed_side_by_side(storage, gate, server):
    client = s3_client(server[1])
    names = [f"deep/er/{folder}/{number}" for folder in "abcdefghijk" for number in range(3)]
    for name in names:
        client.put_object(Bucket="bucket", Key=f"some/prefix/{name}", Body=b"x")
    try:
        gate.asked.clear()
        gate.page_size = 12  # more than the folders, so that each of them is asked for

        assert sorted(file.path for file in storage.list_files("deep")) == sorted(names)
        assert gate.num_asked()["LIST", "/bucket"] == 2 + 11
        gate.page_size = 2
        assert sorted(file.path for file in storage.list_files("deep")) == sorted(names)
    finally:
        for name in names:
            client.delete_object(Bucket="bucket", Key=f"some/prefix/{name}")


def test_files_are_read_with_one_request_and_their_names_may_hold_anything(storage, gate):
    for name, content in FILES.items():
        assert storage.read(name) == content
    assert [kind for kind, _ in gate.asked] == ["GET"] * 4


def test_members_of_a_tar_are_read_by_ranges_of_one_version(storage, gate, server):
    assert storage.read("t.tar#2+3#x.jpg") == b"234"
    assert storage.read("t.tar#9+1#y.jpg") == b"9"
    assert storage.read("t.tar#10+0#y.jpg") == b""
    assert gate.asked == [
        ("HEAD", "/bucket/some/prefix/t.tar"),
        ("GET", "/bucket/some/prefix/t.tar#2-4"),
        ("GET", "/bucket/some/prefix/t.tar#9-9"),
    ]
    with pytest.raises(ValueError, match=r"ends within the archive of 10 bytes, got 11$"):
        storage.read("t.tar#9+2#x.jpg")
    client = s3_client(server[1])
    client.put_object(Bucket="bucket", Key="some/prefix/t.tar", Body=b"abcdefghijk")
    try:
        with pytest.raises(OSError, match=r"t\.tar: .* got PreconditionFailed") as caught:
            storage.read("t.tar#2+3#x.jpg")
        one_line(caught)
    finally:
        client.put_object(Bucket="bucket", Key="some/prefix/t.tar", Body=FILES["t.tar"])


def test_large_files_are_refused_without_their_bytes(storage, gate):
    assert storage.read("b.txt", max_bytes=3) == b"bee"
    with pytest.raises(ValueError, match=r"b\.txt: expected a file of at most 2 bytes, got 3$"):
        storage.read("b.txt", max_bytes=2)
    with pytest.raises(ValueError, match="at most 4 bytes, got 5"):
        storage.read("t.tar#0+5#x", max_bytes=4)
    gate.lasting["b.txt"] = half_a_body
    with pytest.raises(ValueError, match="at most 2 bytes, got 3"):
        storage.read("b.txt", max_bytes=2)


def test_status_is_that_of_the_file_and_none_without_one(storage):
    assert storage.status("b.txt") == StoredFile("b.txt", 3, MD5_OF_BEE)
    assert storage.status("t.tar#1+2#x") == storage.status("t.tar")
    for path in ("none", "a", "t2.tar#1+2#x", "../other.txt"):
        assert storage.status(path) is None


def test_what_is_missing_is_named(storage):
    where = "s3://bucket/some/prefix"
    for path in ("none.txt", "a", "none.tar#0+1#x"):
        for act in (storage.read, storage.open):
            with pytest.raises(FileNotFoundError, match=f"^{where}/.*: expected a file") as caught:
                act(path)
            one_line(caught)
    with pytest.raises(FileNotFoundError, match=f"^{where}/c: expected the folder of a dataset, "):
        list(storage.list_files("c"))


def test_no_path_leads_out_of_the_prefix(storage, gate):
    for act in (storage.read, storage.open, lambda path: next(storage.list_files(path))):
        for path in ("../other.txt", "a/../../other.txt", "a/./1.txt"):
            with pytest.raises(ValueError, match="prefix: expected paths below the root, got '"):
                act(path)
    assert not gate.asked


def test_files_open_at_any_position_with_few_requests(storage, gate, monkeypatch):
    monkeypatch.setattr("dav2.data.storage._S3_BLOCK_BYTES", 4)
    with storage.open("t.tar") as stream:
        assert stream.read(2) == b"01"
        assert stream.read(1) == b"2"
        assert stream.seek(-3, io.SEEK_END) == 7
        assert stream.read() == b"789"
        assert stream.read(1) == b""
        stream.seek(1)
        stream.seek(1, io.SEEK_CUR)
        assert stream.tell() == 2
        assert stream.read(7) == b"2345678"
        assert stream.seek(99) == 99
        assert stream.read(5) == b""
    ranges = [path.partition("#")[2] for _, path in gate.asked]
    assert ranges[:3] == ["", "0-3", "7-9"]
    assert len(ranges) <= 5


def test_all_of_an_opened_file_is_one_request(storage, gate, server):
    content = bytes(range(256)) * 400
    s3_client(server[1]).put_object(Bucket="bucket", Key="large/file.bin", Body=content)
    large = S3Storage("s3://bucket/large")
    large._client = storage._client
    gate.asked.clear()

    with large.open("file.bin") as stream:
        assert stream.read() == content

    assert [kind for kind, _ in gate.asked] == ["HEAD", "GET"]


@pytest.mark.parametrize("fault", [internal_error, slow_down, half_a_body, silence])
def test_what_fails_for_a_while_is_repeated(fault, gate, monkeypatch):
    storage = S3Storage("s3://bucket/some/prefix")
    monkeypatch.setitem(s3._TIMEOUTS_S, "read_timeout", 0.1)
    gate.faults["b.txt"] = [fault, fault]
    gate.faults["t.tar"] = [fault, fault]

    assert storage.read("b.txt") == b"bee"
    assert storage.read("t.tar#2+3#x.jpg") == b"234"
    assert not any(gate.faults.values())
    assert gate.num_asked()["GET", "/bucket/some/prefix/b.txt"] == 3


@pytest.mark.parametrize(
    ("fault", "got"),
    [
        (internal_error, "InternalError: We encountered an error. Please try again."),
        (slow_down, "SlowDown: Please reduce your request rate."),
        (half_a_body, "payload is not completed"),
        (silence, "Read timeout on endpoint URL"),
    ],
)
def test_what_stays_broken_ends_after_some_attempts_in_one_line(fault, got, gate, monkeypatch):
    storage = S3Storage("s3://bucket/some/prefix")
    monkeypatch.setitem(s3._TIMEOUTS_S, "read_timeout", 0.1)
    gate.lasting["b.txt"] = fault

    with pytest.raises(
        OSError, match=f"prefix/b.txt: expected a file that can be read, got .*{got}"
    ) as caught:
        storage.read("b.txt")

    one_line(caught)
    assert gate.num_asked()["GET", "/bucket/some/prefix/b.txt"] == NUM_ATTEMPTS
    assert storage.read("a/1.txt") == b"one"


def test_an_opened_file_fails_like_a_read_one(storage, gate):
    with storage.open("t.tar") as stream:
        gate.lasting["t.tar"] = half_a_body
        with pytest.raises(OSError, match=r"prefix/t\.tar: expected a file that can") as caught:
            stream.read()
    one_line(caught)


def test_refusals_are_not_repeated(storage, gate):
    denied = answer_of("403 Forbidden", "AccessDenied", "Access Denied")
    gate.lasting |= {"b.txt": denied, "bucket": denied}

    for act in (storage.read, storage.status, storage.open):
        with pytest.raises(OSError, match=r"b\.txt: expected .*, got (AccessDenied|403)") as caught:
            act("b.txt")
        one_line(caught)
    assert len(gate.asked) == 3
    with pytest.raises(OSError, match="prefix: expected a bucket that can be listed, got Access"):
        list(storage.list_files())


def test_an_answer_that_is_not_s3s_is_one_line(storage, gate):
    gate.lasting["bucket"] = no_xml

    with pytest.raises(OSError, match="expected a bucket that can be listed, got ") as caught:
        list(storage.list_files())
    one_line(caught)


def test_a_range_that_the_store_ignores_is_refused(storage, gate):
    def ignoring(gate, environ, start_response):
        return gate.app({**environ, "HTTP_RANGE": ""}, start_response)

    gate.lasting["t.tar"] = ignoring

    with pytest.raises(OSError, match=r"t\.tar: expected 3 bytes from byte 2 on, got 10"):
        storage.read("t.tar#2+3#x.jpg")


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize(
    ("changed", "kind", "got"),
    [
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:{port}"}, OSError, "Could not connect to the end"),
        ({"AWS_ENDPOINT_URL": "nonsense"}, OSError, "Invalid endpoint: nonsense"),
        ({"AWS_ACCESS_KEY_ID": "wrong"}, OSError, "InvalidAccessKeyId: The AWS Access Key Id you"),
        ({"AWS_ACCESS_KEY_ID": None}, OSError, "(Unable to locate|Partial) credentials"),
        ({"AWS_PROFILE": "nobody"}, OSError, r"The config profile \(nobody\) could not be found"),
    ],
)
def test_a_store_that_lets_nobody_in_is_one_line(changed, kind, got, gate, monkeypatch):
    for name, value in changed.items():
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value.format(port=closed_port()))
    storage = S3Storage("s3://bucket/some/prefix")

    with pytest.raises(
        kind, match=rf"^s3://bucket/some/prefix: expected a bucket.*{got}"
    ) as caught:
        list(storage.list_files())

    one_line(caught)


@pytest.mark.parametrize(
    ("bucket", "kind"), [("other", FileNotFoundError), ("No such name!", OSError)]
)
def test_a_bucket_that_is_not_there_is_one_line(bucket, kind, gate):
    with pytest.raises(kind, match=f"^s3://{bucket}/x: expected a bucket that can be") as caught:
        list(S3Storage(f"s3://{bucket}/x").list_files())
    one_line(caught)


def test_a_forked_process_asks_by_itself(storage):
    assert storage.read("b.txt") == b"bee"
    fork = multiprocessing.get_context("fork")
    answers = fork.Queue()

    process = fork.Process(target=lambda: answers.put(storage.read("b.txt")))
    process.start()

    assert answers.get(timeout=20) == b"bee"
    process.join(timeout=20)
