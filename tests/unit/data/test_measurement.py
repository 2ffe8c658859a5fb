"""What a manifest says of a sample, good or bad."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from dav2.data.measurement import MEASURED_COLUMNS, measure_sample
from dav2.data.png16 import encode_png16
from dav2.data.sample import SampleFiles
from dav2.data.vkitti2 import VirtualKitti2

RGB, DEPTH = "rgb_00001.jpg", "depth_00001.png"
FILES = SampleFiles("a", "Scene01", RGB, DEPTH)


@pytest.fixture
def root(tmp_path):
    Image.fromarray(np.full((2, 3, 3), 51, np.uint8)).save(tmp_path / RGB, quality=95)
    (tmp_path / DEPTH).write_bytes(encode_png16(np.full((2, 3), 200, np.uint16)))
    return tmp_path


def measure(root, files=FILES):
    return measure_sample(VirtualKitti2(root), files, where=str(root))


def test_a_good_sample_is_measured_whole(root):
    row = measure(root)

    digests = [hashlib.sha256((root / name).read_bytes()).hexdigest() for name in (RGB, DEPTH)]
    assert set(row) == set(MEASURED_COLUMNS)
    assert (row["width"], row["height"]) == (3, 2)
    assert row["bytes"] == (root / RGB).stat().st_size + (root / DEPTH).stat().st_size
    assert row["content_hash"] == hashlib.sha256("".join(digests).encode()).hexdigest()
    assert row["image_hash"] == digests[0]
    assert row["brightness"] == pytest.approx(0.2, abs=0.01)
    assert row["depth_p50_m"] == 2
    assert row["depth_constant"]
    assert row["reason"] is None


def test_the_content_hash_tells_every_file(root):
    (root / "extra.csv").write_text("a")
    files = SampleFiles("a", "Scene01", RGB, DEPTH, extra=("extra.csv",))
    first = measure(root, files)["content_hash"]
    (root / "extra.csv").write_text("bb")

    assert measure(root, files)["content_hash"] != first


def test_a_bad_depth_map_keeps_what_the_image_tells(root):
    (root / DEPTH).write_bytes(encode_png16(np.zeros((2, 3), np.uint16)))

    row = measure(root)

    assert row["reason"] == (
        f"{DEPTH}: expected depth with at least one measured pixel, got zeros alone"
    )
    assert (row["width"], row["height"]) == (3, 2)
    assert row["brightness"] == pytest.approx(0.2, abs=0.01)
    assert row["depth_p50_m"] is None
    assert row["content_hash"] is not None


def test_a_bad_image_leaves_its_hash(root):
    (root / RGB).write_text("text")

    row = measure(root)

    assert row["reason"].startswith(f"{RGB}: expected a JPEG, PNG or WebP image, got 4 bytes")
    assert row["width"] is None
    assert row["content_hash"] is not None
    assert row["image_hash"] == hashlib.sha256(b"text").hexdigest()


def test_a_missing_file_leaves_no_hash(root):
    (root / DEPTH).unlink()

    row = measure(root)

    assert row["reason"] == f"{DEPTH}: expected a file, got nothing there"
    assert row["content_hash"] is None
    assert row["width"] == 3


def test_a_disk_that_fails_is_named_with_the_file(root):
    class Failing(VirtualKitti2):
        def read(self, files):
            raise OSError(5, "Input/output error", str(root / RGB))

    row = measure_sample(Failing(root), FILES, where=str(root))

    assert row["reason"] == f"{RGB}: expected a readable file, got Input/output error"
