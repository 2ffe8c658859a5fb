"""What becomes of a photograph before the teacher sees it, and what is kept of it."""

import numpy as np
import pytest
from PIL import Image

from dav2.data.images import EncodedImage, decode_image
from dav2.data.open import ChangedFileError
from dav2.labeling.prepare import Preparer


def prepared(photographs, tmp_path, save, *, height=20, width=30, **options):
    """Returns the first photograph, written by `save`, prepared."""
    photographs.add("wild", 1)
    path = tmp_path / "wild" / "000.jpg"
    path.unlink()
    save(path)
    manifest = photographs.manifest()
    manifest[["height", "width"]] = height, width
    job = photographs.job(manifest, **options)
    return path.read_bytes(), Preparer(job.manifest, job.sources, job.options).prepare(0)


def picture(height=20, width=30):
    return Image.fromarray(
        np.arange(height * width * 3, dtype=np.uint32).reshape(height, width, 3).astype(np.uint8)
    )


def test_a_small_jpeg_goes_into_the_shard_byte_for_byte(photographs, tmp_path):
    source, image = prepared(photographs, tmp_path, lambda path: picture().save(path))
    assert image.jpeg == source
    assert image.jpeg_size == (20, 30)
    assert image.label_size == (14, 28)
    assert image.teacher_input.shape == (28, 42, 3)


@pytest.mark.parametrize(
    "save",
    [
        lambda path: picture().save(path, "PNG"),
        lambda path: picture().save(path, "WEBP"),
        lambda path: picture().convert("L").save(path),
        lambda path: picture().convert("CMYK").save(path),
        lambda path: path.write_bytes(b"".join([jpeg_bytes(path), bytes(5000)])),
    ],
    ids=["png", "webp", "grey", "cmyk", "longer than its pixels"],
)
def test_anything_but_a_plain_jpeg_is_encoded_anew(photographs, tmp_path, save):
    source, image = prepared(photographs, tmp_path, save)
    assert image.jpeg != source
    assert image.jpeg[:3] == b"\xff\xd8\xff"
    assert decode_image(image.jpeg).shape == (20, 30, 3)


def test_a_large_jpeg_is_decoded_smaller_where_that_is_enough(photographs, tmp_path, monkeypatch):
    decoded = []
    whole = EncodedImage.decode

    def decode(self, *, at_least_px=None):
        image = whole(self, at_least_px=at_least_px)
        decoded.append(image.shape[:2])
        return image

    monkeypatch.setattr(EncodedImage, "decode", decode)
    large = Image.fromarray((np.add.outer(np.arange(361), np.arange(602)) // 4).astype(np.uint8))
    options = {
        "height": 361,
        "width": 602,
        "short_side_px": 28,
        "image_short_side_px": 60,
        "check_fraction": 1.0,
        "check_scale": 3.0,
    }
    _, exact = prepared(photographs, tmp_path, large.save, **options)
    _, scaled = prepared(photographs, tmp_path, large.save, jpeg_scaling=True, **options)
    assert decoded == [(361, 602), (91, 151)]  # the other resolution needs 84
    assert scaled.jpeg_size == exact.jpeg_size == (60, 100)
    assert decode_image(scaled.jpeg).shape == (60, 100, 3)
    assert scaled.label_size == exact.label_size
    assert scaled.teacher_input.shape == exact.teacher_input.shape == (28, 42, 3)
    assert scaled.rescaled_input.shape == (84, 140, 3)
    difference = np.abs(scaled.teacher_input.astype(int) - exact.teacher_input.astype(int))
    assert 0 < difference.max() <= 40


@pytest.mark.parametrize("scaling", [False, True])
def test_a_photograph_of_another_size_than_its_row_is_refused(photographs, tmp_path, scaling):
    with pytest.raises(
        ValueError, match=r"000\.jpg: expected 50 x 60 px as in the manifest, got 20"
    ):
        prepared(photographs, tmp_path, picture().save, height=50, width=60, jpeg_scaling=scaling)


def jpeg_bytes(path):
    picture().save(path)
    return path.read_bytes()


def test_a_rotated_photograph_is_stored_upright_and_without_exif(photographs, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6

    def save(path):
        picture(30, 20).save(path, exif=exif)

    _, image = prepared(photographs, tmp_path, save, height=20, width=30)
    assert b"Exif" not in image.jpeg
    assert image.jpeg_size == decode_image(image.jpeg).shape[:2] == (20, 30)
    assert image.teacher_input.shape == (28, 42, 3)


def test_a_large_photograph_is_reduced_and_its_label_follows_the_teachers_grid(
    photographs, tmp_path
):
    save = lambda path: picture(61, 90).save(path)  # noqa: E731
    _, image = prepared(photographs, tmp_path, save, height=61, width=90)
    assert image.jpeg_size == (28, 41)
    assert image.label_size == image.teacher_input.shape[:2] == (28, 42)


def test_a_file_changed_since_ingest_is_refused_before_it_is_decoded(photographs, tmp_path):
    photographs.add("wild", 1)
    job = photographs.job()
    preparer = Preparer(job.manifest, job.sources, job.options)
    (tmp_path / "wild" / "000.jpg").write_bytes(b"text")
    with pytest.raises(ChangedFileError, match=r"000\.jpg: expected the file that was ingested"):
        preparer.prepare(0)


def test_an_image_is_compared_by_its_own_hash_whatever_else_a_sample_has(photographs, tmp_path):
    photographs.add("wild", 1)
    manifest = photographs.manifest()
    manifest[["depth", "content_hash"]] = "depth.png", "0" * 64
    job = photographs.job(manifest)
    image = Preparer(job.manifest, job.sources, job.options).prepare(0)
    assert image.sample_id == "wild-000"
