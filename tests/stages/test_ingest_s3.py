"""Ingest from a bucket: the same bytes as from a folder, and nothing published of what fails."""

import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dav2.data import s3
from dav2.data.manifest import read_manifest
from stages import ingest, snapshot
from stages.ingest import main
from tests.fixtures.encoded import tar
from tests.fixtures.s3_server import (
    environment,
    half_a_body,
    internal_error,
    s3_client,
    s3_server,
    silence,
)

OUT = Path("out")
LOCAL = "photos"
BUCKET = "s3://bucket/some/prefix"
NUM_ATTEMPTS = 3
PARAMS = """
sources:
  photos:
    reader: {reader}
    root: {root}
    watch: {watch}
    domain: mixed
    roles:
      unlabelled: [all]
ingest:
  num_workers: 2
  max_image_pixels: 1000
  max_quarantined_fraction: 0.5
"""


def configure(root=BUCKET, watch=None, reader="folder"):
    Path("params.yaml").write_text(PARAMS.format(root=root, watch=watch or root, reader=reader))


def photograph(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=95)
    return stream.getvalue()


FILES = {f"a/{number} é.jpg": photograph(number) for number in range(5)}
FILES |= {"b/5.jpg": photograph(5), "b/text.png": b"not a picture", "list.csv": b"1,2"}
FILES["c/t.tar"] = tar({f"{number}.jpg": photograph(10 + number) for number in range(3)})


@pytest.fixture(scope="module")
def server():
    with s3_server() as (gate, endpoint):
        s3_client(endpoint).create_bucket(Bucket="bucket")
        yield gate, endpoint


@pytest.fixture
def gate(server, monkeypatch):
    found, endpoint = server
    for name, value in environment(endpoint).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setattr(s3, "_WAITS_S", (0.0,) * (NUM_ATTEMPTS - 1))
    found.reset()
    for name, content in FILES.items():
        put(endpoint, name, content)
    found.asked.clear()
    yield found
    found.silent_until.set()


def put(endpoint, name, content):
    s3_client(endpoint).put_object(Bucket="bucket", Key=f"some/prefix/{name}", Body=content)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The files of the bucket in a folder too; the project's code is where it belongs."""
    (tmp_path / "dav2").symlink_to(Path.cwd() / "dav2")
    monkeypatch.chdir(tmp_path)
    for name, content in FILES.items():
        path = Path(LOCAL) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    configure()


def map_here(function, jobs, *, prepare, prepare_with, **_):
    prepare(*prepare_with)
    return map(function, jobs)


@pytest.fixture
def in_process(monkeypatch):
    """Reads in this process, so that tests are quick."""
    monkeypatch.setattr(ingest, "map_surviving", map_here)


def from_folder(reader="folder"):
    """Returns what the folder gives, and forgets that it was read."""
    configure(LOCAL, reader=reader)
    main("photos", OUT)
    files = published()
    shutil.rmtree(".work")
    shutil.rmtree(OUT)
    configure(reader=reader)
    return files


def published():
    return {path.name: path.read_bytes() for path in sorted(OUT.iterdir())}


def taken(gate):
    """Returns the paths of the files that were read, and forgets them."""
    paths = [
        path.removeprefix("/bucket/some/prefix/") for kind, path in gate.asked if kind == "GET"
    ]
    gate.asked.clear()
    return sorted(paths)


def test_a_bucket_gives_the_bytes_of_a_folder_and_is_read_once(project, gate, monkeypatch):
    with monkeypatch.context() as here:
        here.setattr(ingest, "map_surviving", map_here)
        local = from_folder()

    main("photos", OUT)  # in processes of its own

    assert published() == local
    assert len(read_manifest(OUT / "manifest.parquet")) == 6
    assert json.loads(local["summary.json"])["quarantined"] == 1
    images = sorted(name for name in FILES if name.endswith(("jpg", "png")))
    assert taken(gate) == images  # each by one request, and no other file

    main("photos", OUT)
    assert taken(gate) == []
    assert published() == local


def test_members_of_tars_are_read_in_place(project, gate, in_process):
    local = from_folder("webdataset")

    main("photos", OUT)

    assert published() == local
    manifest = read_manifest(OUT / "manifest.parquet")
    assert len(manifest) == 3
    spans = [re.search(r"#(\d+)\+(\d+)#", path) for path in manifest["image"]]
    ranges = [f"c/t.tar#{span[1]}-{int(span[1]) + int(span[2]) - 1}" for span in spans]
    assert set(ranges) <= set(taken(gate))
    main("photos", OUT)
    assert published() == local
    assert taken(gate) == []  # neither its members nor its headers again


def test_a_listing_takes_the_place_of_the_bucket_and_shows_what_changed(
    project, gate, server, in_process
):
    whole = from_folder()
    configure(watch="listing.parquet")
    snapshot.main("photos")
    first = Path("listing.parquet").read_bytes()
    gate.asked.clear()

    main("photos", OUT)

    assert published() == whole
    assert not [path for kind, path in gate.asked if kind != "GET"]
    snapshot.main("photos")
    assert Path("listing.parquet").read_bytes() == first

    put(server[1], "b/5.jpg", photograph(99))
    gate.asked.clear()
    main("photos", OUT)
    assert taken(gate) == []  # the listing is still the old one
    snapshot.main("photos")
    assert Path("listing.parquet").read_bytes() != first
    main("photos", OUT)
    assert taken(gate) == ["b/5.jpg"]
    assert published()["manifest.parquet"] != whole["manifest.parquet"]


def test_faults_that_pass_leave_no_trace(project, gate, in_process, monkeypatch):
    whole = from_folder()
    monkeypatch.setitem(s3._TIMEOUTS_S, "read_timeout", 0.1)
    gate.faults |= {
        "/bucket": [internal_error, half_a_body],
        "a/0 é.jpg": [half_a_body, internal_error],
        "a/1 é.jpg": [silence],
        "text.png": [half_a_body],
    }

    main("photos", OUT)

    assert not any(gate.faults.values())
    assert published() == whole


def test_what_stays_broken_is_quarantined_and_tried_again_by_the_next_run(
    project, gate, in_process
):
    whole = from_folder()
    gate.lasting |= {"a/0 é.jpg": internal_error, "a/3 é.jpg": half_a_body}

    main("photos", OUT)

    quarantine = read_manifest(OUT / "quarantine.parquet").set_index("image")["reason"]
    assert quarantine["a/0 é.jpg"] == (
        "a/0 é.jpg: expected a file that can be read, "
        "got InternalError: We encountered an error. Please try again."
    )
    assert quarantine["a/3 é.jpg"].startswith("a/3 é.jpg: expected a file that can be read, got ")
    assert "\n" not in quarantine["a/3 é.jpg"]
    assert taken(gate).count("a/0 é.jpg") in (NUM_ATTEMPTS, 2 * NUM_ATTEMPTS)

    gate.lasting.clear()
    main("photos", OUT)
    assert taken(gate) == ["a/0 é.jpg", "a/3 é.jpg"]
    assert published() == whole


@pytest.mark.parametrize(
    ("changed", "root", "got"),
    [
        (
            {},
            "s3://other/x",
            "s3://other/x: expected a bucket that can be listed, got NoSuchBucket",
        ),
        ({}, "s3://bucket/x", "s3://bucket/x: expected the folder of a dataset, got nothing there"),
        ({"AWS_ACCESS_KEY_ID": "wrong"}, BUCKET, "a bucket that can be listed, got InvalidAccessK"),
        (
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
            BUCKET,
            "can be listed, got Could not connect",
        ),
    ],
)
def test_a_bucket_that_cannot_be_listed_ends_in_one_line_and_writes_nothing(
    changed, root, got, project, gate, monkeypatch
):
    for name, value in changed.items():
        monkeypatch.setenv(name, value)
    configure(root)

    with pytest.raises(SystemExit, match=f"^ingest photos: .*{got}") as caught:
        main("photos", OUT)

    assert "\n" not in str(caught.value)
    assert not OUT.exists()
    assert not list(Path().glob(".out*"))
    configure(root, watch="listing.parquet")
    with pytest.raises(SystemExit, match=f"^snapshot photos: .*{got}"):
        snapshot.main("photos")
    assert not list(Path().glob("*listing*"))
