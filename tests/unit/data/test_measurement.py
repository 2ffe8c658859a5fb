"""What a manifest says of a sample, good or bad."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from dav2.data import measurement
from dav2.data.folder import ImageFolder
from dav2.data.images import MAX_PIXELS, EncodedImage
from dav2.data.measurement import MEASURED_COLUMNS, measure_sample
from dav2.data.png16 import encode_png16
from dav2.data.sample import SampleFiles
from dav2.data.storage import LocalStorage, RememberingStorage
from dav2.data.vkitti2 import VirtualKitti2

RGB, DEPTH = "rgb_00001.jpg", "depth_00001.png"
FILES = SampleFiles("a", "Scene01", RGB, DEPTH)


@pytest.fixture
def root(tmp_path):
    Image.fromarray(np.full((2, 3, 3), 51, np.uint8)).save(tmp_path / RGB, quality=95)
    (tmp_path / DEPTH).write_bytes(encode_png16(np.full((2, 3), 200, np.uint16)))
    return tmp_path


def measure(root, files=FILES):
    return measure_sample(VirtualKitti2(root), files, where=str(root), max_pixels=MAX_PIXELS)


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

    row = measure_sample(Failing(root), FILES, where=str(root), max_pixels=MAX_PIXELS)

    assert row["reason"] == f"{RGB}: expected a readable file, got Input/output error"


def test_what_the_file_says_of_itself_is_kept(root):
    row = measure(root)

    assert (row["image_format"], row["image_mode"]) == ("JPEG", "RGB")
    assert (row["exif_orientation"], row["exif_focal_35mm"]) == (1, None)


def test_a_large_photograph_alone_is_looked_at_smaller_and_keeps_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(measurement, "_STATISTICS_SIDE_PX", 20)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95)
    asked = []
    decode = EncodedImage.decode

    def watched(encoded, *, at_least_px=None):
        image = decode(encoded, at_least_px=at_least_px)
        asked.append(image.shape[:2])
        return image

    monkeypatch.setattr(EncodedImage, "decode", watched)

    def look():
        files = SampleFiles("a", "", "a.jpg")
        reader = ImageFolder(tmp_path)
        return measure_sample(reader, files, where=str(tmp_path), max_pixels=2400)

    row = look()

    assert asked == [(20, 30)]
    assert (row["height"], row["width"]) == (40, 60)
    assert row["brightness"] == pytest.approx(0.5, abs=0.05)
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[:-30])
    row = look()
    assert "truncated or damaged" in row["reason"]
    assert row["height"] == 40  # by the header, which is whole
    row = measure_sample(
        ImageFolder(tmp_path, max_pixels=2399),
        SampleFiles("a", "", "a.jpg"),
        where=str(tmp_path),
        max_pixels=2399,
    )
    assert row["reason"] == "a.jpg: expected an image of 1 to 2399 pixels, got 60 x 40"


def test_a_file_is_read_once(root):
    reads = []

    class Counting(LocalStorage):
        def read(self, path, **options):
            reads.append(path)
            return super().read(path, **options)

    storage = RememberingStorage(Counting(root))
    with storage.remembering():
        row = measure_sample(VirtualKitti2(storage), FILES, where=str(root), max_pixels=MAX_PIXELS)

    assert row["reason"] is None
    assert sorted(reads) == sorted([RGB, DEPTH])
